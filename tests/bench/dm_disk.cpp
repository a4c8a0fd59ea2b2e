// Disks of storage-dm on the running kernel: how long making and removing one takes, one alone and
// many at once, whatever its size; and what the choices behind it cost (chunk size, dm-thin). Needs
// root and device-mapper: push it to the lab and run it there. tests/bench/helper measures what a
// machine asks for, through the helper; this one, what docs/decisions/0007 was decided by.

#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "core/base/file.hpp"
#include "plugins/storage-dm/dm_storage.hpp"
#include "plugins/storage-dm/kernel_devices.hpp"
#include "tests/support/plain_host.hpp"

using namespace banger;

namespace {

using Clock = std::chrono::steady_clock;

constexpr char nodes[] = "/dev/banger-bench";

template <class T>
T need(Result<T> result) {
    if (result) return std::move(result).value();
    std::fprintf(stderr, "%s\n", result.error().text().c_str());
    std::exit(1);
}
void need(Result<void> result) {
    if (result) return;
    std::fprintf(stderr, "%s\n", result.error().text().c_str());
    std::exit(1);
}

double milliseconds(Clock::time_point from) {
    return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

/// "what median p95", for people and for the script.
void show(const std::string& what, std::vector<double> times) {
    std::ranges::sort(times);
    const double p95 = times[std::min(times.size() - 1, times.size() * 95 / 100)];
    std::printf("%s\t%.3f\t%.3f\n", what.c_str(), times[times.size() / 2], p95);
    std::fflush(stdout);
}

UniqueFd sparse_file(const std::string& path, std::uint64_t size) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) std::exit(1);
    return fd;
}

/// 4 KiB at `count` places of the disk, each written directly; milliseconds each.
std::vector<double> writes(const std::string& path, int count, std::uint64_t stride) {
    const std::unique_ptr<void, void (*)(void*)> page(std::aligned_alloc(4096, 4096), std::free);
    std::memset(page.get(), 'w', 4096);
    const UniqueFd disk(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    std::vector<double> times;
    for (int i = 0; i < count; ++i) {
        const auto begin = Clock::now();
        if (::pwrite(disk.get(), page.get(), 4096,
                     static_cast<off_t>(static_cast<std::uint64_t>(i) * stride)) != 4096)
            std::exit(1);
        times.push_back(milliseconds(begin));
    }
    return times;
}

void whole_disks(std::uint64_t gib, int rounds, int at_once) {
    PlainHost host;
    dm::KernelDevices devices;
    DmStorage::Options options;
    options.node_folder = nodes;
    const std::unique_ptr<DmStorage> storage = need(DmStorage::open(host, devices, options));
    const UniqueFd base = sparse_file(host / "base.img", gib << 30);
    std::vector<double> made(static_cast<std::size_t>(rounds * at_once));
    std::vector<double> removed(made.size());
    for (int round = 0; round < rounds; ++round) {
        std::vector<std::jthread> threads;
        for (int i = 0; i < at_once; ++i)
            threads.emplace_back([&, at = static_cast<std::size_t>(round * at_once + i)] {
                const VmId vm = VmId::random();
                const VolumeRequest request{vm,
                                            VolumeRole::root,
                                            base.get(),
                                            ByteCount::gib(gib),
                                            {DiskFormat::raw},
                                            ::geteuid()};
                auto begin = Clock::now();
                (void)need(storage->create(request, {}));
                made[at] = milliseconds(begin);
                begin = Clock::now();
                need(storage->remove(vm));
                removed[at] = milliseconds(begin);
            });
    }
    const std::string which = std::to_string(gib) + " GiB, " + std::to_string(at_once) + " at once";
    show("disk made, " + which, made);
    show("disk removed, " + which, removed);
}

/// A mapping over loops, made, written and removed by hand.
struct Raw {
    dm::KernelDevices& devices;
    std::string uuid = "BANGER-bench-" + VmId::random().str();

    double make(std::span<const dm::Target> table) {
        const auto begin = Clock::now();
        const dm::DeviceNumber device = need(devices.create(uuid, uuid));
        need(devices.load(uuid, table));
        need(devices.resume(uuid));
        const double took = milliseconds(begin);
        need(devices.make_node(nodes, "raw", device, ::geteuid()));
        return took;
    }
    double remove() {
        need(devices.remove_node(nodes, "raw"));
        const auto begin = Clock::now();
        while (!devices.remove(uuid))
            std::this_thread::yield();
        return milliseconds(begin);
    }
};

void chunks(std::uint64_t gib, int rounds) {
    const TempFolder folder;
    dm::KernelDevices devices;
    const UniqueFd base = sparse_file(folder / "base", gib << 30);
    for (const std::uint32_t chunk : {8u, 32u, 128u}) {
        std::vector<double> made, scattered, sequential, again, removed;
        for (int round = 0; round < rounds; ++round) {
            const dm::DiskRecord record{.size = ByteCount::gib(gib),
                                        .base_size = ByteCount::gib(gib),
                                        .chunk_sectors = chunk};
            const UniqueFd store =
                sparse_file(folder / "store", dm::store_size(record.base_size, chunk));
            Raw raw{devices};
            {
                const dm::Loop below = need(devices.attach_loop(base.get(), true));
                const dm::Loop above = need(devices.attach_loop(store.get(), false));
                made.push_back(raw.make(dm::table_of(record, {below.device, above.device, {}})));
            }
            const std::string path = std::string(nodes) + "/raw";
            for (const double t : writes(path, 100, 1 << 20))
                scattered.push_back(t);
            for (const double t : writes(path, 400, 4096))
                sequential.push_back(t);
            for (const double t : writes(path, 400, 4096))
                again.push_back(t);
            removed.push_back(raw.remove());
        }
        const std::string which = "snapshot, chunk " + std::to_string(chunk / 2) + " KiB: ";
        show(which + "made", made);
        show(which + "4 KiB to a new place", scattered);
        show(which + "4 KiB next to the last", sequential);
        show(which + "4 KiB over itself", again);
        show(which + "removed", removed);
    }
}

void message(const std::string& uuid, const std::string& text) {
    const std::unique_ptr<dm_task, void (*)(dm_task*)> task(::dm_task_create(DM_DEVICE_TARGET_MSG),
                                                            ::dm_task_destroy);
    ::dm_task_set_uuid(task.get(), uuid.c_str());
    ::dm_task_set_sector(task.get(), 0);
    ::dm_task_set_message(task.get(), text.c_str());
    if (::dm_task_run(task.get()) == 0) std::exit(1);
}

void thin(std::uint64_t gib, int rounds) {
    const TempFolder folder;
    dm::KernelDevices devices;
    const std::uint64_t pool_size = std::uint64_t{60} << 30;
    const UniqueFd base = sparse_file(folder / "base", gib << 30);
    const UniqueFd data = sparse_file(folder / "data", pool_size);
    const UniqueFd metadata = sparse_file(folder / "metadata", std::uint64_t{64} << 20);
    Raw pool{devices};
    std::optional<dm::Loop> below = need(devices.attach_loop(base.get(), true));
    {
        const dm::Loop on_data = need(devices.attach_loop(data.get(), false));
        const dm::Loop on_metadata = need(devices.attach_loop(metadata.get(), false));
        const dm::Target target{0, pool_size / 512, "thin-pool",
                                on_metadata.device.text() + " " + on_data.device.text() +
                                    " 128 1024 1 skip_block_zeroing"};
        show("thin: pool made", {pool.make({&target, 1})});
        need(devices.remove_node(nodes, "raw"));
    }
    const std::string pool_device = need(devices.find(pool.uuid))->device.text();
    std::vector<double> made, scattered, sequential, again, removed, snapped;
    for (int round = 1; round <= rounds; ++round) {
        Raw raw{devices};
        const std::string id = std::to_string(round);
        const auto begin = Clock::now();
        message(pool.uuid, "create_thin " + id);
        const double created = milliseconds(begin);
        const dm::Target target{0, (gib << 30) / 512, "thin",
                                pool_device + " " + id + " " + below->device.text()};
        made.push_back(created + raw.make({&target, 1}));
        const std::string path = std::string(nodes) + "/raw";
        for (const double t : writes(path, 100, 1 << 20))
            scattered.push_back(t);
        for (const double t : writes(path, 400, 4096))
            sequential.push_back(t);
        for (const double t : writes(path, 400, 4096))
            again.push_back(t);
        const double gone = raw.remove();
        const auto snap = Clock::now();
        message(pool.uuid, "create_snap " + std::to_string(round + 1000) + " " + id);
        snapped.push_back(milliseconds(snap));
        const auto deletion = Clock::now();
        message(pool.uuid, "delete " + id);
        removed.push_back(gone + milliseconds(deletion));
        message(pool.uuid, "delete " + std::to_string(round + 1000));
    }
    show("thin: made", made);
    show("thin: 4 KiB to a new place", scattered);
    show("thin: 4 KiB next to the last", sequential);
    show("thin: 4 KiB over itself", again);
    show("thin: removed", removed);
    show("thin: snapshot of a thin, at rest", snapped);
    below.reset();
    while (!devices.remove(pool.uuid))
        std::this_thread::yield();
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    const auto number = [&](int at, int otherwise) {
        return argc > at ? std::atoi(argv[at]) : otherwise;
    };
    const auto gib = static_cast<std::uint64_t>(number(2, 1));
    if (what == "disk")
        whole_disks(gib, number(3, 20), number(4, 1));
    else if (what == "chunks")
        chunks(gib, number(3, 5));
    else if (what == "thin")
        thin(gib, number(3, 5));
    else
        return std::fprintf(stderr, "dm_disk disk|chunks|thin GIB ROUNDS [AT_ONCE]\n"), 2;
    (void)::rmdir(nodes);
    return 0;
}
