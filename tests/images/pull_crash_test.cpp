#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "core/base/file.hpp"
#include "core/images/image_store.hpp"
#include "tests/images/memory_source.hpp"
#include "tests/images/tar_builder.hpp"

/// kill -9 and a full disk at every step of a pull. A step is a call of the kernel that changes the
/// disk: this program's own definitions of those functions come before those of libc, also for the
/// libraries it uses, and strike at the n-th.
namespace {

enum class Fault { none, kill, no_space };
std::atomic<Fault> fault = Fault::none;
std::atomic<int> countdown = 0;
std::atomic<bool> was_struck = false;

/// True when the call is to fail.
bool strikes() {
    if (fault == Fault::none) return false;
    const int left = countdown.fetch_sub(1);
    if (left != 1 && !(fault == Fault::no_space && left < 1)) return false;
    was_struck = true;
    if (fault == Fault::kill) ::_exit(9);
    return true;  // a full disk stays full
}

template <class Function>
Function real(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int rename(const char* from, const char* to) noexcept {
    static const auto next = real<int (*)(const char*, const char*)>("rename");
    if (fault == Fault::kill) strikes();
    return next(from, to);
}
int fsync(int fd) {
    static const auto next = real<int (*)(int)>("fsync");
    if (fault == Fault::kill) strikes();
    return next(fd);
}
int ftruncate(int fd, off_t size) noexcept {
    static const auto next = real<int (*)(int, off_t)>("ftruncate");
    if (fault == Fault::kill) strikes();
    return next(fd, size);
}
int unlinkat(int fd, const char* path, int flags) noexcept {
    static const auto next = real<int (*)(int, const char*, int)>("unlinkat");
    if (fault == Fault::kill) strikes();
    return next(fd, path, flags);
}
int unlink(const char* path) noexcept {
    static const auto next = real<int (*)(const char*)>("unlink");
    if (fault == Fault::kill) strikes();
    return next(path);
}
int mkdir(const char* path, mode_t mode) noexcept {
    static const auto next = real<int (*)(const char*, mode_t)>("mkdir");
    if (strikes()) return errno = ENOSPC, -1;
    return next(path, mode);
}
ssize_t write(int fd, const void* bytes, size_t size) {
    static const auto next = real<ssize_t (*)(int, const void*, size_t)>("write");
    struct stat status {};
    // A pipe is not the disk.
    const bool is_file = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    if (is_file && strikes()) return errno = ENOSPC, -1;
    return next(fd, bytes, size);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
    static const auto next = real<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
    if (strikes()) return errno = ENOSPC, -1;
    return next(fd, bytes, size, at);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
    static const auto next = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
    if (strikes()) return errno = ENOSPC, -1;
    return next(fd, bytes, size, at);
}

}  // extern "C"

namespace banger {
namespace {

using images::TarBuilder;
using testing::IsEmpty;

const std::string base_layer =
    TarBuilder().folder("etc").file("big", std::string(300'000, 'b')).finish();
const std::string app_layer = TarBuilder().file("app", "#!/bin/sh\n").finish();
const std::string new_layer = TarBuilder().file("app", "#!/bin/new\n").finish();

/// A folder in memory where there is such a thing: the disk has nothing to do with what is looked
/// at.
class QuickFolder {
public:
    QuickFolder()
        : path_((path_exists("/dev/shm") ? "/dev/shm" : "/tmp") +
                std::string("/banger-test-XXXXXX")) {
        if (::mkdtemp(path_.data()) == nullptr) std::abort();
    }
    ~QuickFolder() { EXPECT_TRUE(remove_tree(path_)); }
    QuickFolder(const QuickFolder&) = delete;
    QuickFolder& operator=(const QuickFolder&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string operator/(const std::string& name) const {
        return path_ + "/" + name;
    }

private:
    std::string path_;
};

/// A daemon's images, on a folder that another one may have used before.
class Bench {
public:
    Bench(const std::string& folder, bool is_new) : folder_(folder) {
        source_.add(ArtifactKind::image, "app:1", "app", PartFormat::tar_layer,
                    {base_layer, is_new ? new_layer : app_layer});
        store_ = Store::open(folder + "/state/banger.db").value();
        images_ = std::make_unique<ImageStore>(
            *store_, std::vector<NamedImageSource>{{"memory", &source_}},
            ImageStore::Places{folder + "/state/images", folder + "/state/kernels",
                               folder + "/state/templates", folder + "/cache/blobs"});
        const Result<int> recovered = images_->recover();
        if (!recovered) ADD_FAILURE() << recovered.error().text();
    }
    Result<ImageRecord> pull(bool refresh) {
        return images_->ensure_image("app:1", {{}, ByteCount::mib(16), refresh}, call_);
    }
    Store& store() { return *store_; }
    ImageStore& images() { return *images_; }

    /// What there is agrees with what is remembered.
    void expect_whole() {
        std::vector<std::string> ids;
        for (const ImageRecord& image : store_->images().value()) {
            ids.push_back(image.id);
            EXPECT_TRUE(images_->open_root_file_system(image));
        }
        EXPECT_THAT(list_folder(folder_ + "/state/images").value(),
                    testing::UnorderedElementsAreArray(ids));
        EXPECT_THAT(list_folder(folder_ + "/cache/blobs").value(), testing::ElementsAre("sha256"));
        for (const std::string& name : list_folder(folder_ + "/cache/blobs/sha256").value())
            EXPECT_TRUE(name.size() == 64 || name.ends_with(".partial")) << name;
    }
    std::string bytes_of(const ImageRecord& image) {
        return read_file(folder_ + "/state/images/" + image.id + "/rootfs.ext4", ByteCount::mib(64))
            .value_or("");
    }

private:
    std::string folder_;
    MemorySource source_;
    TestCall call_;
    std::unique_ptr<Store> store_;
    std::unique_ptr<ImageStore> images_;
};

/// A pull in a process of its own, struck at the n-th step. False when there are not so many.
bool pull_and_be_killed(const std::string& folder, bool refresh, int n) {
    const pid_t child = ::fork();
    if (child == 0) {
        Bench bench(folder, refresh);
        countdown = n;
        fault = Fault::kill;
        const Result<ImageRecord> pulled = bench.pull(refresh);
        fault = Fault::none;
        ::_exit(pulled ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "it crashed by itself";
    EXPECT_NE(WEXITSTATUS(status), 1) << "it failed by itself";
    return WEXITSTATUS(status) == 9;
}

/// Every step at first, then fewer: a file system is written by many calls that are all alike.
int next_step(int n) { return n < 40 ? n + 1 : n + 1 + n / 10; }

class PullCrash : public testing::Test {
protected:
    PullCrash() { std::signal(SIGPIPE, SIG_IGN); }  // as every program of banger does
};

TEST_F(PullCrash, AfterKillAtAnyStepTheNextPullFinishesAndNothingElseIsLeft) {
    std::string expected;
    {
        const QuickFolder folder;
        Bench bench(folder.path(), false);
        expected = bench.bytes_of(bench.pull(false).value());
    }
    int steps = 0;
    for (int n = 1;; n = next_step(n)) {
        SCOPED_TRACE("step " + std::to_string(n));
        const QuickFolder folder;
        const bool was_killed = pull_and_be_killed(folder.path(), false, n);
        Bench bench(folder.path(), false);
        bench.expect_whole();
        const Result<ImageRecord> image = bench.pull(false);
        ASSERT_TRUE(image) << image.error().text();
        EXPECT_TRUE(bench.bytes_of(*image) == expected) << "the same image, whatever happened";
        bench.expect_whole();
        ASSERT_TRUE(bench.images().remove_image("app"));
        ASSERT_TRUE(bench.images().prune_blobs(false, false));
        EXPECT_THAT(list_folder(folder / "state/images").value(), IsEmpty());
        EXPECT_THAT(list_folder(folder / "cache/blobs/sha256").value(), IsEmpty());
        if (testing::Test::HasFailure()) return;
        if (!was_killed) break;
        ++steps;
    }
    EXPECT_GE(steps, 20) << "the test sees none of its steps";
}

TEST_F(PullCrash, AfterKillAtAnyStepOfARefreshThereIsOneOfTheTwo) {
    int steps = 0;
    for (int n = 1;; n = next_step(n)) {
        SCOPED_TRACE("step " + std::to_string(n));
        const QuickFolder folder;
        std::string old_id;
        {
            Bench bench(folder.path(), false);
            old_id = bench.pull(false).value().id;
        }
        const bool was_killed = pull_and_be_killed(folder.path(), true, n);
        Bench bench(folder.path(), true);
        bench.expect_whole();
        EXPECT_EQ(bench.store().images().value().size(), 1u);
        const Result<ImageRecord> image = bench.pull(true);
        ASSERT_TRUE(image) << image.error().text();
        EXPECT_NE(image->id, old_id);
        bench.expect_whole();
        if (testing::Test::HasFailure()) return;
        if (!was_killed) break;
        ++steps;
    }
    EXPECT_GE(steps, 20);
}

TEST_F(PullCrash, OnADiskThatGetsFullAtAnyStepTheErrorSaysSoAndTheSpaceComesBack) {
    int failures = 0;
    for (int n = 1;; n = next_step(n)) {
        SCOPED_TRACE("step " + std::to_string(n));
        const QuickFolder folder;
        Bench bench(folder.path(), false);
        countdown = n;
        was_struck = false;
        fault = Fault::no_space;
        const Result<ImageRecord> image = bench.pull(false);
        fault = Fault::none;
        if (!was_struck) {
            EXPECT_TRUE(image);
            break;
        }
        ++failures;
        if (!image) {
            EXPECT_EQ(image.error().code, Errc::no_space) << image.error().text();
            EXPECT_THAT(list_folder(folder / "cache/blobs/sha256").value_or({}), IsEmpty());
        }
        SCOPED_TRACE(image ? "it was pulled" : image.error().text());
        bench.expect_whole();
        const Result<ImageRecord> again = bench.pull(false);
        EXPECT_TRUE(again) << again.error().text();
        if (testing::Test::HasFailure()) return;
    }
    EXPECT_GE(failures, 10);
}

}  // namespace
}  // namespace banger
