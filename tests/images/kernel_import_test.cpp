#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/images/kernel.hpp"
#include "core/images/kernel_tree.hpp"
#include "core/images/module_index.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/ext4_reader.hpp"
#include "tests/images/kernel_builder.hpp"

namespace banger::images {
namespace {

using testing::HasSubstr;

const std::string version = "6.1.0-9-test";

// ---- module_index ----

TEST(ModuleInfo, ReadsTheFieldsAndRefusesWhatIsCutOff) {
    const std::string elf = module_of({"depends=a,b", "alias=x", "alias=y", "no equals"});
    const Result<ModuleInfo> info = read_module_info("kernel/m.ko", elf);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_THAT(info->fields,
                testing::ElementsAre(testing::Pair("depends", "a,b"), testing::Pair("alias", "x"),
                                     testing::Pair("alias", "y")));
    for (std::size_t size = 0; size < elf.size(); ++size)
        EXPECT_EQ(read_module_info("m.ko", elf.substr(0, size)).error().code, Errc::corrupt)
            << size;
}

TEST(ModuleIndex, NeedsWhatIsThereAndNoCircle) {
    const std::vector<ModuleInfo> missing{{"kernel/a.ko", {{"depends", "gone"}}}};
    EXPECT_EQ(make_module_indexes(missing, "").error().code, Errc::corrupt);
    const std::vector<ModuleInfo> circle{{"kernel/a.ko", {{"depends", "b"}}},
                                         {"kernel/b.ko", {{"depends", "a"}}}};
    EXPECT_EQ(make_module_indexes(circle, "").error().code, Errc::corrupt);
    EXPECT_TRUE(make_module_indexes({}, ""));
}

TEST(ModuleIndex, TextIsAsDepmodWritesIt) {
    const std::vector<ModuleInfo> modules{
        {"kernel/c.ko", {{"depends", ""}}},
        {"kernel/b-x.ko", {{"depends", "c"}, {"softdep", "pre: c"}}},
        {"kernel/a.ko", {{"depends", "b-x,c"}, {"alias", "pci:v0-d[a-z]*"}}}};
    const std::map<std::string, std::string> files = make_module_indexes(modules, "").value();
    EXPECT_EQ(files.at("modules.dep"),
              "kernel/c.ko:\nkernel/b-x.ko: kernel/c.ko\n"
              "kernel/a.ko: kernel/b-x.ko kernel/c.ko\n");
    EXPECT_EQ(files.at("modules.alias"), "alias pci:v0_d[a-z]* a\n");
    EXPECT_EQ(files.at("modules.softdep"), "softdep b_x pre: c\n");
}

// ---- versions ----

TEST(KernelVersion, OfAnElfAndOfNothing) {
    EXPECT_EQ(kernel_version(vmlinux_of(version)), version);
    EXPECT_EQ(kernel_version(vmlinux_of("../../etc")), std::nullopt);
    EXPECT_EQ(kernel_version("no kernel"), std::nullopt);
    EXPECT_EQ(kernel_version(""), std::nullopt);
}

// ---- import ----

class KernelImport : public testing::Test {
protected:
    KernelImport() {
        EXPECT_TRUE(ensure_folder(folder_ / "out", 0700));
        out_.reset(::open((folder_ / "out").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    void write_tree(const Files& files) {
        for (const auto& [name, content] : files) {
            ASSERT_TRUE(ensure_folder(parent_path(folder_ / ("tree/" + name)), 0755));
            ASSERT_TRUE(write_file_atomic(folder_ / ("tree/" + name), content, 0644));
        }
    }
    UniqueFd open_folder(const std::string& name) {
        return UniqueFd(::open((folder_ / name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    /// The modules file system as a folder tree, for modprobe to read.
    std::string unpack_modules() {
        const Ext4Reader image(folder_ / "out/modules.ext4");
        const std::string target = folder_ / "root/lib/modules";
        EXPECT_TRUE(ensure_folder(target, 0755));
        Command debugfs;
        debugfs.program = "/usr/sbin/debugfs";
        debugfs.arguments = {"-R", "rdump /" + version + " " + target,
                             folder_ / "out/modules.ext4"};
        EXPECT_TRUE(run_command(debugfs, std::chrono::seconds(60), ByteCount::mib(1), {}));
        return folder_ / "root";
    }
    std::string modprobe(const std::string& root, std::vector<std::string> arguments) {
        Command command;
        command.program = "/usr/sbin/modprobe";
        command.arguments = {"-C", "/dev/null", "-d", root, "-S", version};
        command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
        const Result<CommandOutput> done =
            run_command(command, std::chrono::seconds(60), ByteCount::mib(1), {});
        if (!done) return done.error().text();
        return done->standard_output + done->standard_error;
    }
    void expect_whole(const Result<KernelFiles>& files) {
        ASSERT_TRUE(files) << files.error().text();
        EXPECT_EQ(files->version, version);
        EXPECT_EQ(list_folder(folder_ / "out").value(),
                  (std::vector<std::string>{"initramfs.img", "modules.ext4", "vmlinux"}));
        const Ext4Reader image(folder_ / "out/modules.ext4");
        EXPECT_NE(image.find(version + "/kernel/net/virtio_net.ko"), 0u);
        EXPECT_NE(image.find(version + "/modules.dep.bin"), 0u);
        const std::string initramfs =
            read_file(folder_ / "out/initramfs.img", ByteCount::mib(64)).value();
        // Each after what it needs.
        EXPECT_THAT(initramfs, HasSubstr("pci virtio_pci.ko\n"));
        EXPECT_THAT(initramfs, HasSubstr("virtio:1 failover.ko\nvirtio:1 net_failover.ko\n"
                                         "virtio:1 virtio_net.ko\n"));
    }

    TempFolder folder_;
    UniqueFd out_;
};

TEST_F(KernelImport, ATreeThatDepmodNeverSaw) {
    expect_whole(import_kernel_tree(file_of(tar_of(kernel_files(version))), out_, {}));
}

TEST_F(KernelImport, APackage) {
    for (const auto& [name, filter] : {std::pair("data.tar.xz", ARCHIVE_FILTER_XZ),
                                       std::pair("data.tar.zst", ARCHIVE_FILTER_ZSTD),
                                       std::pair("data.tar", ARCHIVE_FILTER_NONE)}) {
        SCOPED_TRACE(name);
        for (const std::string& file : list_folder(folder_ / "out").value())
            ASSERT_TRUE(remove_file(folder_ / ("out/" + file)));
        expect_whole(import_kernel_package(
            file_of(package_of(name, tar_of(kernel_files(version), filter))), out_, {}));
    }
}

TEST_F(KernelImport, APackageThatIsNone) {
    const std::string whole =
        package_of("data.tar.xz", tar_of(kernel_files(version), ARCHIVE_FILTER_XZ));
    for (const std::string& bad :
         {std::string("!<arch>\n"), package_of("other.tar", "x"), package_of("data.tar.xz", "x"),
          whole.substr(0, whole.size() / 2), package_of("data.tar", tar_of({{"etc/x", "y"}}))}) {
        const Result<KernelFiles> files = import_kernel_package(file_of(bad), out_, {});
        ASSERT_FALSE(files);
        EXPECT_EQ(files.error().code, Errc::corrupt) << files.error().text();
    }
}

TEST_F(KernelImport, AFolder) {
    write_tree(kernel_files(version));
    // They lead to the sources, on the machine that built it.
    std::filesystem::create_symlink("/", folder_ / ("tree/lib/modules/" + version + "/build"));
    expect_whole(import_kernel_folder(open_folder("tree"), out_, {}));
}

TEST_F(KernelImport, AMergedTreeIsReadOnce) {
    Files files = kernel_files(version);
    for (auto& [name, content] : files)
        if (name.starts_with("lib/")) name = "usr/" + name;
    write_tree(files);
    std::filesystem::create_symlink("usr/lib", folder_ / "tree/lib");
    expect_whole(import_kernel_folder(open_folder("tree"), out_, {}));
}

TEST_F(KernelImport, SingleFiles) {
    Files files = kernel_files(version);
    write_tree(files);
    KernelParts parts;
    parts.kernel = file_of(vmlinux_of(version));
    parts.initrd = file_of("070701 not really");
    parts.modules = open_folder("tree/lib/modules/" + version);
    expect_whole(import_kernel_files(parts, out_, {}));
    const std::string initramfs =
        read_file(folder_ / "out/initramfs.img", ByteCount::mib(64)).value();
    EXPECT_TRUE(
        initramfs.starts_with(std::string("070701 not really\0\0\0"
                                          "070701",
                                          26)))
        << "the kernel wants each archive at a multiple of 4";
}

TEST_F(KernelImport, AKernelWithEverythingBuiltIn) {
    KernelParts parts;
    parts.kernel = file_of(vmlinux_of(version));
    const Result<KernelFiles> files = import_kernel_files(parts, out_, {});
    ASSERT_TRUE(files) << files.error().text();
    const Ext4Reader image(folder_ / "out/modules.ext4");
    EXPECT_NE(image.find(version + "/modules.dep.bin"), 0u);
}

TEST_F(KernelImport, NoKernelTwoKernelsNoModules) {
    const std::string kernel = vmlinux_of(version);
    for (const Files& bad : {Files{}, Files{{"boot/vmlinuz-1", kernel}, {"boot/vmlinuz-2", kernel}},
                             Files{{"boot/vmlinuz-" + version, kernel}}}) {
        const Result<KernelFiles> files = import_kernel_tree(file_of(tar_of(bad)), out_, {});
        ASSERT_FALSE(files);
        EXPECT_EQ(files.error().code, Errc::corrupt);
    }
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(import_kernel_tree(file_of(tar_of(kernel_files(version))), out_, stop.get_token())
                  .error()
                  .code,
              Errc::cancelled);
}

/// The reader that the guest uses, on what we wrote.
TEST_F(KernelImport, ModprobeReadsOurIndexes) {
    if (!path_exists("/usr/sbin/modprobe") || !path_exists("/usr/sbin/debugfs"))
        GTEST_SKIP() << "needs kmod and e2fsprogs";
    ASSERT_TRUE(import_kernel_tree(file_of(tar_of(kernel_files(version))), out_, {}));
    const std::string root = unpack_modules();
    const std::string modules = root + "/lib/modules/" + version + "/kernel/";
    const std::string net = "insmod " + modules + "net/failover.ko \ninsmod " + modules +
                            "net/net_failover.ko \ninsmod " + modules + "net/virtio_net.ko \n";
    EXPECT_EQ(modprobe(root, {"--show-depends", "virtio_net"}), net);
    EXPECT_EQ(modprobe(root, {"--show-depends", "virtio-net"}), net);
    EXPECT_EQ(modprobe(root, {"--show-depends", "virtio:d00000001v00001AF4"}), net) << "by alias";
    EXPECT_EQ(modprobe(root, {"-R", "pci:v00001AF4d00001000sv0sd0bc02sc00i00"}), "virtio_pci\n");
    EXPECT_EQ(modprobe(root, {"--show-depends", "ext4"}), "builtin ext4\n");
    EXPECT_EQ(
        read_file(root + "/lib/modules/" + version + "/modules.devname", ByteCount::kib(4)).value(),
        "fuse fuse c10:229\n");
}

}  // namespace
}  // namespace banger::images
