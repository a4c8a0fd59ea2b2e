#include "tests/storage-dm/fake_block_devices.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "core/base/file.hpp"
#include "core/base/sparse_copy.hpp"

namespace banger::dm {

namespace {

Error gone(const std::string& uuid) { return {Errc::not_found, "no device " + uuid, "None."}; }

/// The same in every process.
DeviceNumber number_of(const std::string& uuid) {
    return {254, static_cast<unsigned>(std::hash<std::string>()(uuid) & 0xfffff)};
}

/// "7:3" → 3.
unsigned minor_of(const std::string& text) {
    return static_cast<unsigned>(std::stoul(text.substr(text.find(':') + 1)));
}

}  // namespace

std::string FakeBlockDevices::path_of(const std::string& uuid) const {
    return folder_ + "/" + uuid;
}

std::string FakeBlockDevices::content_of(DeviceNumber device) const {
    return folder_ + "/" + std::to_string(device.minor) + ".content";
}

Result<std::string> FakeBlockDevices::state_of(const std::string& uuid) const {
    Result<std::string> state = read_file(path_of(uuid), ByteCount::kib(4));
    if (!state) return gone(uuid);
    return state;
}

Result<Loop> FakeBlockDevices::attach_loop(int file, bool read_only) {
    const std::lock_guard lock(mutex_);
    Loop loop;
    loop.fd.reset(::fcntl(file, F_DUPFD_CLOEXEC, 0));
    loop.device = {7, next_++};
    loops_[loop.device.minor] = {loop.fd.duplicate(), read_only};
    return loop;
}

Result<DeviceNumber> FakeBlockDevices::create(const std::string&, const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    if (path_exists(path_of(uuid)))
        return Error(Errc::already_exists, "device " + uuid + " exists", "None.");
    BANGER_TRY(write_file_atomic(path_of(uuid), "created", 0600));
    return number_of(uuid);
}

Result<void> FakeBlockDevices::load(const std::string& uuid, std::span<const Target> targets) {
    const std::lock_guard lock(mutex_);
    BANGER_TRY(state_of(uuid));
    table.assign(targets.begin(), targets.end());
    tables_[uuid] = table;
    const UniqueFd content(
        ::open(content_of(number_of(uuid)).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    BANGER_TRY(fill(content.get(), table));
    return write_file_atomic(path_of(uuid), "loaded", 0600);
}

Result<void> FakeBlockDevices::resume(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(BANGER_TRY(state_of(uuid)), "loaded");
    return write_file_atomic(path_of(uuid), "live", 0600);
}

Result<std::optional<Mapping>> FakeBlockDevices::find(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    const Result<std::string> state = state_of(uuid);
    if (!state) return std::optional<Mapping>();
    return std::optional(Mapping{number_of(uuid), *state == "live", 0});
}

Result<void> FakeBlockDevices::remove(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    if (busy > 0) return --busy, Error(Errc::busy, "device " + uuid + " is open", "Close it.");
    BANGER_TRY(remove_file(content_of(number_of(uuid))));
    return remove_file(path_of(uuid));
}

Result<std::vector<Target>> FakeBlockDevices::status(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    BANGER_TRY(state_of(uuid));
    std::vector<Target> targets = tables_[uuid];
    for (Target& target : targets)
        if (target.type == "snapshot") target.parameters = snapshot_status;
    return targets;
}

Result<void> FakeBlockDevices::fill(int node, const std::vector<Target>& targets) {
    const Target& last = targets.back();
    if (::ftruncate(node, static_cast<off_t>((last.start + last.length) * sector_size)) != 0)
        return Error::from_errno(errno, "sizing the fake device");
    for (const Target& target : targets) {
        const auto offset = static_cast<off_t>(target.start * sector_size);
        const auto size = static_cast<off_t>(target.length * sector_size);
        std::istringstream words(target.parameters);
        std::string device;
        std::uint64_t skip = 0;
        words >> device;
        const int source = loops_.at(minor_of(device)).file.get();
        if (target.type == "snapshot") {
            EXPECT_TRUE(loops_.at(minor_of(device)).read_only) << "an image was open for writing";
            BANGER_TRY(copy_sparse(source, node, offset, size, {}));
            continue;
        }
        words >> skip;
        std::string head(1 << 20, '\0');
        const ssize_t count =
            ::pread(source, head.data(), head.size(), static_cast<off_t>(skip * sector_size));
        if (::pwrite(node, head.data(), static_cast<std::size_t>(count), offset) != count)
            return Error::from_errno(errno, "filling the fake device");
    }
    return ok();
}

Result<void> FakeBlockDevices::make_node(const std::string& folder, const std::string& name,
                                         DeviceNumber device, std::uint32_t) {
    const std::lock_guard lock(mutex_);
    BANGER_TRY(ensure_folder(folder, 0711));
    const UniqueFd content(::open(content_of(device).c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd node(
        ::open((folder + "/" + name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    struct stat status {};
    if (::fstat(content.get(), &status) != 0 || ::ftruncate(node.get(), status.st_size) != 0)
        return Error::from_errno(errno, "making the fake node");
    return copy_sparse(content.get(), node.get(), 0, status.st_size, {});
}

Result<void> FakeBlockDevices::remove_node(const std::string& folder, const std::string& name) {
    return remove_file(folder + "/" + name);
}

}  // namespace banger::dm
