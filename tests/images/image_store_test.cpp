#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "core/base/file.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/image_store.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/ext4_reader.hpp"
#include "tests/images/kernel_builder.hpp"
#include "tests/images/memory_source.hpp"
#include "tests/images/tar_builder.hpp"

namespace banger {
namespace {

using images::Ext4Reader;
using images::TarBuilder;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string base_layer = TarBuilder()
                                   .folder("etc")
                                   .file("etc/os-release", "ID=test\n")
                                   .file("etc/gone", "x")
                                   .file("big", std::string(200'000, 'b'))
                                   .finish();
const std::string app_layer =
    TarBuilder().file("app", "#!/bin/sh\n").file("etc/.wh.gone", "").finish();
const std::string other_layer = TarBuilder().file("other", "another\n").finish();

ArtifactName name_of(const std::string& text) { return ArtifactName::parse(text).value(); }

class ImageStoreTest : public testing::Test {
protected:
    ImageStoreTest() {
        std::signal(SIGPIPE, SIG_IGN);  // as every program of banger does
        MemorySource::Artifact& app = source_.add(ArtifactKind::image, "registry/app:1", "app",
                                                  PartFormat::tar_layer, {base_layer, app_layer});
        app.manifest.run_config.command = {"/app"};
        source_.call_also("app:1", "registry/app:1");
        source_.add(ArtifactKind::image, "registry/other:1", "other", PartFormat::tar_layer,
                    {base_layer, other_layer});
        source_.add(ArtifactKind::image, "recipe", "made", PartFormat::tar_layer, {base_layer},
                    false);
        source_.add(ArtifactKind::kernel, "registry/kernel:1", "kernel", PartFormat::kernel_tree,
                    {images::tar_of(images::kernel_files("6.1.0-1-test"))});
        open();
    }
    void open() {
        images_.reset();
        store_.reset();
        store_ = Store::open(folder_ / "state/banger.db").value();
        images_ = std::make_unique<ImageStore>(
            *store_, std::vector<NamedImageSource>{{"memory", &source_}},
            ImageStore::Places{folder_ / "state/images", folder_ / "state/kernels",
                               folder_ / "state/templates", folder_ / "cache/blobs"});
        const Result<int> recovered = images_->recover();
        ASSERT_TRUE(recovered) << recovered.error().text();
        recovered_ = *recovered;
    }
    Result<ImageRecord> pull(const std::string& reference, PullOptions options = {}) {
        return images_->ensure_image(reference, options, call_);
    }
    ImageRecord must_pull(const std::string& reference, PullOptions options = {}) {
        Result<ImageRecord> image = pull(reference, std::move(options));
        if (!image) throw std::runtime_error(image.error().text());
        return *image;
    }
    KernelRecord must_pull_kernel() {
        return images_->ensure_kernel("registry/kernel:1", {}, call_).value();
    }
    std::string file_of(const ImageRecord& image) {
        return folder_ / ("state/images/" + image.id + "/rootfs.ext4");
    }
    std::vector<std::string> in(const std::string& name) {
        return list_folder(folder_ / name).value_or({});
    }
    void reserve_machine(const ImageRecord& image, const KernelRecord& kernel,
                         const std::string& name = "sandbox") {
        const VmId id = VmId::random();
        const Result<VmRecord> vm =
            store_->reserve_machine({.id = id,
                                     .name = VmName::parse(name).value(),
                                     .image = image.name,
                                     .image_id = image.id,
                                     .kernel = kernel.name,
                                     .kernel_id = kernel.id,
                                     .backend = PluginName::parse("vmm-qemu").value(),
                                     .network = PluginName::parse("net-user").value(),
                                     .storage = PluginName::parse("storage-file").value(),
                                     .mac = MacAddress::of(id)},
                                    std::nullopt);
        ASSERT_TRUE(vm) << vm.error().text();
    }
    /// An ext4 of the user's own, small and with one file in it.
    std::string make_own_file(const std::string& name, const std::string& content = "mine\n") {
        const std::string path = folder_ / name;
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        const std::array<UniqueFd, 1> layers{
            images::file_of(TarBuilder().file("hello", content).finish())};
        EXPECT_TRUE(images::write_ext4_from_layers(
            layers, file, {.size = ByteCount::mib(16), .identity = "own"}, {}));
        return path;
    }

    TempFolder folder_;
    MemorySource source_;
    TestCall call_;
    std::unique_ptr<Store> store_;
    std::unique_ptr<ImageStore> images_;
    int recovered_ = 0;
};

// ---- pulling ----

TEST_F(ImageStoreTest, LayersBecomeAnImageAndStayInTheCache) {
    const ImageRecord image = must_pull("app:1");
    EXPECT_EQ(image.name.str(), "app");
    EXPECT_EQ(image.reference, "registry/app:1");
    EXPECT_EQ(image.run_config.command, std::vector<std::string>{"/app"});
    ASSERT_EQ(image.parts.size(), 2u);
    EXPECT_EQ(image.parts[1].digest, digest_of(app_layer));
    EXPECT_EQ(image.parts[1].size, ByteCount::bytes(app_layer.size()));
    const Ext4Reader root(file_of(image));
    EXPECT_NE(root.find("app"), 0u);
    EXPECT_EQ(root.find("etc/gone"), 0u) << "whited out";
    EXPECT_EQ(in("cache/blobs/sha256").size(), 2u);
    EXPECT_THAT(call_.stages(), Contains("fetching 2 layers of registry/app:1"));
    EXPECT_THAT(call_.stages(), Contains("writing the root file system"));
}

TEST_F(ImageStoreTest, WhatWasAskedForFindsItAgainWithoutAskingAnybody) {
    const ImageRecord image = must_pull("app:1");
    const int asked = source_.resolved();
    for (const char* spelling : {"app:1", "registry/app:1", "app"})
        EXPECT_EQ(must_pull(spelling).id, image.id);
    EXPECT_EQ(must_pull("app:1", {.name = name_of("app")}).id, image.id);
    EXPECT_EQ(source_.resolved(), asked);
    open();
    EXPECT_EQ(must_pull("app:1").id, image.id);
}

TEST_F(ImageStoreTest, SharedLayersAreFetchedOnce) {
    must_pull("app:1");
    const std::uint64_t before = source_.served();
    must_pull("registry/other:1");
    EXPECT_EQ(source_.served() - before, other_layer.size());
    EXPECT_THAT(call_.stages(), Contains("fetching 1 of 2 layers of registry/other:1"));
}

TEST_F(ImageStoreTest, TheSameLayersGiveTheSameBytes) {
    const ImageRecord one =
        must_pull("app:1", {.name = name_of("one"), .size = ByteCount::mib(32)});
    source_.add(ArtifactKind::image, "elsewhere/app:2", "two", PartFormat::tar_layer,
                {base_layer, app_layer});
    const ImageRecord two = must_pull("elsewhere/app:2", {.size = ByteCount::mib(32)});
    EXPECT_NE(one.id, two.id);
    const std::string first = read_file(file_of(one), ByteCount::mib(64)).value();
    EXPECT_EQ(first.size(), ByteCount::mib(32).count());
    EXPECT_TRUE(first == read_file(file_of(two), ByteCount::mib(64)).value());
}

TEST_F(ImageStoreTest, WhatHasNoDigestComesThroughAPipeAndIsNotCached) {
    const ImageRecord image = must_pull("recipe");
    EXPECT_THAT(image.parts, IsEmpty());
    EXPECT_THAT(in("cache/blobs/sha256"), IsEmpty());
}

TEST_F(ImageStoreTest, AReadyFileSystemIsCopiedAndItsBlobGoes) {
    const std::string path = make_own_file("root.ext4");
    const std::string bytes = read_file(path, ByteCount::mib(32)).value();
    source_.add(ArtifactKind::image, "ready", "ready", PartFormat::ext4, {bytes});
    const ImageRecord image = must_pull("ready");
    EXPECT_EQ(image.size, ByteCount::mib(16));
    EXPECT_TRUE(read_file(file_of(image), ByteCount::mib(32)).value() == bytes);
    EXPECT_THAT(in("cache/blobs/sha256"), IsEmpty()) << "nobody could share it";

    const ImageRecord larger =
        must_pull("ready", {.name = name_of("larger"), .size = ByteCount::mib(64)});
    EXPECT_EQ(larger.size, ByteCount::mib(64));
    EXPECT_EQ(pull("ready", {.name = name_of("smaller"), .size = ByteCount::mib(8)}).error().code,
              Errc::invalid_argument);
}

TEST_F(ImageStoreTest, ASizeThatIsTooSmallIsSaidAndNothingIsLeft) {
    source_.add(ArtifactKind::image, "large", "large", PartFormat::tar_layer,
                {TarBuilder().file("x", std::string(20 << 20, 'x')).finish()});
    const Error error = pull("large", {.size = ByteCount::mib(16)}).error();
    EXPECT_EQ(error.code, Errc::invalid_argument) << "the disk is not full";
    EXPECT_THAT(error.remedy, HasSubstr("--size"));
    EXPECT_THAT(in("state/images"), IsEmpty());
    EXPECT_EQ(in("cache/blobs/sha256").size(), 1u) << "to try again with another size";
    EXPECT_TRUE(pull("large", {.size = ByteCount::mib(64)}));
    EXPECT_EQ(source_.fetched(), 1);
    EXPECT_EQ(pull("large", {.size = ByteCount::mib(32)}).error().code, Errc::already_exists);
}

TEST_F(ImageStoreTest, ANameOfSomethingElseIsNotOverwrittenNorTakenForIt) {
    const ImageRecord app = must_pull("app:1");
    const Error error = pull("registry/other:1", {.name = name_of("app")}).error();
    EXPECT_EQ(error.code, Errc::already_exists);
    EXPECT_THAT(error.message, HasSubstr("registry/app:1"));
    EXPECT_THAT(error.remedy, HasSubstr("--name"));
    source_.add(ArtifactKind::image, "elsewhere/app:1", "app", PartFormat::tar_layer,
                {other_layer});
    EXPECT_EQ(pull("elsewhere/app:1").error().code, Errc::already_exists)
        << "by the name that the source suggests";
    EXPECT_EQ(store_->images().value(), std::vector{app});
}

TEST_F(ImageStoreTest, ALyingSourceLeavesNothing) {
    MemorySource::Artifact& liar = source_.add(ArtifactKind::image, "liar", "liar",
                                               PartFormat::tar_layer, {base_layer, app_layer});
    liar.parts[1] = other_layer + std::string(app_layer.size() - other_layer.size(), 'x');
    const Error error = pull("liar").error();
    EXPECT_EQ(error.code, Errc::corrupt);
    EXPECT_THAT(error.message, HasSubstr("pulling liar"));
    EXPECT_THAT(error.message, HasSubstr(digest_of(app_layer).str()));
    EXPECT_THAT(in("state/images"), IsEmpty());
    EXPECT_TRUE(store_->images().value().empty());
}

TEST_F(ImageStoreTest, LayersThatAreNoTarAreAnErrorAndTooManyAreRefused) {
    source_.add(ArtifactKind::image, "rubbish", "rubbish", PartFormat::tar_layer,
                {std::string(10'000, 'r')});
    EXPECT_EQ(pull("rubbish").error().code, Errc::corrupt);
    EXPECT_EQ(in("cache/blobs/sha256").size(), 1u) << "it is what was promised";
    source_.add(ArtifactKind::image, "many", "many", PartFormat::tar_layer,
                std::vector<std::string>(501, ""));
    EXPECT_EQ(pull("many").error().code, Errc::unsupported);
    source_.add(ArtifactKind::image, "none", "none", PartFormat::tar_layer, {});
    EXPECT_EQ(pull("none").error().code, Errc::corrupt);
    source_.add(ArtifactKind::image, "odd", "odd", PartFormat::kernel_tree, {"x"});
    EXPECT_EQ(pull("odd").error().code, Errc::unsupported);
}

TEST_F(ImageStoreTest, ACachedLayerThatTheDiskDamagedIsFetchedAgain) {
    must_pull("app:1");
    const std::string blob =
        folder_ / ("cache/blobs/sha256/" + std::string(digest_of(base_layer).hex()));
    const UniqueFd file(::open(blob.c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), "damage", 6, 100), 6);
    const Error error = pull("registry/other:1").error();
    EXPECT_EQ(error.code, Errc::corrupt);
    EXPECT_THAT(error.message, HasSubstr("damaged on the disk and is removed"));
    EXPECT_TRUE(pull("registry/other:1"));
}

TEST_F(ImageStoreTest, ABrokenPullIsResumed) {
    source_.before = [](const std::string&, std::size_t part, Call&) -> Result<void> {
        if (part == 0) return Error(Errc::not_found, "the server forgot it");
        return ok();
    };
    EXPECT_EQ(pull("app:1").error().code, Errc::not_found);
    source_.before = nullptr;
    const std::uint64_t before = source_.served();
    must_pull("app:1");
    EXPECT_LT(source_.served() - before, base_layer.size());
}

TEST_F(ImageStoreTest, PullsOfOneImageAtOnceDoTheWorkOnce) {
    std::vector<std::jthread> threads;
    std::atomic<int> succeeded = 0;
    // Under three spellings and one more name: four do the work in one pull.
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&, i] {
            TestCall call;
            const Result<ImageRecord> image =
                images_->ensure_image(i % 2 == 0 ? "app:1" : "registry/app:1", {}, call);
            if (image) ++succeeded;
        });
    threads.clear();
    EXPECT_EQ(succeeded, 8);
    EXPECT_EQ(source_.fetched(), 2);
    EXPECT_EQ(store_->images().value().size(), 1u);
    EXPECT_EQ(in("state/images").size(), 1u);
}

TEST_F(ImageStoreTest, WhoWaitsForAPullCanGoAway) {
    std::atomic<bool> is_there = false;
    std::atomic<bool> may_go_on = false;
    source_.before = [&](const std::string&, std::size_t, Call&) -> Result<void> {
        is_there = true;
        is_there.notify_all();
        may_go_on.wait(false);
        return ok();
    };
    std::jthread first([&] { EXPECT_TRUE(pull("app:1")); });
    is_there.wait(false);
    TestCall impatient;
    impatient.go_away();
    EXPECT_EQ(images_->ensure_image("app:1", {}, impatient).error().code, Errc::cancelled);
    may_go_on = true;
    may_go_on.notify_all();
}

// ---- refresh ----

TEST_F(ImageStoreTest, ARefreshOfTheSameIsNoWork) {
    const ImageRecord image = must_pull("app:1");
    const int before = source_.fetched();
    EXPECT_EQ(must_pull("app:1", {.refresh = true}).id, image.id);
    EXPECT_EQ(source_.fetched(), before);
    EXPECT_THAT(call_.stages(), Contains("app is up to date"));
    // Unless its file is not there any more.
    ASSERT_TRUE(remove_file(file_of(image)));
    const ImageRecord again = must_pull("app:1", {.refresh = true});
    EXPECT_NE(again.id, image.id);
    EXPECT_THAT(in("state/images"), ElementsAre(again.id));
}

TEST_F(ImageStoreTest, ARefreshReplacesAndAFailedOneLeavesTheOld) {
    const ImageRecord old = must_pull("app:1", {.name = name_of("mine")});
    source_.add(ArtifactKind::image, "registry/app:1", "app", PartFormat::tar_layer,
                {base_layer, other_layer});
    source_.before = [](const std::string&, std::size_t, Call&) -> Result<void> {
        return Error(Errc::not_found, "gone");
    };
    EXPECT_EQ(pull("app:1", {.refresh = true}).error().code, Errc::not_found);
    EXPECT_EQ(store_->images().value(), std::vector{old});
    EXPECT_TRUE(images_->open_root_file_system(old));
    source_.before = nullptr;
    const ImageRecord fresh = must_pull("app:1", {.refresh = true});
    EXPECT_EQ(fresh.name.str(), "mine") << "it keeps the name it was given";
    EXPECT_EQ(store_->images().value(), std::vector{fresh});
    EXPECT_THAT(in("state/images"), ElementsAre(fresh.id));
}

TEST_F(ImageStoreTest, ARefreshOfWhatAMachineUsesIsRefusedBeforeAnythingIsFetched) {
    const ImageRecord image = must_pull("app:1");
    reserve_machine(image, must_pull_kernel());
    source_.add(ArtifactKind::image, "registry/app:1", "app", PartFormat::tar_layer,
                {base_layer, other_layer});
    const int before = source_.fetched();
    const Error error = pull("app:1", {.refresh = true}).error();
    EXPECT_EQ(error.code, Errc::in_use);
    EXPECT_THAT(error.message, HasSubstr("sandbox"));
    EXPECT_EQ(source_.fetched(), before);
    EXPECT_EQ(images_->remove_image("app").error().code, Errc::in_use);
    EXPECT_EQ(images_->remove_kernel("kernel").error().code, Errc::in_use);
}

// ---- the user's own files ----

TEST_F(ImageStoreTest, ARegisteredFileIsUsedWhereItIsAndNeverRemoved) {
    const std::string path = make_own_file("root.ext4");
    const ImageRecord image = images_->register_image({name_of("mine"), path}, call_).value();
    EXPECT_EQ(image.size, ByteCount::mib(16));
    EXPECT_THAT(in("state/images"), IsEmpty());
    EXPECT_TRUE(images_->open_root_file_system(image));
    open();
    EXPECT_EQ(store_->images().value(), std::vector{image});
    EXPECT_EQ(images_->register_image({name_of("mine"), path}, call_).error().code,
              Errc::already_exists);
    EXPECT_THAT(images_->checks(), IsEmpty());
    ASSERT_TRUE(images_->remove_image("mine"));
    EXPECT_TRUE(path_exists(path));
}

TEST_F(ImageStoreTest, WhatHappensToARegisteredFileIsNoticed) {
    const std::string path = make_own_file("root.ext4");
    const ImageRecord image = images_->register_image({name_of("mine"), path}, call_).value();
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    const timespec later[2] = {status.st_atim, {status.st_mtim.tv_sec + 1, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), later, 0), 0);
    Error error = images_->open_root_file_system(image).error();
    EXPECT_EQ(error.code, Errc::corrupt);
    EXPECT_THAT(error.message, HasSubstr("changed after it was registered"));
    EXPECT_THAT(error.remedy, HasSubstr("register it again"));
    EXPECT_EQ(images_->promote_image("mine", call_).error().code, Errc::corrupt);
    ASSERT_EQ(images_->checks().size(), 1u);
    EXPECT_EQ(images_->checks()[0].name, "image mine");
    ASSERT_EQ(::truncate(path.c_str(), 5), 0);
    EXPECT_THAT(images_->open_root_file_system(image).error().message, HasSubstr("5 bytes"));
    ASSERT_TRUE(remove_file(path));
    EXPECT_THAT(images_->open_root_file_system(image).error().message, HasSubstr(path));
}

TEST_F(ImageStoreTest, WhatIsNoRootFileSystemIsNotRegistered) {
    const auto refused = [&](const std::string& path) {
        return images_->register_image({name_of("mine"), path}, call_).error();
    };
    EXPECT_EQ(refused("relative").code, Errc::invalid_argument);
    EXPECT_EQ(refused(folder_ / "nothing").code, Errc::not_found);
    EXPECT_EQ(refused(folder_.path()).code, Errc::invalid_argument) << "a folder";
    ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
    EXPECT_EQ(refused(folder_ / "fifo").code, Errc::invalid_argument);
    ASSERT_TRUE(write_file_atomic(folder_ / "zeros", std::string(8192, '\0'), 0600));
    EXPECT_THAT(refused(folder_ / "zeros").message, HasSubstr("no ext4"));
    ASSERT_TRUE(write_file_atomic(folder_ / "qcow", "QFI\xfb" + std::string(8192, '\0'), 0600));
    EXPECT_THAT(refused(folder_ / "qcow").message, HasSubstr("qcow2"));
    const std::string path = make_own_file("root.ext4");
    ASSERT_EQ(::truncate(path.c_str(), (8 << 20)), 0);
    EXPECT_THAT(refused(path).message, HasSubstr("cut off"));
    ASSERT_EQ(::truncate(path.c_str(), (16 << 20) + 100), 0);
    EXPECT_THAT(refused(path).remedy, HasSubstr("truncate -s %4096"));
    EXPECT_TRUE(store_->images().value().empty());
}

TEST_F(ImageStoreTest, PromotionCopiesAndTheFileIsNotNeededAnyMore) {
    const std::string path = make_own_file("root.ext4");
    const ImageRecord image = images_->register_image({name_of("mine"), path}, call_).value();
    const std::string bytes = read_file(path, ByteCount::mib(32)).value();
    const ImageRecord own = images_->promote_image("mine", call_).value();
    EXPECT_EQ(own.id, image.id);
    EXPECT_FALSE(own.file);
    EXPECT_EQ(images_->promote_image("mine", call_).value(), own) << "done already";
    ASSERT_TRUE(remove_file(path));
    EXPECT_TRUE(read_file(file_of(own), ByteCount::mib(32)).value() == bytes);
    struct stat status {};
    ASSERT_EQ(::stat(file_of(own).c_str(), &status), 0);
    EXPECT_LT(status.st_blocks * 512, 16 << 20) << "holes stay holes";
    open();
    EXPECT_TRUE(images_->open_root_file_system(store_->find_image("mine").value()));
    ASSERT_TRUE(images_->remove_image("mine"));
    EXPECT_THAT(in("state/images"), IsEmpty());
}

TEST_F(ImageStoreTest, PromotionIsRefusedWhileAMachineStandsOnTheFile) {
    const ImageRecord image =
        images_->register_image({name_of("mine"), make_own_file("root.ext4")}, call_).value();
    reserve_machine(image, must_pull_kernel());
    EXPECT_EQ(images_->promote_image("mine", call_).error().code, Errc::in_use);
}

TEST_F(ImageStoreTest, APromotionThatWasCancelledOrKilledLeavesNothing) {
    const ImageRecord image =
        images_->register_image({name_of("mine"), make_own_file("root.ext4")}, call_).value();
    TestCall gone;
    gone.go_away();
    EXPECT_EQ(images_->promote_image("mine", gone).error().code, Errc::cancelled);
    EXPECT_THAT(in("state/images"), IsEmpty());
    // Killed between the new name and the row.
    ASSERT_TRUE(ensure_folder(folder_ / ("state/images/" + image.id), 0700));
    open();
    EXPECT_EQ(recovered_, 1);
    EXPECT_THAT(in("state/images"), IsEmpty());
    EXPECT_TRUE(images_->open_root_file_system(store_->find_image("mine").value()));
}

// ---- kernels ----

TEST_F(ImageStoreTest, AKernelOfTheUsersIsImportedAndGuarded) {
    const std::string package = folder_ / "linux.deb";
    ASSERT_TRUE(write_file_atomic(
        package,
        images::package_of("data.tar.xz",
                           images::tar_of(images::kernel_files("6.1.0-1-test"), ARCHIVE_FILTER_XZ)),
        0600));
    const KernelRecord kernel =
        images_->import_kernel(name_of("mine"), {.tree = package}, call_).value();
    EXPECT_EQ(kernel.version, "6.1.0-1-test");
    EXPECT_TRUE(images_->open_kernel(kernel));
    EXPECT_EQ(images_->import_kernel(name_of("mine"), {.tree = package}, call_).error().code,
              Errc::already_exists);
    EXPECT_EQ(images_->ensure_kernel("mine", {}, call_).value().id, kernel.id);

    must_pull("app:1");
    EXPECT_EQ(images_->set_kernel("app", "nonsense", call_).error().code, Errc::not_found);
    EXPECT_EQ(images_->set_kernel("app", "mine", call_).value().kernel_reference, "mine");
    const Error error = images_->remove_kernel("mine").error();
    EXPECT_EQ(error.code, Errc::in_use) << "nobody could bring it back";
    EXPECT_THAT(error.message, HasSubstr("app"));
    EXPECT_TRUE(images_->set_kernel("app", "", call_));
    EXPECT_TRUE(images_->remove_kernel("mine"));
    EXPECT_THAT(in("state/kernels"), IsEmpty());
}

TEST_F(ImageStoreTest, AnImageIsRegisteredWithAKernelOfItsOwnOrNotAtAll) {
    const std::string root = make_own_file("root.ext4");
    ASSERT_TRUE(write_file_atomic(folder_ / "vmlinux", images::vmlinux_of("6.9.0-own"), 0600));
    const ImageRecord image =
        images_
            ->register_image({.name = name_of("mine"),
                              .root_file_system = root,
                              .kernel = KernelOrigin{.kernel = folder_ / "vmlinux"}},
                             call_)
            .value();
    EXPECT_EQ(image.kernel_reference, "mine");
    EXPECT_EQ(store_->find_kernel("mine").value().version, "6.9.0-own");
    EXPECT_EQ(images_
                  ->register_image({.name = name_of("other"),
                                    .root_file_system = root,
                                    .kernel = KernelOrigin{.kernel = folder_ / "nothing"}},
                                   call_)
                  .error()
                  .code,
              Errc::not_found);
    EXPECT_EQ(store_->images().value().size(), 1u);
    EXPECT_EQ(store_->kernels().value().size(), 1u);
}

TEST_F(ImageStoreTest, AKernelsBlobGoesWithItsUse) {
    must_pull_kernel();
    EXPECT_THAT(in("cache/blobs/sha256"), IsEmpty());
    EXPECT_EQ(in("state/kernels").size(), 1u);
}

// ---- room ----

TEST_F(ImageStoreTest, PruneTakesWhatNoImageNeedsAndAllOnlyWhenAsked) {
    must_pull("app:1");
    must_pull("registry/other:1");
    EXPECT_THAT(images_->prune_blobs(false, false).value(), IsEmpty());
    ASSERT_TRUE(images_->remove_image("other"));
    const std::vector<CachedBlob> would = images_->prune_blobs(false, true).value();
    ASSERT_EQ(would.size(), 1u);
    EXPECT_EQ(would[0].digest, digest_of(other_layer));
    EXPECT_GT(would[0].size.count(), 0u);
    EXPECT_EQ(in("cache/blobs/sha256").size(), 3u) << "told, not done";
    EXPECT_EQ(images_->prune_blobs(false, false).value().size(), 1u);
    EXPECT_EQ(in("cache/blobs/sha256").size(), 2u);
    ASSERT_TRUE(write_file_atomic(
        folder_ / ("cache/blobs/sha256/" + std::string(64, 'a') + ".partial"), "half", 0600));
    EXPECT_EQ(images_->prune_blobs(false, false).value().size(), 1u) << "what was cut off";
    EXPECT_EQ(images_->prune_blobs(true, false).value().size(), 2u);
    EXPECT_THAT(in("cache/blobs/sha256"), IsEmpty());
    EXPECT_TRUE(images_->open_root_file_system(store_->find_image("app").value()));
}

TEST_F(ImageStoreTest, DiskUseCountsEachThingAndWhoNeedsIt) {
    const ImageRecord app = must_pull("app:1");
    must_pull("registry/other:1");
    const KernelRecord kernel = must_pull_kernel();
    reserve_machine(app, kernel);
    ASSERT_TRUE(images_->register_image({name_of("mine"), make_own_file("root.ext4")}, call_));
    ASSERT_TRUE(images_->empty_file_system(ByteCount::mib(64)));
    std::map<std::string, DiskUse> uses;
    for (const DiskUse& use : images_->disk_use().value())
        uses[std::string(to_string(use.kind)) + " " + use.name] = use;
    EXPECT_EQ(uses.size(), 8u);
    EXPECT_THAT(uses.at("image app").users, ElementsAre("sandbox"));
    EXPECT_GT(uses.at("image app").size.count(), 200'000u);
    EXPECT_FALSE(uses.at("image app").is_reclaimable);
    EXPECT_TRUE(uses.at("image other").is_reclaimable);
    EXPECT_EQ(uses.at("image mine").size.count(), 0u) << "it is the user's";
    EXPECT_FALSE(uses.at("kernel kernel").is_reclaimable);
    const DiskUse& shared =
        uses.at("blob " + std::string(digest_of(base_layer).hex().substr(0, 12)));
    EXPECT_THAT(shared.users, ElementsAre("app", "other"));
    EXPECT_FALSE(shared.is_reclaimable);
}

}  // namespace
}  // namespace banger
