#include "core/guest/agent_protocol.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/guest/json_reader.hpp"

namespace banger::guest {

using nlohmann::json;

namespace {

constexpr std::array<std::string_view, 3> readiness_words{"none", "booted", "ready"};
constexpr std::array<std::string_view, 2> protocol_words{"tcp", "udp"};
constexpr std::size_t max_probes = 32;

template <class Enum, std::size_t N>
std::optional<Enum> find_word(const std::array<std::string_view, N>& words, std::string_view word) {
    const auto* found = std::ranges::find(words, word);
    if (found == words.end()) return std::nullopt;
    return static_cast<Enum>(found - words.begin());
}

std::string frame(const json& value) {
    std::string text = dump_json(value);
    text += '\0';
    return text;
}

std::string reply(std::uint64_t id, json parameters) {
    return frame({{"id", id}, {"parameters", std::move(parameters)}});
}

json to_json(const FileSystemUsage& usage) {
    return {{"size_bytes", usage.size_bytes}, {"used_bytes", usage.used_bytes}};
}

Result<FileSystemUsage> usage_from_json(const json& value) {
    ObjectReader reader(value, "file system");
    FileSystemUsage usage{.size_bytes = reader.integer("size_bytes"),
                          .used_bytes = reader.integer("used_bytes")};
    BANGER_TRY(reader.finish(false));
    return usage;
}

Result<GuestPort> port_from_json(const json& value) {
    ObjectReader reader(value, "port");
    const std::optional<PortProtocol> protocol = parse_port_protocol(reader.string("protocol"));
    GuestPort port{.protocol = protocol.value_or(PortProtocol::tcp),
                   .address = sanitised(reader.string("address"), 64),
                   .port = static_cast<std::uint16_t>(reader.integer("port", 65535)),
                   .process = sanitised(reader.string("process"), 64),
                   .pid = static_cast<std::uint32_t>(reader.integer("pid", 0x7fffffff))};
    if (!protocol) reader.fail({Errc::corrupt, "a port's protocol is neither tcp nor udp"});
    BANGER_TRY(reader.finish(false));
    return port;
}

Result<Probe> probe_from_json(const json& value) {
    ObjectReader reader(value, "probe");
    Probe probe{.name = sanitised(reader.string("name"), 64),
                .ok = reader.boolean("ok"),
                .reason = sanitised(reader.string("reason"), 512)};
    BANGER_TRY(reader.finish(false));
    return probe;
}

/// JSON has no infinity, but 1e999 may become one.
double finite(double value) { return std::isfinite(value) && value >= 0 ? value : 0; }

/// The length of the UTF-8 sequence at the start of `text`, or 0 when it is not well-formed (RFC
/// 3629).
std::size_t sequence_length(std::string_view text) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned char lead = byte(0);
    const std::size_t length = lead < 0x80                    ? 1
                               : lead >= 0xc2 && lead <= 0xdf ? 2
                               : (lead & 0xf0) == 0xe0        ? 3
                               : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                              : 0;
    if (length == 0 || length > text.size()) return 0;
    for (std::size_t at = 1; at < length; ++at) {
        if ((byte(at) & 0xc0) != 0x80) return 0;
    }
    if (length < 2) return length;
    // Overlong forms, surrogates, and beyond U+10FFFF.
    if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f)) return 0;
    if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f)) return 0;
    return length;
}

/// Control characters (C0, DEL, C1) and those that turn the direction of writing or break lines.
bool is_unprintable(std::string_view sequence) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(sequence[at]); };
    if (sequence.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
    if (sequence.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
    if (sequence.size() != 3 || byte(0) != 0xe2) return false;
    if (byte(1) == 0x80)
        return byte(2) >= 0x8b && byte(2) <= 0xae && !(byte(2) >= 0x90 && byte(2) <= 0xa7);
    return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
}

}  // namespace

std::string_view to_string(Readiness readiness) {
    return readiness_words.at(static_cast<std::size_t>(readiness));
}
std::optional<Readiness> parse_readiness(std::string_view word) {
    return find_word<Readiness>(readiness_words, word);
}
std::string_view to_string(PortProtocol protocol) {
    return protocol_words.at(static_cast<std::size_t>(protocol));
}
std::optional<PortProtocol> parse_port_protocol(std::string_view word) {
    return find_word<PortProtocol>(protocol_words, word);
}

void FrameReader::append(std::string_view bytes) {
    // Here and not at each frame: a stream of short frames would be moved again and again.
    pending_.erase(0, start_);
    scanned_ -= std::exchange(start_, 0);
    pending_.append(bytes);
}

void FrameReader::clear() {
    pending_.clear();
    start_ = scanned_ = 0;
    skipping_ = false;
}

std::optional<std::string> FrameReader::next() {
    while (true) {
        const std::size_t end = pending_.find('\0', scanned_);
        if (end == std::string::npos) {
            const std::size_t size = pending_.size() - start_;
            scanned_ = pending_.size();
            if (skipping_ || size > max_frame) {
                skipping_ = true;
                skipped_ += size;
                pending_.clear();
                start_ = scanned_ = 0;
            }
            return std::nullopt;
        }
        const std::size_t begin = std::exchange(start_, end + 1);
        scanned_ = start_;
        if (skipping_ || end - begin > max_frame) {
            skipping_ = false;
            skipped_ += end - begin;
            continue;
        }
        if (end > begin) return pending_.substr(begin, end - begin);
    }
}

std::string encode_request(std::uint64_t id, std::string_view method, Readiness wait) {
    json parameters = json::object();
    if (method == "Health") parameters["wait"] = to_string(wait);
    return frame({{"id", id}, {"method", method}, {"parameters", std::move(parameters)}});
}

Result<AgentRequest> decode_request(std::string_view text) {
    const json value = BANGER_TRY(parse_json(text, max_depth));
    ObjectReader reader(value, "request");
    AgentRequest request{.id = reader.integer("id"), .method = reader.string("method")};
    const json& parameters = reader.object("parameters");
    BANGER_TRY(reader.finish(true));
    if (request.method == "Exec") {
        request.parameters = dump_json(parameters);
        return request;
    }
    ObjectReader parameter_reader(parameters, "parameters");
    if (request.method == "Health") {
        const std::optional<Readiness> wait = parse_readiness(parameter_reader.string("wait"));
        if (!wait) parameter_reader.fail({Errc::corrupt, "wait is none of none, booted, ready"});
        request.wait = wait.value_or(Readiness::none);
    }
    BANGER_TRY(parameter_reader.finish(true));
    return request;
}

std::string encode_reply(std::uint64_t id, const GuestHealth& health) {
    json probes = json::array();
    for (const Probe& probe : health.probes)
        probes.push_back({{"name", probe.name}, {"ok", probe.ok}, {"reason", probe.reason}});
    return reply(id, {{"booted", health.booted},
                      {"ready", health.ready},
                      {"failure", health.failure},
                      {"boot_id", health.boot_id},
                      {"uptime_ms", health.uptime_ms},
                      {"agent_version", health.agent_version},
                      {"probes", std::move(probes)}});
}

std::string encode_reply(std::uint64_t id, const std::vector<GuestPort>& ports) {
    json list = json::array();
    for (const GuestPort& port : ports) {
        if (list.size() == max_ports) break;
        list.push_back({{"protocol", to_string(port.protocol)},
                        {"address", port.address},
                        {"port", port.port},
                        {"process", port.process},
                        {"pid", port.pid}});
    }
    return reply(id, {{"ports", std::move(list)}});
}

std::string encode_reply(std::uint64_t id, const GuestStats& stats) {
    return reply(id, {{"cpus", stats.cpus},
                      {"cpu_busy_ms", stats.cpu_busy_ms},
                      {"cpu_idle_ms", stats.cpu_idle_ms},
                      {"load_1", stats.load_1},
                      {"load_5", stats.load_5},
                      {"load_15", stats.load_15},
                      {"memory_total_bytes", stats.memory_total_bytes},
                      {"memory_available_bytes", stats.memory_available_bytes},
                      {"root", to_json(stats.root)},
                      {"work", to_json(stats.work)}});
}

std::string encode_reply(std::uint64_t id) { return reply(id, json::object()); }

std::string encode_error(std::uint64_t id, const Error& error) {
    return frame(
        {{"id", id},
         {"error", {{"code", std::string(to_string(error.code))}, {"message", error.message}}}});
}

Result<AgentReply> decode_reply(std::string_view text) {
    const json value = BANGER_TRY(parse_json(text, max_depth));
    ObjectReader reader(value, "reply");
    AgentReply reply_value;
    reply_value.id = reader.integer("id");
    const json* error = reader.optional("error");
    if (!error) reply_value.parameters = dump_json(reader.object("parameters"));
    BANGER_TRY(reader.finish(false));
    if (!error) return reply_value;
    ObjectReader error_reader(*error, "error");
    const std::optional<Errc> code = parse_errc(error_reader.string("code"));
    const std::string message = sanitised(error_reader.string("message"), 1024);
    BANGER_TRY(error_reader.finish(false));
    reply_value.error = Error(code.value_or(Errc::internal), "the guest agent says: " + message);
    return reply_value;
}

Result<GuestHealth> decode_health(std::string_view parameters) {
    const json value = BANGER_TRY(parse_json(parameters, max_depth));
    ObjectReader reader(value, "health");
    GuestHealth health;
    health.booted = reader.boolean("booted");
    health.ready = reader.boolean("ready");
    health.failure = sanitised(reader.string("failure"), 1024);
    health.boot_id = sanitised(reader.string("boot_id"), 64);
    health.uptime_ms = reader.integer("uptime_ms");
    health.agent_version = sanitised(reader.string("agent_version"), 64);
    const json& probes = reader.array("probes", max_probes);
    BANGER_TRY(reader.finish(false));
    for (const json& probe : probes)
        health.probes.push_back(BANGER_TRY(probe_from_json(probe)));
    return health;
}

Result<std::vector<GuestPort>> decode_ports(std::string_view parameters) {
    const json value = BANGER_TRY(parse_json(parameters, max_depth));
    ObjectReader reader(value, "ports");
    const json& list = reader.array("ports", max_ports);
    BANGER_TRY(reader.finish(false));
    std::vector<GuestPort> ports;
    for (const json& port : list)
        ports.push_back(BANGER_TRY(port_from_json(port)));
    return ports;
}

Result<GuestStats> decode_stats(std::string_view parameters) {
    const json value = BANGER_TRY(parse_json(parameters, max_depth));
    ObjectReader reader(value, "stats");
    GuestStats stats;
    stats.cpus = static_cast<std::uint32_t>(reader.integer("cpus", 65536));
    stats.cpu_busy_ms = reader.integer("cpu_busy_ms");
    stats.cpu_idle_ms = reader.integer("cpu_idle_ms");
    stats.load_1 = finite(reader.number("load_1"));
    stats.load_5 = finite(reader.number("load_5"));
    stats.load_15 = finite(reader.number("load_15"));
    stats.memory_total_bytes = reader.integer("memory_total_bytes");
    stats.memory_available_bytes = reader.integer("memory_available_bytes");
    const json& root = reader.object("root");
    const json& work = reader.object("work");
    BANGER_TRY(reader.finish(false));
    stats.root = BANGER_TRY(usage_from_json(root));
    stats.work = BANGER_TRY(usage_from_json(work));
    return stats;
}

std::string sanitised(std::string_view text, std::size_t limit) {
    std::string clean;
    while (!text.empty()) {
        const std::size_t length = sequence_length(text);
        const std::string_view sequence = text.substr(0, std::max<std::size_t>(length, 1));
        const std::string_view shown =
            length == 0 || is_unprintable(sequence) ? std::string_view("?") : sequence;
        if (clean.size() + shown.size() > limit) break;
        clean += shown;
        text.remove_prefix(sequence.size());
    }
    return clean;
}

}  // namespace banger::guest
