#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "banger/contract/storage.hpp"
#include "core/base/file.hpp"
#include "plugins/storage-dm/dm_storage.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {

inline std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> files;
    if (!path_exists(folder)) return files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
        files.push_back(entry.path());
    return files;
}

/// The folders of a plugin and a kernel, the fake or the running one.
class World {
public:
    virtual ~World() = default;
    /// As a process that was started anew has them.
    virtual std::unique_ptr<dm::BlockDevices> devices() = 0;
    /// What is there besides the files of the plugin.
    virtual std::vector<std::string> in_the_kernel() = 0;
    [[nodiscard]] virtual std::string node_folder() const = 0;

    std::vector<std::string> exists() {
        std::vector<std::string> all = in_the_kernel();
        for (const std::string& folder : {host.state_folder(), host.run_folder(), node_folder()})
            for (std::string& file : files_below(folder))
                all.push_back(std::move(file));
        return all;
    }
    DmStorage::Options options() const {
        DmStorage::Options options;
        options.node_folder = node_folder();
        options.least_free = ByteCount::mib(1);
        return options;
    }

    PlainHost host;
};

/// A plugin in a world, and a base file to make disks of.
struct Scene {
    explicit Scene(World& in, DmStorage::Options options) : world(in), devices(in.devices()) {
        storage = DmStorage::open(world.host, *devices, std::move(options)).value();
        base =
            UniqueFd(::open((world.host / "base.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        struct stat status {};
        // Once only: a base never changes.
        if (::fstat(base.get(), &status) == 0 && status.st_size != 0) return;
        EXPECT_EQ(::ftruncate(base.get(), 1 << 20), 0);
        EXPECT_EQ(::pwrite(base.get(), "head", 4, 0), 4);
        EXPECT_EQ(::pwrite(base.get(), "tail", 4, (1 << 20) - 4), 4);
    }
    explicit Scene(World& in) : Scene(in, in.options()) {}
    [[nodiscard]] VolumeRequest request(const VmId& vm, VolumeRole role = VolumeRole::root,
                                        ByteCount size = ByteCount::mib(8)) const {
        return {vm, role, base.get(), size, {DiskFormat::raw}, ::geteuid()};
    }

    World& world;
    std::unique_ptr<dm::BlockDevices> devices;
    std::unique_ptr<DmStorage> storage;
    UniqueFd base;
};

/// Runs `job` in a process of its own that dies at the n-th step. False: it came to its end before.
inline bool dies_at_step(World& world, int n, const std::function<void(Scene&)>& job) {
    const pid_t child = ::fork();
    if (child == 0) {
        DmStorage::Options options = world.options();
        int left = n;
        options.before_step = [&left](std::string_view, std::stop_token) -> Result<void> {
            if (--left == 0) ::_exit(42);
            return ok();
        };
        Scene scene(world, std::move(options));
        job(scene);
        ::_exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0))
        << status;
    return WEXITSTATUS(status) == 42;
}

/// Kills the plugin at every step of making a disk: core never heard of it, so nothing may be left.
inline void crash_in_create(World& world, VolumeRole role) {
    const std::vector<std::string> before = world.exists();
    const VmId vm = VmId::random();
    int n = 1;
    while (dies_at_step(world, n, [&](Scene& scene) {
        EXPECT_TRUE(scene.storage->create(scene.request(vm, role), {}).has_value());
    })) {
        Scene after(world);
        EXPECT_TRUE(contract::succeeded(after.storage->recover({}))) << "step " << n;
        EXPECT_THAT(world.exists(), testing::UnorderedElementsAreArray(before)) << "step " << n;
        EXPECT_TRUE(contract::succeeded(after.storage->create(after.request(vm, role), {})))
            << "step " << n;
        EXPECT_TRUE(contract::succeeded(after.storage->remove(vm))) << "step " << n;
        ++n;
    }
    EXPECT_GT(n, 8) << "there are that many steps";
    EXPECT_TRUE(contract::succeeded(Scene(world).storage->remove(vm)));
    EXPECT_THAT(world.exists(), testing::UnorderedElementsAreArray(before));
}

/// Kills it at every step of removing one: what is left goes with the next removal.
inline void crash_in_remove(World& world) {
    const std::vector<std::string> before = world.exists();
    const VmId vm = VmId::random();
    for (int n = 1;; ++n) {
        Scene scene(world);
        ASSERT_TRUE(contract::succeeded(scene.storage->create(scene.request(vm), {})));
        ASSERT_TRUE(
            contract::succeeded(scene.storage->create(scene.request(vm, VolumeRole::work), {})));
        const bool died = dies_at_step(
            world, n, [&](Scene& child) { EXPECT_TRUE(child.storage->remove(vm).has_value()); });
        EXPECT_TRUE(contract::succeeded(Scene(world).storage->remove(vm))) << "step " << n;
        EXPECT_THAT(world.exists(), testing::UnorderedElementsAreArray(before)) << "step " << n;
        if (!died) return;
    }
}

/// Kills it at every step of a start: the disk core remembers is still whole.
inline void crash_in_activate(World& world) {
    const VmId vm = VmId::random();
    Scene first(world);
    const Result<Volume> volume = first.storage->create(first.request(vm), {});
    ASSERT_TRUE(contract::succeeded(volume));
    ASSERT_TRUE(contract::succeeded(first.storage->deactivate(vm)));
    for (int n = 1;
         dies_at_step(world, n,
                      [&](Scene& child) {
                          EXPECT_TRUE(child.storage->activate(*volume, child.base, {}).has_value());
                      });
         ++n) {
        Scene after(world);
        const Result<std::vector<VmId>> lost = after.storage->recover(std::vector<Volume>{*volume});
        ASSERT_TRUE(contract::succeeded(lost)) << "step " << n;
        EXPECT_THAT(*lost, testing::IsEmpty()) << "step " << n;
        ASSERT_TRUE(contract::succeeded(after.storage->activate(*volume, after.base, {})))
            << "step " << n;
        UniqueFd disk(::open(volume->path.c_str(), O_RDONLY | O_CLOEXEC));
        char head[4] = {};
        EXPECT_EQ(::pread(disk.get(), head, 4, 0), 4) << volume->path;
        EXPECT_EQ(std::string_view(head, 4), "head");
        disk.reset();
        EXPECT_TRUE(contract::succeeded(after.storage->deactivate(vm))) << "step " << n;
    }
    EXPECT_TRUE(contract::succeeded(Scene(world).storage->remove(vm)));
}

/// Lets every step fail in turn, the undoing ones too: create() leaves nothing, or what it could
/// not undo goes with remove().
inline void fail_at_every_step(World& world, VolumeRole role) {
    const std::vector<std::string> before = world.exists();
    const VmId vm = VmId::random();
    for (int n = 1;; ++n) {
        DmStorage::Options options = world.options();
        int left = n;
        options.before_step = [&](std::string_view step, std::stop_token) -> Result<void> {
            if (--left != 0) return ok();
            return Error(Errc::no_space, "no room for " + std::string(step), "Free some.");
        };
        Scene scene(world, std::move(options));
        const Result<Volume> made = scene.storage->create(scene.request(vm, role), {});
        if (made) {
            left = 0;
            EXPECT_TRUE(contract::succeeded(scene.storage->remove(vm)));
            EXPECT_GT(n, 8) << "there are that many steps";
            return;
        }
        EXPECT_TRUE(contract::failed_with(made, Errc::no_space)) << "step " << n;
        EXPECT_THAT(world.exists(), testing::UnorderedElementsAreArray(before)) << "step " << n;
    }
}

/// For the contract suite: a plugin in a world of its own.
class WorldSubject : public contract::StorageSubject {
public:
    explicit WorldSubject(std::unique_ptr<World> world) : world_(std::move(world)) { restart(); }
    Storage& role() override { return *storage_; }
    std::vector<std::string> exists() override { return world_->exists(); }
    void restart() override {
        storage_.reset();
        devices_ = world_->devices();
        DmStorage::Options options = world_->options();
        options.before_step = [this](std::string_view step, std::stop_token stop) {
            return before(step, std::move(stop));
        };
        storage_ = DmStorage::open(world_->host, *devices_, std::move(options)).value();
    }
    bool lose(const VmId& vm) override {
        EXPECT_TRUE(remove_tree(world_->host.state_folder() + "/" + vm.str()));
        return true;
    }
    bool fail_next() override { return fails_ = true; }
    bool hang_next() override { return hangs_ = true; }
    void await_hang() override {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return is_hanging_; });
    }

private:
    Result<void> before(std::string_view step, std::stop_token stop) {
        if (step != "resume") return ok();
        std::unique_lock lock(mutex_);
        if (std::exchange(fails_, false))
            return Error(Errc::no_space, "this step was to fail", "Try again.");
        if (!std::exchange(hangs_, false)) return ok();
        is_hanging_ = true;
        changed_.notify_all();
        changed_.wait(lock, stop, [] { return false; });
        return Error(Errc::cancelled, "cancelled");
    }

    std::unique_ptr<World> world_;
    std::unique_ptr<dm::BlockDevices> devices_;
    std::unique_ptr<DmStorage> storage_;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    bool fails_ = false;
    bool hangs_ = false;
    bool is_hanging_ = false;
};

}  // namespace banger
