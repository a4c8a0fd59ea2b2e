#include "plugins/net-bridge/nftables.hpp"

#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>

#include <cstring>

namespace banger {

void Nftables::FreeContext::operator()(nft_ctx* context) const { ::nft_ctx_free(context); }

Nftables::Nftables() : reader_(NETLINK_NETFILTER) {}
Nftables::~Nftables() = default;

Result<void> Nftables::run(const std::string& commands) {
    const std::lock_guard lock(mutex_);
    return run_locked(commands, false);
}

Result<void> Nftables::check(const std::string& commands) {
    const std::lock_guard lock(mutex_);
    Result<void> checked = run_locked(commands, true);
    context_.reset();
    return checked;
}

void Nftables::rest() {
    const std::lock_guard lock(mutex_);
    context_.reset();
}

Result<void> Nftables::run_locked(const std::string& commands, bool is_dry) {
    if (!context_) {
        context_.reset(::nft_ctx_new(NFT_CTX_DEFAULT));
        if (!context_) return Error(Errc::internal, "libnftables gives no context");
        ::nft_ctx_buffer_error(context_.get());
        ::nft_ctx_buffer_output(context_.get());
    }
    ::nft_ctx_set_dry_run(context_.get(), is_dry);
    if (::nft_run_cmd_from_buffer(context_.get(), commands.c_str()) == 0) return ok();
    // The first line says what; the others show the place with a row of carets.
    std::string why = ::nft_ctx_get_error_buffer(context_.get());
    why.resize(std::min(why.find('\n'), why.size()));
    context_.reset();
    return Error(why.find("Operation not permitted") == why.npos ? Errc::unavailable
                                                                 : Errc::permission_denied,
                 "nftables refuses banger's rules: " + why,
                 "Look for what is missing: the kernel modules nf_tables, nft_masq, nft_ct and "
                 "nft_reject, or the capability CAP_NET_ADMIN.");
}

namespace {

using netlink::Attributes;
using netlink::Request;
using nftables::Chain;
using nftables::Family;
using nftables::Rule;

std::uint16_t message_type(unsigned type) {
    return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type);
}

void put_family(Request& request, std::uint8_t family) {
    nfgenmsg* const header = request.put_header<nfgenmsg>();
    header->nfgen_family = family;
    header->version = NFNETLINK_V0;
}

std::uint8_t family_of(const nlmsghdr* message) {
    return static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(message))->nfgen_family;
}

unsigned number_of(const nlattr* attribute) {
    return be32toh(netlink::u32_of(attribute).value_or(0));
}

std::string bytes_of(const nlattr* attribute) {
    if (attribute == nullptr) return {};
    return {static_cast<const char*>(mnl_attr_get_payload(attribute)),
            mnl_attr_get_payload_len(attribute)};
}

/// User data is a list of type, length, bytes; type 0 is the comment (libnftnl's udata.h).
std::string comment_in(const std::string& data) {
    std::size_t at = 0;
    while (at + 2 <= data.size()) {
        const auto type = static_cast<unsigned char>(data[at]);
        const auto length = static_cast<unsigned char>(data[at + 1]);
        if (at + 2 + length > data.size()) break;
        if (type == 0) return std::string(data.substr(at + 2, length).c_str());
        at += 2u + length;
    }
    return {};
}

Chain read_chain(const nlmsghdr* message) {
    const Attributes attributes = netlink::attributes_of(message, sizeof(nfgenmsg), NFTA_CHAIN_MAX);
    Chain chain;
    chain.family = static_cast<Family>(family_of(message));
    chain.table = netlink::text_of(attributes[NFTA_CHAIN_TABLE]);
    chain.name = netlink::text_of(attributes[NFTA_CHAIN_NAME]);
    chain.type = netlink::text_of(attributes[NFTA_CHAIN_TYPE]);
    const Attributes hook = netlink::nested(attributes[NFTA_CHAIN_HOOK], NFTA_HOOK_MAX);
    chain.hook = number_of(hook[NFTA_HOOK_HOOKNUM]);
    chain.drops = attributes[NFTA_CHAIN_POLICY] != nullptr &&
                  number_of(attributes[NFTA_CHAIN_POLICY]) == NF_DROP;
    return chain;
}

}  // namespace

std::string_view nftables::to_string(Family family) { return family == Family::ip ? "ip" : "inet"; }

Result<std::vector<Chain>> Nftables::chains() {
    const std::lock_guard lock(mutex_);
    std::vector<Chain> all;
    Request request(message_type(NFT_MSG_GETCHAIN), NLM_F_DUMP);
    put_family(request, NFPROTO_UNSPEC);
    BANGER_TRY(reader_
                   .exchange(request,
                             [&](const nlmsghdr* message) {
                                 if (family_of(message) == NFPROTO_IPV4 ||
                                     family_of(message) == NFPROTO_INET)
                                     all.push_back(read_chain(message));
                             })
                   .context("listing the chains of nftables"));
    return all;
}

Result<std::vector<std::string>> Nftables::tables() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> all;
    Request request(message_type(NFT_MSG_GETTABLE), NLM_F_DUMP);
    put_family(request, NFPROTO_UNSPEC);
    BANGER_TRY(
        reader_
            .exchange(request,
                      [&](const nlmsghdr* message) {
                          const std::uint8_t family = family_of(message);
                          const char* const word = family == NFPROTO_BRIDGE ? "bridge "
                                                   : family == NFPROTO_INET ? "inet "
                                                   : family == NFPROTO_IPV4 ? "ip "
                                                                            : nullptr;
                          const Attributes attributes =
                              netlink::attributes_of(message, sizeof(nfgenmsg), NFTA_TABLE_MAX);
                          if (word)
                              all.push_back(word + netlink::text_of(attributes[NFTA_TABLE_NAME]));
                      })
            .context("listing the tables of nftables"));
    return all;
}

Result<std::vector<Rule>> Nftables::rules(Family family, const std::string& table) {
    const std::lock_guard lock(mutex_);
    std::vector<Rule> all;
    Request request(message_type(NFT_MSG_GETRULE), NLM_F_DUMP);
    put_family(request, static_cast<std::uint8_t>(family));
    mnl_attr_put_strz(request.header(), NFTA_RULE_TABLE, table.c_str());
    const Result<void> asked = reader_.exchange(request, [&](const nlmsghdr* message) {
        const Attributes attributes =
            netlink::attributes_of(message, sizeof(nfgenmsg), NFTA_RULE_MAX);
        // Older kernels do not heed the table in a dump.
        if (netlink::text_of(attributes[NFTA_RULE_TABLE]) != table) return;
        Rule rule;
        rule.chain = netlink::text_of(attributes[NFTA_RULE_CHAIN]);
        if (attributes[NFTA_RULE_HANDLE])
            rule.handle = be64toh(mnl_attr_get_u64(attributes[NFTA_RULE_HANDLE]));
        rule.comment = comment_in(bytes_of(attributes[NFTA_RULE_USERDATA]));
        rule.bytes = bytes_of(attributes[NFTA_RULE_EXPRESSIONS]);
        all.push_back(std::move(rule));
    });
    if (!asked && asked.error().code != Errc::not_found)
        return asked.error().context("listing the rules of nftables");
    return all;
}

}  // namespace banger
