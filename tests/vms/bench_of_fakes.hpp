#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/config/config.hpp"
#include "core/images/image_store.hpp"
#include "core/plugins/registry.hpp"
#include "core/store/store.hpp"
#include "core/vms/machines.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {

/// A call whose caller can go away, and that remembers what it was told.
class TestCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override {
        const std::lock_guard lock(mutex_);
        stages_.push_back(progress.stage);
    }
    void go_away() { source_.request_stop(); }

private:
    std::stop_source source_;
    std::mutex mutex_;
    std::vector<std::string> stages_;
};

/// What is on the "host" of the fakes: every file below their folders, and every process of theirs.
using HostInventory = std::vector<std::string>;

/// Core as the daemon puts it together, on the `fake` plugin as a real .so, below a folder of the
/// test's own. Opening a second one on the same folder is what a restarted daemon is.
class BenchOfFakes {
public:
    /// Called before every role call that can fail; an Error is returned instead of calling.
    using Before = std::function<std::optional<Error>(const PluginCall&)>;

    explicit BenchOfFakes(const std::string& folder, Before before = {});
    ~BenchOfFakes();

    Result<VmRecord> create(TestCall& call, const std::string& name = "sandbox", bool start = true);

    /// Files of the fakes and of core (but the database, images, kernels, templates and logs), and
    /// live processes, sorted. Empty when nothing is left of any machine.
    [[nodiscard]] HostInventory inventory() const;

    Store& store() { return *store_; }
    /// Read by machines() at each create.
    Config& config() { return config_; }
    Machines& machines() { return *machines_; }
    ImageStore& images() { return *images_; }
    /// Machines that are being watched.
    [[nodiscard]] std::vector<std::pair<VmId, ProcessId>> watched() const;
    std::vector<std::string> recovered;  ///< what recover() said

private:
    std::string folder_;
    Config config_;
    std::unique_ptr<Store> store_;
    std::unique_ptr<Registry> registry_;
    std::unique_ptr<ImageStore> images_;
    std::unique_ptr<Machines> machines_;
    mutable std::mutex mutex_;
    std::vector<std::pair<VmId, ProcessId>> watched_;
};

}  // namespace banger
