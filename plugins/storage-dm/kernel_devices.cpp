#include "plugins/storage-dm/kernel_devices.hpp"

#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>

#include "plugins/storage-dm/layout.hpp"

namespace banger::dm {

namespace {

constexpr char load_modules[] = "Load the kernel's modules: modprobe -a loop dm_snapshot";

/// What libdevmapper complained of last on this thread.
thread_local std::string complaint;

__attribute__((format(printf, 5, 6))) void keep_complaint(int level, const char*, int, int,
                                                          const char* format, ...) {
    if ((level & 7) > 3) return;  // _LOG_ERR: warnings and chatter go nowhere
    char text[512] = {};
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    complaint = text;
}

/// udev leaves the device alone: no links, no probing for the file systems a guest wrote.
constexpr std::uint16_t hands_off =
    DM_UDEV_DISABLE_DM_RULES_FLAG | DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
    DM_UDEV_DISABLE_DISK_RULES_FLAG | DM_UDEV_DISABLE_OTHER_RULES_FLAG;

/// One request to device-mapper, about the mapping of one UUID. Never by name: libdevmapper then
/// does not touch /dev/mapper.
class Task {
public:
    Task(int type, const std::string& uuid) : task_(::dm_task_create(type), ::dm_task_destroy) {
        is_set_ = task_ && (uuid.empty() || ::dm_task_set_uuid(task_.get(), uuid.c_str()) != 0);
    }
    [[nodiscard]] dm_task* get() const { return task_.get(); }
    /// For the builders below: 0 is failure, as everywhere in libdevmapper.
    void need(int result) { is_set_ = is_set_ && result != 0; }
    /// 0 or the errno.
    int run() {
        complaint.clear();
        if (!is_set_) return ENOMEM;
        if (::dm_task_run(task_.get()) != 0) return 0;
        const int number = ::dm_task_get_errno(task_.get());
        return number != 0 ? number : ENODEV;  // it did not even reach the kernel
    }

private:
    std::unique_ptr<dm_task, void (*)(dm_task*)> task_;
    bool is_set_ = false;
};

Error failure(int number, const std::string& doing, const std::string& uuid) {
    Error error = Error::from_errno(number, doing + " " + uuid);
    if (!complaint.empty()) error.message += " (" + complaint + ")";
    if (number == ENODEV || number == EINVAL || number == ENOENT) error.remedy = load_modules;
    if (number == EBUSY) {
        error.code = Errc::busy;
        error.remedy = "Stop what has it open.";
    }
    return error;
}

Error loop_failure(int number, const std::string& what) {
    Error error = Error::from_errno(number, what);
    if (error.remedy.empty()) error.remedy = load_modules;
    return error;
}

/// Free loop devices that somebody else took between our two questions before we give up.
constexpr int loop_attempts = 64;

}  // namespace

KernelDevices::KernelDevices() {
    // Settings of the whole library; nobody else in this process uses it. Without its semaphores a
    // request returns when the kernel is done, not when udev is.
    ::dm_log_with_errno_init(keep_complaint);
    ::dm_udev_set_sync_support(0);
    ::dm_udev_set_checking(0);
    ::dm_hold_control_dev(1);
}

Result<Loop> KernelDevices::attach_loop(int file, bool read_only) {
    const std::lock_guard one_at_a_time(loops_);
    struct stat content {};
    if (::fstat(file, &content) != 0) return loop_failure(errno, "looking at a disk's file");
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!control) return loop_failure(errno, "opening /dev/loop-control");
    for (int attempt = 0; attempt < loop_attempts; ++attempt) {
        const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0) return loop_failure(errno, "finding a free loop device");
        const std::string path = "/dev/loop" + std::to_string(number);
        Loop loop;
        loop.fd.reset(
            ::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW));
        if (!loop.fd) return loop_failure(errno, "opening " + path);
        struct stat status {};
        if (::fstat(loop.fd.get(), &status) != 0) return loop_failure(errno, "looking at " + path);
        if (!S_ISBLK(status.st_mode) || major(status.st_rdev) != LOOP_MAJOR)
            return Error(Errc::wrong_state, path + " is not a loop device",
                         "Find out who made it, and remove it.");
        // The size limit limits nothing. With it udev's rule (core/system) knows our loop devices
        // and does not look for file systems in what guests and owners wrote.
        loop_config config{};
        config.info.lo_sizelimit = static_cast<std::uint64_t>(content.st_size);
        config.fd = static_cast<std::uint32_t>(file);
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
        if (::ioctl(loop.fd.get(), LOOP_CONFIGURE, &config) == 0) {
            loop.device = {major(status.st_rdev), minor(status.st_rdev)};
            return loop;
        }
        if (errno != EBUSY) return loop_failure(errno, "attaching " + path);
    }
    return Error(Errc::busy, "every free loop device was taken at once", "Try again.");
}

Result<DeviceNumber> KernelDevices::create(const std::string& name, const std::string& uuid) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_CREATE, uuid);
    task.need(::dm_task_set_name(task.get(), name.c_str()));
    if (const int number = task.run(); number != 0)
        return failure(number, "making the device", uuid);
    dm_info info{};
    if (::dm_task_get_info(task.get(), &info) == 0 || info.exists == 0)
        return failure(ENODEV, "making the device", uuid);
    return DeviceNumber{info.major, info.minor};
}

Result<void> KernelDevices::load(const std::string& uuid, std::span<const Target> table) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_RELOAD, uuid);
    for (const Target& target : table)
        task.need(::dm_task_add_target(task.get(), target.start, target.length, target.type.c_str(),
                                       target.parameters.c_str()));
    if (const int number = task.run(); number != 0)
        return failure(number, "loading the table of", uuid);
    return ok();
}

Result<void> KernelDevices::resume(const std::string& uuid) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_RESUME, uuid);
    std::uint32_t cookie = 0;
    task.need(::dm_task_set_cookie(task.get(), &cookie, hands_off));
    if (const int number = task.run(); number != 0) return failure(number, "resuming", uuid);
    return ok();
}

Result<std::optional<Mapping>> KernelDevices::find(const std::string& uuid) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_INFO, uuid);
    dm_info info{};
    if (const int number = task.run(); number != 0 && number != ENXIO)
        return failure(number, "looking at", uuid);
    if (::dm_task_get_info(task.get(), &info) == 0 || info.exists == 0)
        return std::optional<Mapping>();
    return std::optional(Mapping{{info.major, info.minor},
                                 info.live_table != 0 && info.suspended == 0,
                                 static_cast<unsigned>(info.open_count)});
}

Result<void> KernelDevices::remove(const std::string& uuid) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_REMOVE, uuid);
    std::uint32_t cookie = 0;
    task.need(::dm_task_set_cookie(task.get(), &cookie, hands_off));
    const int number = task.run();
    if (number == 0 || number == ENXIO) return ok();
    return failure(number, "removing", uuid);
}

Result<std::vector<Target>> KernelDevices::status(const std::string& uuid) {
    const std::lock_guard one_at_a_time(mapper_);
    Task task(DM_DEVICE_STATUS, uuid);
    task.need(::dm_task_no_flush(task.get()));
    const int number = task.run();
    dm_info info{};
    if (number == ENXIO ||
        (number == 0 && (::dm_task_get_info(task.get(), &info) == 0 || info.exists == 0)))
        return Error(Errc::not_found, "there is no device " + uuid, "Start the machine.");
    if (number != 0) return failure(number, "asking for the status of", uuid);
    std::vector<Target> targets;
    void* next = nullptr;
    do {
        std::uint64_t start = 0;
        std::uint64_t length = 0;
        char* type = nullptr;
        char* parameters = nullptr;
        next = ::dm_get_next_target(task.get(), next, &start, &length, &type, &parameters);
        if (type) targets.push_back({start, length, type, parameters ? parameters : ""});
    } while (next);
    return targets;
}

Result<void> KernelDevices::make_node(const std::string& folder, const std::string& name,
                                      DeviceNumber device, std::uint32_t owner_uid) {
    const UniqueFd in = BANGER_TRY(open_node_folder(folder));
    if (::unlinkat(in.get(), name.c_str(), 0) != 0 && errno != ENOENT)
        return Error::from_errno(errno, "replacing " + folder + "/" + name);
    if (::mknodat(in.get(), name.c_str(), S_IFBLK | 0600, makedev(device.major, device.minor)) != 0)
        return Error::from_errno(errno, "making " + folder + "/" + name);
    return give_node(in, name, device, owner_uid);
}

Result<void> KernelDevices::remove_node(const std::string& folder, const std::string& name) {
    const std::string path = folder + "/" + name;
    if (::unlink(path.c_str()) == 0 || errno == ENOENT) return ok();
    return Error::from_errno(errno, "removing " + path);
}

std::vector<Check> KernelDevices::checks() {
    std::vector<Check> rows;
    char version[64] = {};
    {
        const std::lock_guard one_at_a_time(mapper_);
        Task task(DM_DEVICE_VERSION, "");
        const int number = task.run();
        if (number != 0 || ::dm_task_get_driver_version(task.get(), version, sizeof version) == 0) {
            const std::string why = failure(number != 0 ? number : ENODEV, "asking", "").message;
            rows.push_back({"device-mapper", CheckStatus::fail, why, load_modules});
        } else {
            rows.push_back(
                {"device-mapper", CheckStatus::pass, "version " + std::string(version), {}});
        }
    }
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (control)
        rows.push_back({"loop devices", CheckStatus::pass, "/dev/loop-control answers", {}});
    else
        rows.push_back({"loop devices", CheckStatus::fail,
                        Error::from_errno(errno, "opening /dev/loop-control").message,
                        load_modules});
    return rows;
}

Result<UniqueFd> open_node_folder(const std::string& folder) {
    if (::mkdir(folder.c_str(), 0711) != 0 && errno != EEXIST)
        return Error::from_errno(errno, "making " + folder);
    UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0)
        return Error::from_errno(errno, "opening " + folder);
    if (status.st_uid != ::geteuid() || (status.st_mode & 0022) != 0)
        return Error(Errc::permission_denied, "others may write in " + folder,
                     "Find out who made it, and remove it.");
    // Whatever the umask was: a VMM that is not root has to get through.
    if ((status.st_mode & 07777) != 0711 && ::fchmod(fd.get(), 0711) != 0)
        return Error::from_errno(errno, "opening " + folder);
    return fd;
}

Result<void> give_node(const UniqueFd& folder, const std::string& name, DeviceNumber device,
                       std::uint32_t owner_uid) {
    const UniqueFd node(::openat(folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!node || ::fstat(node.get(), &status) != 0)
        return Error::from_errno(errno, "looking at the device node " + name);
    if (!S_ISBLK(status.st_mode) || status.st_rdev != makedev(device.major, device.minor))
        return Error(Errc::wrong_state, "the device node " + name + " was replaced meanwhile",
                     "Find out who else works in /dev as root.");
    if (::fchownat(node.get(), "", owner_uid, static_cast<gid_t>(-1), AT_EMPTY_PATH) != 0)
        return Error::from_errno(errno,
                                 "giving the device node to uid " + std::to_string(owner_uid));
    return ok();
}

}  // namespace banger::dm
