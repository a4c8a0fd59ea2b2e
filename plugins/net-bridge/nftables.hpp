#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "plugins/net-bridge/netlink.hpp"

struct nft_ctx;

namespace banger {

namespace nftables {

enum class Family : std::uint8_t { inet = 1, ip = 2 };  ///< NFPROTO_INET, NFPROTO_IPV4
std::string_view to_string(Family family);

struct Chain {
    Family family = Family::ip;
    std::string table;
    std::string name;
    std::string type;    ///< "filter", "nat"; empty for one that is only jumped to
    unsigned hook = 0;   ///< NF_INET_FORWARD, …
    bool drops = false;  ///< policy drop
};

struct Rule {
    std::string chain;
    std::uint64_t handle = 0;
    std::string comment;
    /// The kernel's form of the rule: only good for looking whether a name occurs in it.
    std::string bytes;
};

}  // namespace nftables

/// The kernel's packet filter. Writing goes through libnftables: one text is one transaction.
/// Reading goes by netlink, because libnftables would open libraries to print rules that iptables
/// made.
///
/// Sockets are kept: closing one makes the kernel wait for what was removed (about 15 ms). So is
/// what the library remembers of our tables, about 1 MiB, until rest(). Safe from any thread; acts
/// in the network namespace in which it was first used.
class Nftables {
public:
    Nftables();
    ~Nftables();
    Nftables(const Nftables&) = delete;
    Nftables& operator=(const Nftables&) = delete;

    /// All of it or nothing.
    Result<void> run(const std::string& commands);
    /// Whether the kernel would take it. Changes nothing.
    Result<void> check(const std::string& commands);
    /// Nobody is waiting: forgets what the next run() can do without.
    void rest();

    /// Chains of the families ip and inet.
    Result<std::vector<nftables::Chain>> chains();
    /// Tables of the families bridge, inet and ip, as "inet banger".
    Result<std::vector<std::string>> tables();
    /// Empty when there is no such table.
    Result<std::vector<nftables::Rule>> rules(nftables::Family family, const std::string& table);

private:
    Result<void> run_locked(const std::string& commands, bool is_dry);
    struct FreeContext {
        void operator()(nft_ctx* context) const;
    };
    std::mutex mutex_;
    std::unique_ptr<nft_ctx, FreeContext> context_;
    netlink::Socket reader_;
};

}  // namespace banger
