#include "core/dns/probe.hpp"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>

#include "banger/unique_fd.hpp"
#include "core/base/child.hpp"
#include "core/base/process.hpp"
#include "core/dns/authority.hpp"

namespace banger::dns {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds direct_deadline{1000};
constexpr std::chrono::milliseconds resolver_deadline{5000};
constexpr const char* recipes =
    "See docs/dns-routing.md: recipes for dnsmasq, NetworkManager and others.";

/// In the table for as long as it lives. The name is new each time, so that no resolver remembers
/// that there was none; the address is one of documentation (RFC 5737), which resolvers that filter
/// private ones let pass.
class ProbeRecord {
public:
    explicit ProbeRecord(NameTable& names)
        : names_(names), vm_(VmId::random()), name_("banger-probe-" + vm_.str()) {
        if (const Result<VmName> name = VmName::parse(name_))
            (void)names_.publish({vm_, *name, address_});
    }
    ~ProbeRecord() { names_.withdraw(vm_); }
    ProbeRecord(const ProbeRecord&) = delete;
    ProbeRecord& operator=(const ProbeRecord&) = delete;
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] Ipv4Address address() const { return address_; }

private:
    NameTable& names_;
    VmId vm_;
    std::string name_;
    Ipv4Address address_{0xc0000200U +
                         static_cast<unsigned>(std::hash<std::string>()(name_) % 256)};
};

struct FreePacket {
    void operator()(ldns_pkt* packet) const { ldns_pkt_free(packet); }
};
using Packet = std::unique_ptr<ldns_pkt, FreePacket>;

Result<std::vector<std::uint8_t>> make_query(const std::string& name) {
    ldns_pkt* made = nullptr;
    if (ldns_pkt_query_new_frm_str(&made, name.c_str(), LDNS_RR_TYPE_A, LDNS_RR_CLASS_IN, 0) !=
        LDNS_STATUS_OK)
        return Error(Errc::internal, "no query can be made for " + name);
    const Packet packet(made);
    ldns_pkt_set_random_id(made);
    std::uint8_t* wire = nullptr;
    std::size_t size = 0;
    if (ldns_pkt2wire(&wire, made, &size) != LDNS_STATUS_OK)
        return Error(Errc::internal, "no query can be made for " + name);
    const std::unique_ptr<std::uint8_t, decltype(&std::free)> owner(wire, &std::free);
    return std::vector<std::uint8_t>(wire, wire + size);
}

/// The address in an answer to just this query.
std::optional<Ipv4Address> address_in(std::span<const std::uint8_t> answer,
                                      std::span<const std::uint8_t> query) {
    ldns_pkt* parsed = nullptr;
    if (ldns_wire2pkt(&parsed, answer.data(), answer.size()) != LDNS_STATUS_OK) return std::nullopt;
    const Packet packet(parsed);
    if (ldns_pkt_id(parsed) != LDNS_ID_WIRE(query.data()) || !ldns_pkt_qr(parsed))
        return std::nullopt;
    const ldns_rr* record = ldns_rr_list_rr(ldns_pkt_answer(parsed), 0);
    if (record == nullptr || ldns_rr_get_type(record) != LDNS_RR_TYPE_A) return std::nullopt;
    return Ipv4Address(ldns_read_uint32(ldns_rdf_data(ldns_rr_rdf(record, 0))));
}

Result<std::optional<Ipv4Address>> ask_directly(const DnsZone& where, const std::string& name,
                                                std::stop_token stop) {
    const std::vector<std::uint8_t> query = BANGER_TRY(make_query(name));
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return Error::from_errno(errno, "making a socket");
    sockaddr_in server{};
    server.sin_family = AF_INET;
    server.sin_port = htons(where.port);
    server.sin_addr.s_addr = htonl(where.server.bits());
    // Connected, so that a closed port says so and nobody else's answer is taken.
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0 ||
        ::send(socket.get(), query.data(), query.size(), 0) < 0)
        return Error::from_errno(errno, "asking " + where.server.text());
    if (BANGER_TRY(poll_fd(socket.get(), POLLIN, direct_deadline, std::move(stop))) == 0)
        return Error(Errc::timed_out, "no answer in a second");
    std::vector<std::uint8_t> answer(max_answer);
    const ssize_t size = ::recv(socket.get(), answer.data(), answer.size(), 0);
    if (size < 0) return Error::from_errno(errno, "asking " + where.server.text());
    answer.resize(static_cast<std::size_t>(size));
    return address_in(answer, query);
}

Check check_responder(const DnsZone& where, const ProbeRecord& probe, std::stop_token stop) {
    const std::string place = where.server.text() + ":" + std::to_string(where.port);
    const Result<std::optional<Ipv4Address>> answer =
        ask_directly(where, probe.name() + "." + where.zone, std::move(stop));
    if (answer && *answer == probe.address())
        return {"dns responder", CheckStatus::pass, place + " answers for ." + where.zone, ""};
    const std::string why = answer ? "it gave a wrong answer" : answer.error().message;
    return {"dns responder", CheckStatus::fail,
            place + " does not answer for ." + where.zone + ": " + why,
            "Restart bangerd; a local firewall may be in the way."};
}

/// By a child that asks getaddrinfo: NSS modules of the host stay out of this process, and one that
/// hangs is ended.
Result<bool> resolves(const std::string& name, Ipv4Address address, std::stop_token stop) {
    Command command;
    command.program = BANGER_TRY(find_program("getent"));
    command.arguments = {"ahostsv4", name};
    command.environment = minimal_environment();
    const CommandOutput output =
        BANGER_TRY(run_command(command, resolver_deadline, ByteCount::kib(16), std::move(stop)));
    return output.status.is_success() && output.standard_output.starts_with(address.text() + " ");
}

Check check_resolver(const DnsZone& where, const ProbeRecord& probe, bool is_routed,
                     std::stop_token stop) {
    const std::string sample = "NAME." + where.zone;
    const Result<bool> found =
        resolves(probe.name() + "." + where.zone, probe.address(), std::move(stop));
    if (found && *found)
        return {"dns names", CheckStatus::pass, sample + " resolves for every program", ""};
    if (!is_routed)
        return {"dns names", CheckStatus::warn,
                "the host's resolver does not ask banger: no plugin leads it there", recipes};
    return {"dns names", CheckStatus::warn,
            sample + " does not resolve through getaddrinfo" +
                (found ? std::string() : ": " + found.error().message),
            std::string("`resolvectl query` shows whether systemd-resolved asks banger; "
                        "/etc/resolv.conf or nsswitch.conf may pass it by. ") +
                recipes};
}

}  // namespace

std::vector<Check> check_resolution(const DnsZone& where, NameTable& names, bool is_routed,
                                    std::stop_token stop) {
    const ProbeRecord probe(names);
    std::vector<Check> rows{check_responder(where, probe, stop)};
    rows.push_back(check_resolver(where, probe, is_routed, stop));
    return rows;
}

}  // namespace banger::dns
