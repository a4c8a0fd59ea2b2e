#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/remote/proxies.hpp"

/// What a machine asks of the root helper from its making to its end: disk, link, name, and their
/// removal. As the owner, on a host where banger is installed and no machine runs:
///
///     calls_of_helper SOCKET BASE-FILE BASE-FILE…
///
/// Prints lines "STAGE AT-ONCE MEDIAN P95" in milliseconds; for each base file one of its disk; and
/// "failed AT-ONCE COUNT 0".
namespace banger {
namespace {

using Clock = std::chrono::steady_clock;

class Times {
public:
    template <class Function>
    bool take(const std::string& stage, Function function) {
        const Clock::time_point begin = Clock::now();
        const auto result = function();
        const double took = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
        if (result) {
            add(stage, took);
            return true;
        }
        std::fprintf(stderr, "%s: %s\n", stage.c_str(), result.error().text().c_str());
        ++failures_;
        return false;
    }
    void add(const std::string& stage, double took) {
        const std::lock_guard lock(mutex_);
        times_[stage].push_back(took);
    }
    void print(int at_once) {
        for (auto& [stage, all] : times_) {
            std::ranges::sort(all);
            std::printf("%s %d %.2f %.2f\n", stage.c_str(), at_once, all[all.size() / 2],
                        all[std::min(all.size() - 1, all.size() * 95 / 100)]);
        }
        std::printf("failed %d %d 0\n", at_once, failures_.exchange(0));
        std::fflush(stdout);
        times_.clear();
    }
    void clear() { times_.clear(); }

private:
    std::atomic<int> failures_ = 0;
    std::mutex mutex_;
    std::map<std::string, std::vector<double>> times_;
};

struct Helper {
    std::unique_ptr<remote::RemotePlugin> network;
    std::unique_ptr<remote::RemotePlugin> storage;
    std::unique_ptr<remote::RemotePlugin> dns;  ///< null where resolved is off
};

void one_life(const Helper& helper, int base, unsigned n, Times& times) {
    const VmId vm = VmId::random();
    const VmName name = *VmName::parse("bench-" + vm.str());
    Network& network = *helper.network->roles().network;
    Storage& storage = *helper.storage->roles().storage;
    const Ipv4Prefix pool = *network.addressing().pool;
    const Ipv4Address address(pool.network().bits() + 100 + n);
    const auto uid = static_cast<std::uint32_t>(::geteuid());
    const Clock::time_point begin = Clock::now();
    const VolumeRequest volume{.vm = vm,
                               .role = VolumeRole::root,
                               .base_fd = base,
                               .size = ByteCount::gib(8),
                               .formats = {DiskFormat::raw},
                               .owner_uid = uid};
    bool is_whole = times.take("disk", [&] { return storage.create(volume, {}); });
    const LinkRequest link{vm, name, MacAddress::of(vm), address, true, uid, {}};
    is_whole &= times.take("attach", [&] { return network.attach(link, {}); });
    if (helper.dns != nullptr) {
        Dns& dns = *helper.dns->roles().dns;
        times.take("publish", [&] { return dns.publish({vm, name, address}, {}); });
        times.take("withdraw", [&] { return dns.withdraw(vm); });
    }
    is_whole &= times.take("detach", [&] { return network.detach(vm); });
    is_whole &= times.take("remove", [&] { return storage.remove(vm); });
    if (!is_whole) return;
    times.add("all", std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
}

int measure(const std::string& socket, const std::vector<std::string>& bases) {
    Result<std::shared_ptr<remote::Client>> client =
        remote::Client::open(remote::connect_to(socket), {});
    if (!client) {
        std::fprintf(stderr, "%s\n", client.error().text().c_str());
        return 1;
    }
    const auto open = [&](const char* name) {
        Result<std::unique_ptr<remote::RemotePlugin>> plugin =
            remote::RemotePlugin::open(*client, name);
        return plugin ? std::move(*plugin) : nullptr;
    };
    const Helper helper{open("net-bridge"), open("storage-dm"), open("dns-resolved")};
    if (!helper.network || !helper.storage) {
        std::fprintf(stderr, "the helper serves no net-bridge or no storage-dm\n");
        return 1;
    }
    std::vector<UniqueFd> files;
    for (const std::string& path : bases)
        files.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    Times times;
    for (unsigned i = 0; i < 3; ++i)
        one_life(helper, files[0].get(), 0, times);
    times.clear();
    for (unsigned i = 0; i < 20; ++i)
        one_life(helper, files[0].get(), 0, times);
    times.print(1);
    for (int round = 0; round < 3; ++round) {
        std::vector<std::jthread> threads;
        for (unsigned i = 0; i < 20; ++i)
            threads.emplace_back([&, i] { one_life(helper, files[0].get(), i, times); });
    }
    times.print(20);
    Storage& storage = *helper.storage->roles().storage;
    for (std::size_t i = 0; i < files.size(); ++i) {
        const auto size =
            ByteCount::bytes(static_cast<std::uint64_t>(::lseek(files[i].get(), 0, SEEK_END)));
        for (int round = 0; round < 20; ++round) {
            const VolumeRequest request{.vm = VmId::random(),
                                        .role = VolumeRole::root,
                                        .base_fd = files[i].get(),
                                        .size = size,
                                        .formats = {DiskFormat::raw},
                                        .owner_uid = static_cast<std::uint32_t>(::geteuid())};
            times.take("disk-of-" + std::to_string(size.in_mib() / 1024) + "-GiB",
                       [&] { return storage.create(request, {}); });
            if (!storage.remove(request.vm)) return 1;
        }
    }
    times.print(1);
    return 0;
}

}  // namespace
}  // namespace banger

int main(int count, char** words) {
    if (count < 3) {
        std::fprintf(stderr, "usage: calls_of_helper SOCKET BASE-FILE…\n");
        return 2;
    }
    return banger::measure(words[1], {words + 2, words + count});
}
