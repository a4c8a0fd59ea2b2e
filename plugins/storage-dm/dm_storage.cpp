#include "plugins/storage-dm/dm_storage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <thread>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/base/sparse_copy.hpp"
#include "plugins/storage-dm/base_file.hpp"

namespace banger {

namespace {

constexpr VolumeRole all_roles[] = {VolumeRole::root, VolumeRole::work};
constexpr std::string_view record_kind = "disk";
constexpr std::string_view store_kind = "cow";
constexpr std::string_view data_kind = "data";
constexpr std::string_view all_kinds[] = {record_kind, store_kind, data_kind};

constexpr char free_some[] =
    "Free some disk space, or delete machines and images you no longer need.";

std::string disk_name(const VmId& vm, VolumeRole role) {
    return "the " + std::string(to_string(role)) + " disk of " + vm.str();
}

Error cancelled() { return {Errc::cancelled, "cancelled"}; }

Error failure(int number, const std::string& what) {
    Error error = Error::from_errno(number, what);
    if (error.remedy.empty())
        error.remedy = error.code == Errc::no_space
                           ? free_some
                           : "Look at the state folder's file system with `banger doctor`.";
    return error;
}

/// A file of a disk's, which nobody but us can have made: the folder is ours alone.
Result<UniqueFd> open_file(const std::string& path, int flags) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return failure(errno, "opening " + path);
    return fd;
}

Result<UniqueFd> make_sparse(const std::string& path, std::uint64_t size) {
    UniqueFd fd = BANGER_TRY(open_file(path, O_RDWR | O_CREAT | O_EXCL));
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
        return failure(errno, "sizing " + path);
    return fd;
}

/// Taken on the host, in bytes; 0 for a file that is not there.
std::uint64_t allocated_bytes(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return 0;
    return static_cast<std::uint64_t>(status.st_blocks) * 512;  // stat(3): whatever the file system
}

bool holds(std::span<const Volume> volumes, const VmId& vm, VolumeRole role) {
    return std::ranges::any_of(
        volumes, [&](const Volume& volume) { return volume.vm == vm && volume.role == role; });
}

}  // namespace

DmStorage::DmStorage(Host& host, dm::BlockDevices& devices, Options options, Ledger ledger)
    : host_(host), devices_(devices), options_(std::move(options)), ledger_(std::move(ledger)) {}

Result<std::unique_ptr<DmStorage>> DmStorage::open(Host& host, dm::BlockDevices& devices,
                                                   Options options) {
    BANGER_TRY(ensure_private_folder(host.state_folder()));
    Ledger ledger = BANGER_TRY(Ledger::open(host.run_folder()));
    std::unique_ptr<DmStorage> storage(
        new DmStorage(host, devices, std::move(options), std::move(ledger)));
    // What cannot be swept now is no reason to serve nobody: recover() tries again.
    const Result<void> swept = storage->sweep();
    if (!swept) host.log(LogLevel::warning, "while sweeping: " + swept.error().text());
    return storage;
}

// ---- names and records -------------------------------------------------------------------------

Result<void> DmStorage::step(std::string_view name, std::stop_token stop) const {
    if (stop.stop_requested()) return cancelled();
    if (!options_.before_step) return ok();
    return options_.before_step(name, std::move(stop));
}

std::string DmStorage::folder_of(const VmId& vm) const {
    return host_.state_folder() + "/" + vm.str();
}

std::string DmStorage::file_of(const VmId& vm, VolumeRole role, std::string_view kind) const {
    return folder_of(vm) + "/" + std::string(to_string(role)) + "." + std::string(kind);
}

Volume DmStorage::volume_of(const Disk& disk) const {
    return {disk.vm, disk.role, options_.node_folder + "/" + dm::key_of(disk.vm, disk.role),
            DiskFormat::raw, disk.record.size};
}

Result<DmStorage::Disk> DmStorage::find(const VmId& vm, VolumeRole role) const {
    const Error lost(Errc::not_found, disk_name(vm, role) + " is lost",
                     "Delete the machine and create it again.");
    const Result<std::string> text = read_file(file_of(vm, role, record_kind), ByteCount::kib(4));
    if (!text) return text.error().code == Errc::not_found ? lost : text.error();
    const dm::DiskRecord record =
        BANGER_TRY(dm::decode(*text).context("reading " + disk_name(vm, role)));
    const bool is_whole =
        (record.base_size.count() == 0 || path_exists(file_of(vm, role, store_kind))) &&
        (record.data_size().count() == 0 || path_exists(file_of(vm, role, data_kind)));
    if (!is_whole) return lost;
    return Disk{vm, role, record};
}

Result<void> DmStorage::write_record(const Disk& disk) const {
    return write_file_atomic(file_of(disk.vm, disk.role, record_kind), dm::encode(disk.record),
                             0600);
}

Result<void> DmStorage::check_space() const {
    struct statvfs space {};
    if (::statvfs(host_.state_folder().c_str(), &space) != 0)
        return failure(errno, "looking at " + host_.state_folder());
    const ByteCount free = ByteCount::bytes(std::uint64_t{space.f_bavail} * space.f_frsize);
    if (free >= options_.least_free) return ok();
    return Error(Errc::no_space, "only " + free.text() + " are free in " + host_.state_folder(),
                 free_some);
}

// ---- making ------------------------------------------------------------------------------------

Result<Volume> DmStorage::create(const VolumeRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    if (std::ranges::find(request.formats, DiskFormat::raw) == request.formats.end())
        return Error(Errc::unsupported, "storage-dm makes block devices, which are raw",
                     "Choose another back end or another storage.");
    const dm::BaseFile base = BANGER_TRY(dm::examine_base(request.base_fd, request.owner_uid));
    if (request.size < base.size)
        return Error(Errc::invalid_argument,
                     "a disk of " + request.size.text() + " is smaller than its image",
                     "Ask for a larger --disk-size.");
    BANGER_TRY(dm::check_size(request.size));
    const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(request.vm.str(), stop));
    if (path_exists(file_of(request.vm, request.role, record_kind)))
        return Error(Errc::already_exists,
                     disk_name(request.vm, request.role) + " is there already",
                     "Delete the machine first.");
    BANGER_TRY(check_space());

    const bool is_snapshot = request.role == VolumeRole::root;
    const Disk disk{request.vm,
                    request.role,
                    {.size = request.size,
                     .base_size = is_snapshot ? base.size : ByteCount(),
                     .base_changed = is_snapshot ? base.changed : 0,
                     .owner_uid = request.owner_uid}};
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    rollback.add("removing " + disk_name(disk.vm, disk.role),
                 [&] { return remove_disk(disk.vm, disk.role); });
    BANGER_TRY(make_files(disk, request.base_fd, base.size, stop));
    BANGER_TRY(step("write-record", stop));
    BANGER_TRY(write_record(disk));
    BANGER_TRY(map(disk, request.base_fd, stop));
    BANGER_TRY(step("finish", stop));
    rollback.commit();
    return volume_of(disk);
}

Result<void> DmStorage::make_files(const Disk& disk, int base_fd, ByteCount base_size,
                                   std::stop_token stop) const {
    BANGER_TRY(step("make-folder", stop));
    BANGER_TRY(ensure_folder(folder_of(disk.vm), 0700));
    BANGER_TRY(step("remove-remains", stop));
    for (const std::string_view kind : {store_kind, data_kind})
        BANGER_TRY(remove_file(file_of(disk.vm, disk.role, kind)));
    if (disk.record.base_size.count() != 0) {
        BANGER_TRY(step("make-store", stop));
        BANGER_TRY(make_sparse(file_of(disk.vm, disk.role, store_kind),
                               dm::store_size(disk.record.base_size, disk.record.chunk_sectors)));
    }
    if (disk.record.data_size().count() == 0) return ok();
    BANGER_TRY(step("make-data", stop));
    const UniqueFd data = BANGER_TRY(make_sparse(file_of(disk.vm, disk.role, data_kind),
                                                 dm::data_file_size(disk.record.data_size())));
    if (disk.record.base_size.count() != 0) return ok();
    BANGER_TRY(step("copy-base", stop));
    BANGER_TRY(copy_sparse(base_fd, data.get(), dm::margin, static_cast<off_t>(base_size.count()),
                           std::move(stop)));
    if (::fdatasync(data.get()) != 0) return failure(errno, "writing the disk's content");
    return ok();
}

Result<void> DmStorage::map(const Disk& disk, int base_fd, std::stop_token stop) {
    const std::string key = dm::key_of(disk.vm, disk.role);
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    rollback.add("unmapping " + disk_name(disk.vm, disk.role),
                 [&] { return unmap(disk.vm, disk.role); });
    BANGER_TRY(step("write-ledger", stop));
    BANGER_TRY(ledger_.write(key, dm::uuid_of(disk.vm, disk.role, disk.record.owner_uid)));
    BANGER_TRY(make_mapping(disk, base_fd, std::move(stop)));
    rollback.commit();
    return ok();
}

Result<void> DmStorage::make_mapping(const Disk& disk, int base_fd, std::stop_token stop) {
    const auto attach = [&](std::string_view kind) -> Result<dm::Loop> {
        BANGER_TRY(step("attach-" + std::string(kind), stop));
        const UniqueFd file = BANGER_TRY(open_file(file_of(disk.vm, disk.role, kind), O_RDWR));
        return devices_.attach_loop(file.get(), false);
    };
    // Open until the mapping has them: a loop device that nobody has open is gone.
    dm::Loop base_loop;
    dm::Loop store_loop;
    dm::Loop data_loop;
    if (disk.record.base_size.count() != 0) {
        BANGER_TRY(step("attach-base", stop));
        base_loop = BANGER_TRY(devices_.attach_loop(base_fd, true));
        store_loop = BANGER_TRY(attach(store_kind));
    }
    if (disk.record.data_size().count() != 0) data_loop = BANGER_TRY(attach(data_kind));
    const std::vector<dm::Target> table =
        dm::table_of(disk.record, {base_loop.device, store_loop.device, data_loop.device});

    const std::string uuid = dm::uuid_of(disk.vm, disk.role, disk.record.owner_uid);
    BANGER_TRY(step("create-mapping", stop));
    const dm::DeviceNumber device =
        BANGER_TRY(devices_.create(dm::name_of(disk.vm, disk.role, disk.record.owner_uid), uuid));
    BANGER_TRY(step("load-table", stop));
    BANGER_TRY(devices_.load(uuid, table));
    BANGER_TRY(step("resume", stop));
    BANGER_TRY(devices_.resume(uuid));
    BANGER_TRY(step("make-node", stop));
    return devices_.make_node(options_.node_folder, dm::key_of(disk.vm, disk.role), device,
                              disk.record.owner_uid);
}

Result<Volume> DmStorage::activate(const Volume& volume, const UniqueFd& base,
                                   std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(volume.vm.str(), stop));
    const Disk disk = BANGER_TRY(find(volume.vm, volume.role));
    const std::string uuid = dm::uuid_of(disk.vm, disk.role, disk.record.owner_uid);
    const std::optional<dm::Mapping> there = BANGER_TRY(devices_.find(uuid));
    if (there && there->is_live) {
        // Its ledger entry may be gone with /run, its node with an administrator: made again.
        BANGER_TRY(ledger_.write(dm::key_of(disk.vm, disk.role), uuid));
        BANGER_TRY(devices_.make_node(options_.node_folder, dm::key_of(disk.vm, disk.role),
                                      there->device, disk.record.owner_uid));
        return volume_of(disk);
    }
    BANGER_TRY(unmap(disk.vm, disk.role));
    BANGER_TRY(check_space());
    if (disk.record.base_size.count() != 0) {
        if (!base)
            return Error(Errc::not_found,
                         "the image that " + disk_name(disk.vm, disk.role) + " needs is gone",
                         "Pull it again, or delete the machine.");
        const dm::BaseFile found = BANGER_TRY(dm::examine_base(base.get(), disk.record.owner_uid));
        if (found != dm::BaseFile{disk.record.base_size, disk.record.base_changed})
            return Error(Errc::corrupt,
                         disk_name(disk.vm, disk.role) + " was made from another image than this",
                         "Bring the image back as it was, or delete the machine.");
    }
    BANGER_TRY(map(disk, base.get(), std::move(stop)));
    return volume_of(disk);
}

Result<Volume> DmStorage::resize(const Volume& volume, ByteCount size, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    BANGER_TRY(dm::check_size(size));
    const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(volume.vm.str(), stop));
    Disk disk = BANGER_TRY(find(volume.vm, volume.role));
    if (size < disk.record.size)
        return Error(
            Errc::invalid_argument,
            "a disk only grows: it has " + disk.record.size.text() + ", more than " + size.text(),
            "Ask for a larger size.");
    if (size == disk.record.size) return volume_of(disk);
    BANGER_TRY(unmap(disk.vm, disk.role));
    disk.record.size = size;
    // The file first: one that is too large is harmless, a record that promises too much is not.
    const UniqueFd data =
        BANGER_TRY(open_file(file_of(disk.vm, disk.role, data_kind), O_RDWR | O_CREAT));
    if (::ftruncate(data.get(), static_cast<off_t>(dm::data_file_size(disk.record.data_size()))) !=
        0)
        return failure(errno, "growing the disk");
    BANGER_TRY(write_record(disk));
    return volume_of(disk);
}

// ---- unmaking ----------------------------------------------------------------------------------

Result<void> DmStorage::remove_mapping(const std::string& uuid) {
    using namespace std::chrono_literals;
    const auto deadline = std::chrono::steady_clock::now() + options_.busy_deadline;
    for (auto pause = 2ms;; pause = std::min(pause * 2, 200ms)) {
        Result<void> removed = devices_.remove(uuid);
        // The kernel closes a VMM's files a moment after its exit was seen, and udev may look at
        // the device once more. There is nothing to wait on but time.
        if (removed || removed.error().code != Errc::busy) return removed;
        if (std::chrono::steady_clock::now() + pause > deadline) {
            removed.error().code = Errc::in_use;
            return removed;
        }
        std::this_thread::sleep_for(pause);
    }
}

Result<void> DmStorage::unmap(const VmId& vm, VolumeRole role) {
    const std::string key = dm::key_of(vm, role);
    Result<std::string> uuid = ledger_.read(key);
    if (!uuid && uuid.error().code == Errc::not_found) {
        // The ledger ends with /run. A device that outlived it is known by the disk's own record.
        const Result<Disk> disk = find(vm, role);
        if (!disk) return ok();
        uuid = dm::uuid_of(vm, role, disk->record.owner_uid);
        if (!BANGER_TRY(devices_.find(*uuid))) return ok();
    }
    if (!uuid) return uuid.error();
    const std::optional<dm::Identity> identity = dm::parse_identity(key, *uuid);
    if (!identity)
        return Error(Errc::corrupt, "the ledger entry " + key + " is not one of ours",
                     "Look at it, and remove it by hand.");
    ErrorCollector errors;
    const auto run = [&](std::string_view name, const std::function<Result<void>()>& undo) {
        Result<void> done = step(name, {});
        if (done) done = undo();
        errors.add(std::move(done), "taking down " + disk_name(vm, role));
    };
    // Before the mapping: the number may be another device's as soon as that is gone.
    run("remove-node", [&] { return devices_.remove_node(options_.node_folder, key); });
    run("remove-mapping", [&] { return remove_mapping(identity->uuid); });
    if (!errors.has_errors()) run("erase-ledger", [&] { return ledger_.erase(key); });
    return errors.result();
}

Result<void> DmStorage::deactivate(const VmId& vm) {
    const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(vm.str(), {}));
    ErrorCollector errors;
    for (const VolumeRole role : all_roles)
        errors.add(unmap(vm, role));
    return errors.result();
}

Result<void> DmStorage::remove_disk(const VmId& vm, VolumeRole role) {
    // As long as the device is there, so is the record by which it is found again.
    BANGER_TRY(unmap(vm, role));
    ErrorCollector errors;
    for (const std::string_view kind : all_kinds)
        errors.add(remove_file(file_of(vm, role, kind)), "removing " + disk_name(vm, role));
    // Fails, rightly, while the other disk is in it.
    (void)::rmdir(folder_of(vm).c_str());
    return errors.result();
}

Result<void> DmStorage::remove(const VmId& vm) {
    const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(vm.str(), {}));
    ErrorCollector errors;
    for (const VolumeRole role : all_roles)
        errors.add(remove_disk(vm, role));
    // Also what a crash left beside them.
    if (!errors.has_errors()) errors.add(remove_tree(folder_of(vm)));
    return errors.result();
}

// ---- after the fact ----------------------------------------------------------------------------

Result<std::vector<VmId>> DmStorage::machines() const {
    std::set<VmId> found;
    for (const std::string& name : BANGER_TRY(list_folder(host_.state_folder()))) {
        const Result<VmId> vm = VmId::parse(name);
        if (vm) found.insert(*vm);
    }
    const Ledger::Contents ledger = BANGER_TRY(ledger_.entries());
    for (const Error& damaged : ledger.damaged)
        host_.log(LogLevel::warning, damaged.text());
    for (const Ledger::Entry& entry : ledger.entries) {
        const std::optional<dm::Identity> identity = dm::parse_identity(entry.key, entry.text);
        if (identity)
            found.insert(identity->vm);
        else
            host_.log(LogLevel::warning, "the ledger entry " + entry.key + " is not one of ours");
    }
    return std::vector<VmId>(found.begin(), found.end());
}

Result<void> DmStorage::sweep() {
    ErrorCollector errors;
    const Ledger::Contents ledger = BANGER_TRY(ledger_.entries());
    for (const Ledger::Entry& entry : ledger.entries) {
        const std::optional<dm::Identity> identity = dm::parse_identity(entry.key, entry.text);
        if (!identity) continue;
        const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(identity->vm.str(), {}));
        const Result<std::optional<dm::Mapping>> mapping = devices_.find(identity->uuid);
        if (!mapping)
            errors.add(mapping.error());
        else if (!*mapping || !(*mapping)->is_live)
            errors.add(unmap(identity->vm, identity->role));
    }
    for (const VmId& vm : BANGER_TRY(machines())) {
        const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(vm.str(), {}));
        for (const VolumeRole role : all_roles)
            if (!path_exists(file_of(vm, role, record_kind))) errors.add(remove_disk(vm, role));
    }
    return errors.result();
}

Result<std::vector<VmId>> DmStorage::recover(std::span<const Volume> remembered) {
    std::vector<VmId> gone;
    for (const Volume& volume : remembered) {
        const Result<Disk> there = find(volume.vm, volume.role);
        if (there) continue;
        host_.log(LogLevel::warning, there.error().text());
        if (std::ranges::find(gone, volume.vm) == gone.end()) gone.push_back(volume.vm);
    }
    ErrorCollector errors;
    errors.add(sweep());
    for (const VmId& vm : BANGER_TRY(machines())) {
        const KeyedLock::Guard guard = BANGER_TRY(locks_.acquire(vm.str(), {}));
        for (const VolumeRole role : all_roles)
            if (!holds(remembered, vm, role)) errors.add(remove_disk(vm, role));
        const bool is_known =
            std::ranges::any_of(remembered, [&](const Volume& volume) { return volume.vm == vm; });
        // A record that was being written.
        if (!is_known && !errors.has_errors()) errors.add(remove_tree(folder_of(vm)));
    }
    BANGER_TRY(errors.result());
    // Fails, rightly, while a node is in it. Nothing of ours stays after the last machine.
    (void)::rmdir(options_.node_folder.c_str());
    return gone;
}

// ---- looking -----------------------------------------------------------------------------------

Result<VolumeUsage> DmStorage::usage(const Volume& volume) {
    const Disk disk = BANGER_TRY(find(volume.vm, volume.role));
    VolumeUsage usage{disk.record.size,
                      ByteCount::bytes(allocated_bytes(file_of(disk.vm, disk.role, store_kind)) +
                                       allocated_bytes(file_of(disk.vm, disk.role, data_kind))),
                      std::nullopt};
    if (disk.record.base_size.count() == 0) return usage;
    // The store has room for every chunk, so only the host's free space limits the disk, until the
    // kernel gave the snapshot up.
    const Result<std::vector<dm::Target>> targets =
        devices_.status(dm::uuid_of(disk.vm, disk.role, disk.record.owner_uid));
    if (!targets && targets.error().code != Errc::not_found) return targets.error();
    if (!targets || targets->empty()) return usage;
    const dm::SnapshotState state =
        BANGER_TRY(dm::parse_snapshot_status(targets->front().parameters));
    if (state != dm::SnapshotState::good) usage.headroom = ByteCount();
    return usage;
}

std::vector<Check> DmStorage::checks(std::stop_token) {
    std::vector<Check> rows = devices_.checks();
    struct statvfs space {};
    if (::statvfs(host_.state_folder().c_str(), &space) != 0) {
        const Error error = failure(errno, host_.state_folder());
        rows.push_back({"disk space", CheckStatus::fail, error.message, error.remedy});
        return rows;
    }
    std::uint64_t promised = 0;
    std::uint64_t taken = 0;
    for (const VmId& vm : machines().value_or({})) {
        for (const VolumeRole role : all_roles) {
            const Result<Disk> disk = find(vm, role);
            if (!disk) continue;
            const Volume volume = volume_of(*disk);
            const Result<VolumeUsage> usage_now = usage(volume);
            promised += disk->record.size.count();
            if (!usage_now) continue;
            taken += std::min(usage_now->allocated, disk->record.size).count();
            if (usage_now->headroom)
                rows.push_back({disk_name(vm, role), CheckStatus::fail,
                                "its copy-on-write store could not be written: the file system "
                                "was full, or the disk is failing",
                                "Save what you can from the machine, then delete it."});
        }
    }
    const ByteCount free = ByteCount::bytes(std::uint64_t{space.f_bavail} * space.f_frsize);
    const std::uint64_t growth = promised - taken;
    const std::string detail = free.text() + " free in " + host_.state_folder() +
                               ", machines' disks may still grow by " +
                               ByteCount::bytes(growth).text();
    // Of what the disks could have together: a store that cannot be written breaks its machine.
    const std::uint64_t percent_used =
        taken + free.count() == 0 ? 100 : 100 - free.count() * 100 / (taken + free.count());
    const bool may_overflow = growth > free.count();
    CheckStatus status = CheckStatus::pass;
    if (free < options_.least_free || (may_overflow && percent_used > 95))
        status = CheckStatus::fail;
    else if (may_overflow && percent_used > 80)
        status = CheckStatus::warn;
    rows.push_back({"disk space", status, detail, status == CheckStatus::pass ? "" : free_some});
    return rows;
}

}  // namespace banger
