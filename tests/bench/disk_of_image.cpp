#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "plugins/storage-file/file_storage.hpp"
#include "tests/support/plain_host.hpp"

/// How long storage-file takes to make a disk over an image of a given size (GiB, written out, not
/// sparse). Prints the median of 21 in milliseconds.
int main(int argc, char** argv) {
    using namespace banger;
    using Clock = std::chrono::steady_clock;
    const std::uint64_t gib = argc > 1 ? std::stoull(argv[1]) : 1;
    PlainHost host;
    FileStorage storage(host);
    const std::string path = host.state_folder() + "/base.ext4";
    const UniqueFd base(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (::posix_fallocate(base.get(), 0, static_cast<off_t>(gib << 30)) != 0) {
        std::perror("making the image");
        return 1;
    }
    std::vector<double> took;
    for (int round = 0; round < 21; ++round) {
        const VmId vm = VmId::random();
        const VolumeRequest request{.vm = vm,
                                    .role = VolumeRole::root,
                                    .base_fd = base.get(),
                                    .size = ByteCount::gib(gib + 8),
                                    .formats = {DiskFormat::raw, DiskFormat::qcow2},
                                    .owner_uid = ::geteuid()};
        const Clock::time_point began = Clock::now();
        const Result<Volume> made = storage.create(request, {});
        took.push_back(std::chrono::duration<double, std::milli>(Clock::now() - began).count());
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().text().c_str());
            return 1;
        }
        if (!storage.remove(vm)) return 1;
    }
    std::ranges::sort(took);
    std::printf("%.2f\n", took[took.size() / 2]);
    return 0;
}
