#include "fake_storage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {

Error lost(const Volume& volume) {
    return {Errc::not_found, "the disk " + volume.path + " is gone", "Delete the machine."};
}

/// Copies the parts that hold something; holes stay holes.
Result<void> copy_sparse(int from, int to, off_t size, const std::stop_token& stop) {
    constexpr off_t piece = 4 << 20;
    off_t at = 0;
    while (at < size) {
        const off_t data = ::lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;
        if (data < 0) return Error::from_errno(errno, "reading the base");
        const off_t hole = std::min(::lseek(from, data, SEEK_HOLE), size);
        for (at = data; at < hole;) {
            if (stop.stop_requested()) return Error(Errc::cancelled, "copying was cancelled");
            off_t source = at;
            off_t target = at;
            const ssize_t copied =
                ::copy_file_range(from, &source, to, &target,
                                  static_cast<std::size_t>(std::min(piece, hole - at)), 0);
            if (copied < 0) return Error::from_errno(errno, "copying the base");
            if (copied == 0) return ok();
            at += copied;
        }
    }
    return ok();
}

}  // namespace

std::string FakeStorage::path_of(const VmId& vm, VolumeRole role) const {
    return folder_ + "/" + vm.str() + "-" + std::string(to_string(role)) + ".raw";
}

Result<Volume> FakeStorage::copy(int base, const VmId& vm, VolumeRole role, ByteCount size,
                                 std::stop_token stop) {
    struct stat status {};
    if (::fstat(base, &status) != 0) return Error::from_errno(errno, "looking at the base");
    if (size.count() < static_cast<std::uint64_t>(status.st_size))
        return Error(Errc::invalid_argument,
                     "a disk of " + size.text() + " is smaller than its base",
                     "Ask for a larger disk.");
    const std::string path = path_of(vm, role);
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file && errno == EEXIST)
        return Error(Errc::already_exists, "machine " + vm.str() + " has that disk already",
                     "Delete the machine first.");
    if (!file) return Error::from_errno(errno, "making " + path);
    Rollback rollback(nullptr);
    rollback.add("removing the disk", [&] { return remove_file(path); });
    BANGER_TRY(copy_sparse(base, file.get(), status.st_size, stop));
    BANGER_TRY(failpoints_.pass("storage.create", stop));
    if (::ftruncate(file.get(), static_cast<off_t>(size.count())) != 0)
        return Error::from_errno(errno, "growing " + path);
    rollback.commit();
    return Volume{vm, role, path, DiskFormat::raw, size};
}

Result<Volume> FakeStorage::create(const VolumeRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "making a disk was cancelled");
    if (std::ranges::find(request.formats, DiskFormat::raw) == request.formats.end())
        return Error(Errc::unsupported, "this storage makes raw disks only",
                     "Choose another back end.");
    return copy(request.base_fd, request.vm, request.role, request.size, std::move(stop));
}

Result<Volume> FakeStorage::activate(const Volume& volume, const UniqueFd&, std::stop_token stop) {
    BANGER_TRY(failpoints_.pass("storage.activate", std::move(stop)));
    if (!path_exists(volume.path)) return lost(volume);
    return volume;
}

Result<void> FakeStorage::deactivate(const VmId&) { return ok(); }

Result<Volume> FakeStorage::resize(const Volume& volume, ByteCount size, std::stop_token stop) {
    const UniqueFd file(::open(volume.path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) return lost(volume);
    if (size.count() < static_cast<std::uint64_t>(status.st_size))
        return Error(Errc::invalid_argument, "a disk only grows", "Ask for a larger size.");
    BANGER_TRY(failpoints_.pass("storage.resize", std::move(stop)));
    if (::ftruncate(file.get(), static_cast<off_t>(size.count())) != 0)
        return Error::from_errno(errno, "growing " + volume.path);
    Volume larger = volume;
    larger.size = size;
    return larger;
}

Result<VolumeUsage> FakeStorage::usage(const Volume& volume) {
    struct stat status {};
    if (::stat(volume.path.c_str(), &status) != 0) return lost(volume);
    return VolumeUsage{ByteCount::bytes(static_cast<std::uint64_t>(status.st_size)),
                       ByteCount::bytes(static_cast<std::uint64_t>(status.st_blocks) * 512),
                       std::nullopt};
}

Result<void> FakeStorage::remove(const VmId& vm) {
    ErrorCollector errors;
    for (const VolumeRole role : {VolumeRole::root, VolumeRole::work})
        errors.add(remove_file(path_of(vm, role)));
    return errors.result();
}

Result<std::vector<VmId>> FakeStorage::recover(std::span<const Volume> remembered) {
    std::vector<VmId> gone;
    for (const Volume& volume : remembered)
        if (!path_exists(volume.path) && std::ranges::find(gone, volume.vm) == gone.end())
            gone.push_back(volume.vm);
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(folder_)))
        if (std::ranges::none_of(remembered, [&](const Volume& volume) {
                return path_of(volume.vm, volume.role) == folder_ + "/" + name;
            }))
            errors.add(remove_file(folder_ + "/" + name), "removing a disk nobody knows");
    BANGER_TRY(errors.result());
    return gone;
}

Result<Volume> FakeStorage::clone(const Volume& source, const VmId& target, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "cloning was cancelled");
    const UniqueFd file(::open(source.path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!file) return lost(source);
    return copy(file.get(), target, source.role, source.size, std::move(stop));
}

std::vector<Check> FakeStorage::checks(std::stop_token) {
    return {{"fake storage", CheckStatus::pass, "disks are files in " + folder_, ""}};
}

}  // namespace banger
