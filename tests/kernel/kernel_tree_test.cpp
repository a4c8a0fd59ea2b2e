#include "core/images/kernel_tree.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/ext4_reader.hpp"
#include "tests/images/tar_builder.hpp"
#include "tests/kernel/fake_kernel.hpp"

namespace banger::images {
namespace {

using ::testing::HasSubstr;

const std::string version = "6.1.0-1-cloud-amd64";

struct Tree {
    std::string modules = "usr/lib/modules/" + version + "/";
    std::string modules_dep =
        "kernel/virtio/virtio.ko:\n"
        "kernel/virtio/virtio_pci.ko: kernel/virtio/virtio.ko\n"
        "kernel/net/virtio_net.ko.xz: kernel/virtio/virtio.ko\n"
        "kernel/other.ko:\n";
    std::string kernel = fake_bzimage(packed(fake_vmlinux(true), ARCHIVE_FILTER_GZIP));

    std::string tar(int filter = ARCHIVE_FILTER_NONE) const {
        TarBuilder builder(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, filter);
        builder.folder("./boot").file("./boot/config-" + version, "CONFIG");
        if (!modules.empty()) {
            builder.file(modules + "kernel/net/virtio_net.ko.xz",
                         packed("net module", ARCHIVE_FILTER_XZ));
            builder.file(modules + "kernel/virtio/virtio_pci.ko", "pci module");
            if (!modules_dep.empty()) builder.file(modules + "modules.dep", modules_dep);
            builder.file(modules + "kernel/virtio/virtio.ko", "virtio module");
            builder.file(modules + "kernel/other.ko", "other module");
            builder.symlink(modules + "build", "/usr/src/linux");
        }
        if (!kernel.empty()) builder.file("./boot/vmlinuz-" + version, kernel);
        return builder.finish();
    }
};

class KernelTree : public ::testing::Test {
protected:
    Result<KernelFiles> import_bytes(const std::string& tar, std::stop_token stop = {}) {
        return import_from(file_of(tar), stop);
    }
    Result<KernelFiles> import_from(const UniqueFd& tar, std::stop_token stop = {}) {
        const UniqueFd folder(open(folder_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        return import_kernel_tree(tar, folder, stop);
    }
    std::string content(const std::string& name) {
        return read_file(folder_ / name, ByteCount::mib(64)).value_or("");
    }
    TempFolder folder_;
};

TEST_F(KernelTree, BecomesKernelInitramfsAndModules) {
    const Result<KernelFiles> files = import_bytes(Tree().tar(ARCHIVE_FILTER_ZSTD));
    ASSERT_TRUE(files) << files.error().text();
    EXPECT_EQ(files->version, version);
    EXPECT_TRUE(files->pvh);
    EXPECT_THAT(list_folder(folder_.path()).value(),
                ::testing::ElementsAre("initramfs.img", "modules.ext4", "vmlinux"));
    EXPECT_EQ(content("vmlinux"), fake_vmlinux(true));

    const std::string initramfs = content("initramfs.img");
    EXPECT_THAT(initramfs, HasSubstr("pci virtio.ko\npci virtio_pci.ko\nvirtio:1 virtio.ko\n"
                                     "virtio:1 virtio_net.ko\n"));
    EXPECT_THAT(initramfs, HasSubstr("net module")) << "unpacked: init cannot";
    EXPECT_THAT(initramfs, Not(HasSubstr("other module")));

    const Ext4Reader modules(folder_ / "modules.ext4");
    for (const char* name : {"modules.dep", "kernel/other.ko", "kernel/net/virtio_net.ko.xz"})
        EXPECT_NE(modules.find(version + "/" + name), 0U) << name;
    EXPECT_EQ(modules.find(version + "/build"), 0U);
    EXPECT_EQ(modules.find("boot"), 0U);
}

TEST_F(KernelTree, IsTheSameForTheSameTree) {
    ASSERT_TRUE(import_bytes(Tree().tar()));
    const std::string first = content("initramfs.img");
    const TempFolder other;
    const UniqueFd folder(open(other.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(import_kernel_tree(file_of(Tree().tar()), folder, {}));
    EXPECT_EQ(read_file(other / "initramfs.img", ByteCount::mib(64)).value(), first);
}

TEST_F(KernelTree, OldLayoutWorksToo) {
    Tree tree;
    tree.modules = "./lib/modules/" + version + "/";
    EXPECT_TRUE(import_bytes(tree.tar()));
}

TEST_F(KernelTree, MissingPartsAreSaid) {
    Tree without_kernel;
    without_kernel.kernel.clear();
    Tree without_modules;
    without_modules.modules.clear();
    Tree without_depmod;
    without_depmod.modules_dep.clear();
    Tree without_file;
    without_file.modules_dep += "kernel/virtio/virtio_blk.ko:\n";
    Tree of_another_version;
    of_another_version.modules = "lib/modules/5.10/";
    for (const Tree& tree :
         {without_kernel, without_modules, without_depmod, without_file, of_another_version}) {
        const TempFolder target;
        const UniqueFd folder(open(target.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const Result<KernelFiles> files = import_kernel_tree(file_of(tree.tar()), folder, {});
        ASSERT_FALSE(files);
        EXPECT_EQ(files.error().code, Errc::corrupt) << files.error().text();
    }
}

TEST_F(KernelTree, TwoKernelsAreOneTooMany) {
    TarBuilder builder;
    builder.file("boot/vmlinuz-1", "a").file("boot/vmlinuz-2", "b");
    const Result<KernelFiles> files = import_bytes(builder.finish());
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("more than one"));
}

TEST_F(KernelTree, ADamagedStreamIsCorrupt) {
    const std::string whole = Tree().tar(ARCHIVE_FILTER_ZSTD);
    for (const std::string& bytes :
         {std::string(), std::string("rubbish"), whole.substr(0, whole.size() / 2)}) {
        const TempFolder target;
        const UniqueFd folder(open(target.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const Result<KernelFiles> files = import_kernel_tree(file_of(bytes), folder, {});
        ASSERT_FALSE(files);
        EXPECT_EQ(files.error().code, Errc::corrupt) << files.error().text();
    }
}

TEST_F(KernelTree, AStopEndsTheWaitForASlowSource) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reading(ends[0]);
    const UniqueFd writing(ends[1]);
    std::stop_source stop;
    stop.request_stop();
    const Result<KernelFiles> files = import_from(reading, stop.get_token());
    ASSERT_FALSE(files);
    EXPECT_EQ(files.error().code, Errc::cancelled);
}

}  // namespace
}  // namespace banger::images
