#include "fake_network.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger {

/// A port that nobody listens on and that no other link was given. The mutex is held.
Result<std::uint16_t> FakeNetwork::free_port(std::set<std::uint16_t>& chosen) {
    // Each socket stays open until a port is found, so the kernel does not offer one twice.
    std::vector<UniqueFd> tried;
    for (int i = 0; i < 64; ++i) {
        UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        if (!fd || ::bind(fd.get(), generic, size) != 0 ||
            ::getsockname(fd.get(), generic, &size) != 0)
            return Error::from_errno(errno, "choosing a port");
        const std::uint16_t port = ntohs(address.sin_port);
        const bool is_taken = std::ranges::any_of(
            ports_, [&](const auto& entry) { return entry.second.contains(port); });
        if (!is_taken && chosen.insert(port).second) return port;
        tried.push_back(std::move(fd));
    }
    return Error(Errc::no_space, "no free port on the host", "Delete a machine.");
}

Result<NetworkLink> FakeNetwork::attach(const LinkRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "attach was cancelled");
    if (pool_ && (!request.address || !pool_->contains(*request.address)))
        return Error(Errc::invalid_argument, "the machine has no address of " + pool_->text());
    const std::string file = file_of(request.vm);
    const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd && errno == EEXIST)
        return Error(Errc::already_exists, "machine " + request.vm.str() + " has a link already",
                     "Stop the machine first.");
    if (!fd) return Error::from_errno(errno, "making the link " + file);
    Rollback rollback(nullptr);
    rollback.add("removing the link", [&] { return detach(request.vm); });

    const Ipv4Prefix network = pool_ ? *pool_ : BANGER_TRY(Ipv4Prefix::parse("10.99.0.2/24"));
    const Ipv4Address guest =
        pool_ ? *request.address : BANGER_TRY(Ipv4Address::parse("10.99.0.15"));
    const Ipv4Prefix address = BANGER_TRY(Ipv4Prefix::make(guest, network.length()));
    NetworkLink link{request.vm,
                     pool_ ? LinkKind::tap : LinkKind::user,
                     pool_ ? "fake" + request.vm.str().substr(0, 8) : "",
                     request.mac,
                     address,
                     network.address(),
                     network.address(),
                     request.nat,
                     request.forwards};
    {
        const std::lock_guard lock(mutex_);
        std::set<std::uint16_t> chosen;
        for (PortForward& forward : link.forwards)
            if (forward.host_port == 0) forward.host_port = BANGER_TRY(free_port(chosen));
        ports_[request.vm.str()] = chosen;
    }
    BANGER_TRY(failpoints_.pass("network.attach", stop));
    BANGER_TRY(write_all(fd.get(), link.address.text() + "\n"));
    rollback.commit();
    return link;
}

Result<void> FakeNetwork::detach(const VmId& vm) {
    {
        const std::lock_guard lock(mutex_);
        ports_.erase(vm.str());
    }
    return remove_file(file_of(vm));
}

Result<std::vector<VmId>> FakeNetwork::recover(std::span<const NetworkLink> remembered) {
    ErrorCollector errors;
    std::vector<VmId> lost;
    for (const NetworkLink& link : remembered) {
        if (!path_exists(file_of(link.vm))) {
            lost.push_back(link.vm);
            continue;
        }
        const std::lock_guard lock(mutex_);
        for (const PortForward& forward : link.forwards)
            ports_[link.vm.str()].insert(forward.host_port);
    }
    for (const std::string& name : BANGER_TRY(list_folder(folder_)))
        if (std::ranges::none_of(remembered,
                                 [&](const NetworkLink& link) { return link.vm.str() == name; }))
            errors.add(remove_file(folder_ + "/" + name), "removing a link nobody knows");
    BANGER_TRY(errors.result());
    return lost;
}

std::vector<Check> FakeNetwork::checks(std::stop_token) {
    return {{"fake network", CheckStatus::pass, "links are files in " + folder_, ""}};
}

}  // namespace banger
