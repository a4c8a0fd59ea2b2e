#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/store/records.hpp"

namespace banger {

struct StoreOptions {
    /// How long an address that was given back rests, so that a stale name or connection does not
    /// reach another machine.
    std::chrono::seconds quarantine{60};
    /// Unix time; a test sets its own.
    std::function<UnixTime()> clock = {};
};

/// Everything bangerd has to know after a restart, in one SQLite file.
///
/// Safe from any thread: one connection behind a mutex, every call short (no call holds the mutex
/// while anything but the database is waited for). Every method is one transaction: it happened or
/// it did not, whatever the process or the machine does meanwhile.
///
/// Changes of machines, images and kernels are on the disk when the call returns. Journal and
/// history entries survive a crash of the process at once, and a power failure only together with
/// the next change of a machine: what they describe in the kernel does not survive a power failure
/// either, and files on disk are found by each plugin's own recover().
///
/// Errors of every method, besides its own: no_space (the disk is full: nothing changed, the store
/// stays usable), busy (another process holds the file for longer than 5 s), corrupt (the file is
/// damaged, or holds what this version never wrote), permission_denied.
class Store {
public:
    /// Opens the file, makes it and its folder when there is none (0600 in 0700, from birth), and
    /// brings an older schema up to date in one transaction. Refuses, and leaves the file
    /// untouched: one of a newer banger (Errc::unsupported), one that is damaged or not ours
    /// (Errc::corrupt), one that belongs to another user or is a symbolic link
    /// (Errc::permission_denied).
    static Result<std::unique_ptr<Store>> open(const std::string& path, StoreOptions options = {});
    ~Store();
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    // ---- machines ----

    /// Takes id, name and, when the network has a pool, the lowest free address, all at once, and
    /// returns the record as it now stands (`address`, `created_at` filled in). The prefix' own
    /// address is the host's and is never given out, nor are the first and the last.
    ///
    /// Errors: already_exists (the name), no_space (the pool; the remedy says when one gets free),
    /// not_found (image or kernel is not in the store), wrong_state (it is not ready).
    Result<VmRecord> reserve_machine(VmRecord machine, std::optional<Ipv4Prefix> pool);
    /// Writes everything but what never changes (see VmRecord). Errc::not_found when it was
    /// removed.
    Result<void> save_machine(const VmRecord& machine);
    /// Gives name and address back. Succeeds when there is none. Errc::in_use while the journal
    /// still holds resources of it: unmake those first.
    Result<void> remove_machine(const VmId& vm);
    /// By name.
    Result<std::vector<VmRecord>> machines();
    Result<VmRecord> machine(const VmId& vm);
    /// What a user typed: an id, a name, or the beginning of exactly one id; tried in this order.
    /// Errors: not_found (with the nearest name, if one is near), invalid_argument (ambiguous:
    /// lists the candidates).
    Result<VmRecord> find_machine(std::string_view text);

    // ---- images and kernels ----

    /// Errc::already_exists when name or id is taken. `created_at` is set when it is zero.
    Result<void> add_image(const ImageRecord& image);
    /// Writes everything but id and name. Errc::not_found when it was removed.
    Result<void> save_image(const ImageRecord& image);
    /// Removes the one of that id and adds the other, which may have its name: both or neither.
    /// Errc::in_use names the machines that need the old one; not_found when it is gone.
    Result<void> replace_image(const std::string& old_id, const ImageRecord& image);
    /// Succeeds when there is none. Errc::in_use names the machines that need it.
    Result<void> remove_image(const std::string& id);
    /// By name.
    Result<std::vector<ImageRecord>> images();
    /// As find_machine(), and by canonical reference and what it was asked for by.
    Result<ImageRecord> find_image(std::string_view text);
    /// Names of machines, sorted.
    Result<std::vector<std::string>> machines_using_image(const std::string& id);

    Result<void> add_kernel(const KernelRecord& kernel);
    Result<void> save_kernel(const KernelRecord& kernel);
    Result<void> replace_kernel(const std::string& old_id, const KernelRecord& kernel);
    Result<void> remove_kernel(const std::string& id);
    Result<std::vector<KernelRecord>> kernels();
    Result<KernelRecord> find_kernel(std::string_view text);
    Result<std::vector<std::string>> machines_using_kernel(const std::string& id);

    // ---- journal of what is on the host ----

    /// Call it *before* making the thing. Errc::not_found when the machine is not in the store.
    Result<std::int64_t> record_resource(const VmId& vm, ResourceKind kind, std::string_view plugin,
                                         std::string_view detail);
    /// Call it *after* unmaking the thing. Succeeds when the entry is gone already.
    Result<void> forget_resource(std::int64_t id);
    /// Every entry of one kind of a machine: what one removal call of a role unmakes.
    Result<void> forget_resources(const VmId& vm, ResourceKind kind);
    /// In the order they were recorded; unmake from the back.
    Result<std::vector<ResourceRecord>> resources_of(const VmId& vm);
    Result<std::vector<ResourceRecord>> resources();

    // ---- history ----

    Result<std::int64_t> begin_operation(std::string_view kind, std::string_view subject);
    /// A null error is success. Errc::cancelled is its own outcome. Unknown ids succeed: old
    /// history is dropped.
    Result<void> end_operation(std::int64_t id, const Error* error);
    /// For the start of a daemon: whatever is `running` was cut off. Returns how many there were.
    Result<std::int64_t> mark_interrupted_operations();
    /// The latest first. At most 1000 are kept.
    Result<std::vector<OperationRecord>> operations(std::int64_t limit);

private:
    class Database;
    explicit Store(std::unique_ptr<Database> database);
    std::unique_ptr<Database> database_;
};

}  // namespace banger
