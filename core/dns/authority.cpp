#include "core/dns/authority.hpp"

#include <ldns/ldns.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/dns/plain_query.hpp"

namespace banger::dns {

namespace {

/// The least that every resolver takes over UDP (RFC 1035, section 2.3.4).
constexpr std::size_t least_udp_answer = 512;

struct FreePacket {
    void operator()(ldns_pkt* packet) const { ldns_pkt_free(packet); }
};
using Packet = std::unique_ptr<ldns_pkt, FreePacket>;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::uint8_t lower(std::uint8_t c) {
    return static_cast<std::uint8_t>(lower(static_cast<char>(c)));
}

std::span<const std::uint8_t> bytes_of(const ldns_rdf* rdf) {
    return {ldns_rdf_data(rdf), ldns_rdf_size(rdf)};
}

ldns_rdf* name_of(std::span<const std::uint8_t> wire) {
    return ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, wire.size(), wire.data());
}

/// "nobody.invalid.": nobody reads mail about this zone (RFC 6303, section 3).
constexpr std::uint8_t nobody[] = {6,   'n', 'o', 'b', 'o', 'd', 'y', 7,
                                   'i', 'n', 'v', 'a', 'l', 'i', 'd', 0};

/// Serial, refresh, retry and expire say nothing where there are no secondary servers.
constexpr std::uint32_t zone_numbers[] = {1, 3600, 600, 86400, Authority::negative_ttl};

ldns_rr* make_record(std::span<const std::uint8_t> owner, ldns_rr_type type, std::uint32_t ttl) {
    ldns_rr* record = ldns_rr_new();
    ldns_rr_set_owner(record, name_of(owner));
    ldns_rr_set_type(record, type);
    ldns_rr_set_class(record, LDNS_RR_CLASS_IN);
    ldns_rr_set_ttl(record, ttl);
    return record;
}

ldns_rr* address_record(std::span<const std::uint8_t> owner, Ipv4Address address) {
    ldns_rr* record = make_record(owner, LDNS_RR_TYPE_A, Authority::record_ttl);
    std::uint8_t octets[4];
    ldns_write_uint32(octets, address.bits());
    ldns_rr_push_rdf(record, ldns_rdf_new_frm_data(LDNS_RDF_TYPE_A, sizeof octets, octets));
    return record;
}

ldns_rr* zone_record(std::span<const std::uint8_t> zone) {
    ldns_rr* record = make_record(zone, LDNS_RR_TYPE_SOA, Authority::negative_ttl);
    ldns_rr_push_rdf(record, name_of(zone));
    ldns_rr_push_rdf(record, name_of(nobody));
    for (const std::uint32_t number : zone_numbers)
        ldns_rr_push_rdf(record, ldns_native2rdf_int32(LDNS_RDF_TYPE_INT32, number));
    return record;
}

ldns_rr* server_record(std::span<const std::uint8_t> zone) {
    ldns_rr* record = make_record(zone, LDNS_RR_TYPE_NS, Authority::record_ttl);
    ldns_rr_push_rdf(record, name_of(zone));
    return record;
}

void clear(ldns_pkt* packet, ldns_pkt_section section) {
    ldns_rr_list* fresh = ldns_rr_list_new();
    if (section == LDNS_SECTION_ANSWER) {
        ldns_rr_list_deep_free(ldns_pkt_answer(packet));
        ldns_pkt_set_answer(packet, fresh);
    } else {
        ldns_rr_list_deep_free(ldns_pkt_authority(packet));
        ldns_pkt_set_authority(packet, fresh);
    }
    ldns_pkt_set_section_count(packet, section, 0);
}

/// 0 when it does not fit.
std::size_t encode(const ldns_pkt* packet, std::span<std::uint8_t> out) {
    std::uint8_t* wire = nullptr;
    std::size_t size = 0;
    if (ldns_pkt2wire(&wire, packet, &size) != LDNS_STATUS_OK) return 0;
    const std::unique_ptr<std::uint8_t, decltype(&std::free)> owner(wire, &std::free);
    if (size > out.size()) return 0;
    std::copy_n(wire, size, out.begin());
    return size;
}

/// Bytes one after the other; size() is 0 once they did not fit.
class Writer {
public:
    explicit Writer(std::span<std::uint8_t> out) : out_(out) {}
    void put(std::span<const std::uint8_t> bytes) {
        fits_ = fits_ && bytes.size() <= out_.size() - size_;
        if (!fits_) return;
        std::ranges::copy(bytes, out_.subspan(size_).begin());
        size_ += bytes.size();
    }
    void put8(unsigned value) {
        const std::uint8_t byte = static_cast<std::uint8_t>(value);
        put({&byte, 1});
    }
    void put16(unsigned value) {
        put8(value >> 8U);
        put8(value & 0xffU);
    }
    void put32(std::uint32_t value) {
        put16(value >> 16U);
        put16(value & 0xffffU);
    }
    [[nodiscard]] std::size_t size() const { return fits_ ? size_ : 0; }

private:
    std::span<std::uint8_t> out_;
    std::size_t size_ = 0;
    bool fits_ = true;
};

/// A name that stands at `place` in the message already (RFC 1035, section 4.1.4).
void put_name_again(Writer& writer, std::size_t place) {
    writer.put16(0xc000U | static_cast<unsigned>(place));
}

void put_address(Writer& writer, Ipv4Address address) {
    put_name_again(writer, PlainQuery::header_size);
    writer.put16(LDNS_RR_TYPE_A);
    writer.put16(LDNS_RR_CLASS_IN);
    writer.put32(Authority::record_ttl);
    writer.put16(4);
    writer.put32(address.bits());
}

/// zone_record() below, as bytes.
void put_zone(Writer& writer, std::size_t place_of_zone) {
    put_name_again(writer, place_of_zone);
    writer.put16(LDNS_RR_TYPE_SOA);
    writer.put16(LDNS_RR_CLASS_IN);
    writer.put32(Authority::negative_ttl);
    writer.put16(2 + sizeof nobody + sizeof(std::uint32_t) * std::size(zone_numbers));
    put_name_again(writer, place_of_zone);
    writer.put(nobody);
    for (const std::uint32_t number : zone_numbers)
        writer.put32(number);
}

void put_options(Writer& writer, bool wants_dnssec) {
    writer.put8(0);
    writer.put16(LDNS_RR_TYPE_OPT);
    writer.put16(max_query);
    writer.put32(wants_dnssec ? 0x8000U : 0U);
    writer.put16(0);
}

}  // namespace

/// One query and what becomes of it.
struct Authority::Reply {
    Packet query;
    Packet packet;
    Transport transport;
    std::size_t options_in_query = 0;  ///< OPT records

    [[nodiscard]] bool has_edns() const { return options_in_query != 0; }
    void fail(ldns_pkt_rcode code) const {
        ldns_pkt_set_rcode(packet.get(), static_cast<std::uint8_t>(code));
    }
    void add(ldns_pkt_section section, ldns_rr* record) const {
        ldns_pkt_push_rr(packet.get(), section, record);
    }
    /// What the query says about itself, said back.
    void begin() const {
        ldns_pkt_set_id(packet.get(), ldns_pkt_id(query.get()));
        ldns_pkt_set_qr(packet.get(), true);
        ldns_pkt_set_opcode(packet.get(), ldns_pkt_get_opcode(query.get()));
        ldns_pkt_set_rd(packet.get(), ldns_pkt_rd(query.get()));
        if (ldns_pkt_qdcount(query.get()) == 1)
            add(LDNS_SECTION_QUESTION,
                ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(query.get()), 0)));
        if (!has_edns()) return;
        ldns_pkt_set_edns_udp_size(packet.get(), max_query);
        ldns_pkt_set_edns_do(packet.get(), ldns_pkt_edns_do(query.get()));  // RFC 3225, section 3
    }
    [[nodiscard]] std::size_t most_bytes(std::size_t room) const {
        if (transport == Transport::tcp) return room;
        const std::size_t wanted = has_edns() ? ldns_pkt_edns_udp_size(query.get()) : 0;
        return std::min(room, std::max(wanted, least_udp_answer));
    }
};

Result<Authority> Authority::make(std::string_view zone, const NameTable& names) {
    std::vector<std::uint8_t> wire;
    for (std::size_t start = 0; start <= zone.size();) {
        const std::string_view label = zone.substr(start, zone.find('.', start) - start);
        if (label.empty() || label.size() > LDNS_MAX_LABELLEN ||
            !std::ranges::all_of(label, [](char c) {
                return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
            }))
            return Error(Errc::invalid_argument, "'" + std::string(zone) + "' is not a DNS zone",
                         "Use labels of lower-case letters, digits and hyphens, as in \"vm\".");
        wire.push_back(static_cast<std::uint8_t>(label.size()));
        wire.insert(wire.end(), label.begin(), label.end());
        start += label.size() + 1;
    }
    wire.push_back(0);
    if (wire.size() > 202)  // leaves room for a machine's label
        return Error(Errc::invalid_argument, "the DNS zone " + std::string(zone) + " is too long",
                     "Use at most 200 characters.");
    return Authority(std::move(wire), names);
}

std::size_t Authority::answer(std::span<const std::uint8_t> query, Transport transport,
                              std::span<std::uint8_t> out) const {
    const std::size_t size = answer_plain(query, transport, out);
    return size != 0 ? size : answer_by_library(query, transport, out);
}

/// Measured: with it an answer costs no more processor time than dnsmasq's; without it a quarter
/// more.
std::size_t Authority::answer_plain(std::span<const std::uint8_t> query, Transport transport,
                                    std::span<std::uint8_t> out) const {
    if (query.size() > max_query) return 0;
    const std::optional<PlainQuery> plain = read_plain_query(query);
    if (!plain || (plain->type != LDNS_RR_TYPE_A && plain->type != LDNS_RR_TYPE_AAAA)) return 0;
    const std::optional<std::size_t> before = length_before_zone(plain->name);
    if (!before || *before == 0) return 0;
    const std::optional<Ipv4Address> address = find(plain->name.first(*before));

    Writer writer(out.first(
        std::min(out.size(), transport == Transport::tcp
                                 ? out.size()
                                 : std::max<std::size_t>(plain->udp_size, least_udp_answer))));
    const bool has_answer = address && plain->type == LDNS_RR_TYPE_A;
    const std::uint8_t is_recursion_wanted = query[2] & 1U;
    writer.put(query.first(2));
    writer.put8(static_cast<std::uint8_t>(0x84U | is_recursion_wanted));  // a response, with AA
    writer.put8(address ? LDNS_RCODE_NOERROR : LDNS_RCODE_NXDOMAIN);
    for (const unsigned count :
         {1U, has_answer ? 1U : 0U, has_answer ? 0U : 1U, plain->has_edns ? 1U : 0U})
        writer.put16(count);
    writer.put(query.subspan(PlainQuery::header_size, plain->name.size() + 4));
    if (has_answer)
        put_address(writer, *address);
    else
        put_zone(writer, PlainQuery::header_size + *before);
    if (plain->has_edns) put_options(writer, plain->wants_dnssec);
    return writer.size();
}

std::size_t Authority::answer_by_library(std::span<const std::uint8_t> query, Transport transport,
                                         std::span<std::uint8_t> out) const {
    if (query.size() < LDNS_HEADER_SIZE || query.size() > max_query || LDNS_QR_WIRE(query.data()))
        return 0;
    ldns_pkt* parsed = nullptr;
    if (ldns_wire2pkt(&parsed, query.data(), query.size()) != LDNS_STATUS_OK) return 0;
    Reply reply{Packet(parsed), Packet(ldns_pkt_new()), transport};
    // ldns takes OPT records out of the additional section, and their number off its count.
    reply.options_in_query = LDNS_ARCOUNT(query.data()) - std::size_t{ldns_pkt_arcount(parsed)};
    reply.begin();
    fill(reply);
    out = out.first(std::min(reply.most_bytes(out.size()), out.size()));
    const std::size_t size = encode(reply.packet.get(), out);
    if (size != 0) return size;
    clear(reply.packet.get(), LDNS_SECTION_ANSWER);
    clear(reply.packet.get(), LDNS_SECTION_AUTHORITY);
    ldns_pkt_set_tc(reply.packet.get(), true);
    return encode(reply.packet.get(), out);
}

void Authority::fill(Reply& reply) const {
    if (ldns_pkt_qdcount(reply.query.get()) != 1 || reply.options_in_query > 1)
        return reply.fail(LDNS_RCODE_FORMERR);
    if (ldns_pkt_get_opcode(reply.query.get()) != LDNS_PACKET_QUERY)
        return reply.fail(LDNS_RCODE_NOTIMPL);
    if (reply.has_edns() && ldns_pkt_edns_version(reply.query.get()) != 0) {
        ldns_pkt_set_edns_extended_rcode(reply.packet.get(), 1);  // BADVERS is 16
        return;
    }
    const ldns_rr* question = ldns_rr_list_rr(ldns_pkt_question(reply.packet.get()), 0);
    const ldns_rr_type type = ldns_rr_get_type(question);
    const std::span<const std::uint8_t> name = bytes_of(ldns_rr_owner(question));
    const std::optional<std::size_t> before = length_before_zone(name);
    if (!before || ldns_rr_get_class(question) != LDNS_RR_CLASS_IN || type == LDNS_RR_TYPE_AXFR ||
        type == LDNS_RR_TYPE_IXFR)
        return reply.fail(LDNS_RCODE_REFUSED);

    ldns_pkt_set_aa(reply.packet.get(), true);
    const std::span<const std::uint8_t> zone = name.subspan(*before);
    // ANY may be answered with whatever there is of one type (RFC 8482).
    const bool is_any = type == LDNS_RR_TYPE_ANY;
    if (*before == 0) {
        if (type == LDNS_RR_TYPE_SOA || is_any)
            return reply.add(LDNS_SECTION_ANSWER, zone_record(zone));
        if (type == LDNS_RR_TYPE_NS) return reply.add(LDNS_SECTION_ANSWER, server_record(zone));
        return reply.add(LDNS_SECTION_AUTHORITY, zone_record(zone));
    }
    const std::optional<Ipv4Address> address = find(name.first(*before));
    if (address && (type == LDNS_RR_TYPE_A || is_any))
        return reply.add(LDNS_SECTION_ANSWER, address_record(name, *address));
    if (!address) reply.fail(LDNS_RCODE_NXDOMAIN);
    reply.add(LDNS_SECTION_AUTHORITY, zone_record(zone));
}

/// Nothing when the name is not in the zone. Goes from label to label: bytes inside a label that
/// look like the zone do not count.
std::optional<std::size_t> Authority::length_before_zone(std::span<const std::uint8_t> name) const {
    for (std::size_t at = 0; name.size() - at >= zone_.size(); at += name[at] + std::size_t{1})
        if (name.size() - at == zone_.size())
            return std::ranges::equal(name.subspan(at), zone_, {},
                                      [](std::uint8_t c) { return lower(c); })
                       ? std::optional(at)
                       : std::nullopt;
    return std::nullopt;
}

std::optional<Ipv4Address> Authority::find(std::span<const std::uint8_t> labels) const {
    if (labels.size() != labels[0] + std::size_t{1}) return std::nullopt;
    std::string label;
    for (const std::uint8_t byte : labels.subspan(1))
        label += lower(static_cast<char>(byte));
    return names_->find(label);
}

}  // namespace banger::dns
