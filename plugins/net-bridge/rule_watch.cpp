#include "plugins/net-bridge/rule_watch.hpp"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "core/base/blocked_signals.hpp"
#include "plugins/net-bridge/netlink.hpp"

namespace banger {

namespace {

struct CloseSocket {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, CloseSocket>;

int look(const nlmsghdr* message, void* is_deleted) {
    constexpr unsigned deletion = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE;
    if (message->nlmsg_type != deletion) return MNL_CB_OK;
    const netlink::Attributes attributes =
        netlink::attributes_of(message, sizeof(nfgenmsg), NFTA_TABLE_MAX);
    if (netlink::text_of(attributes[NFTA_TABLE_NAME]) == "banger")
        *static_cast<bool*>(is_deleted) = true;
    return MNL_CB_OK;
}

constexpr int quiet_after = 5'000;  // milliseconds

/// Until `wake` is readable.
void watch(const Socket& socket, int wake, const RuleWatch::Hooks& hooks) {
    std::vector<char> buffer(32768);
    bool is_quiet = true;
    for (;;) {
        pollfd waits[2] = {{mnl_socket_get_fd(socket.get()), POLLIN, 0}, {wake, POLLIN, 0}};
        const int count = ::poll(waits, 2, is_quiet ? -1 : quiet_after);
        if (count < 0 && errno != EINTR) return;
        if (count == 0) {
            is_quiet = true;
            hooks.on_quiet();
        }
        if (count <= 0) continue;
        if (waits[1].revents != 0) return;
        is_quiet = false;
        const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
        // ENOBUFS: more happened than fits; it may have been a deletion.
        bool is_deleted = size < 0 && errno == ENOBUFS;
        if (size < 0 && !is_deleted && errno != EINTR) return;
        if (size > 0)
            mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), 0, 0, look, &is_deleted);
        if (is_deleted) hooks.on_deleted();
    }
}

}  // namespace

Result<std::unique_ptr<RuleWatch>> RuleWatch::start(Hooks hooks) {
    std::unique_ptr<RuleWatch> made(new RuleWatch);
    made->wake_.reset(::eventfd(0, EFD_CLOEXEC));
    if (!made->wake_) return Error::from_errno(errno, "eventfd");
    Socket socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
    if (!socket) return Error::from_errno(errno, "netlink socket");
    int group = NFNLGRP_NFTABLES;
    if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_setsockopt(socket.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
        return Error::from_errno(errno, "watching nftables");
    const BlockedSignals blocked;
    made->thread_ = std::thread([socket = std::move(socket), wake = made->wake_.get(),
                                 hooks = std::move(hooks)] { watch(socket, wake, hooks); });
    return made;
}

RuleWatch::~RuleWatch() {
    const std::uint64_t one = 1;
    if (wake_ && ::write(wake_.get(), &one, sizeof one) == sizeof one && thread_.joinable())
        thread_.join();
}

}  // namespace banger
