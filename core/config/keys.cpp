#include "core/config/keys.hpp"

#include <algorithm>

#include "core/base/names.hpp"

namespace banger::config {

namespace {

// ---- reading ----

template <class T, class U>
Result<void> set(Sourced<T>& target, Result<U> value, const Place& place) {
    target.value = T(BANGER_TRY(std::move(value)));
    target.source = place.source();
    return ok();
}

Result<LogLevel> log_level_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    if (const std::optional<LogLevel> level = parse_log_level(text)) return *level;
    return place.refuse(quoted(text) + " is not a log level",
                        "Use one of debug, info, warning, error.");
}

Result<std::string> artifact_name_of(const Place& place) {
    const ArtifactName name = BANGER_TRY(parsed<ArtifactName>(place));
    return name.str();
}

Result<std::optional<std::chrono::seconds>> duration_or_off(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    if (text == "off") return std::optional<std::chrono::seconds>();
    const std::chrono::seconds time = BANGER_TRY(duration_of(place));
    if (time >= std::chrono::minutes(1)) return std::optional(time);
    return place.refuse("is shorter than a minute", "Use \"1m\" or more, or \"off\".");
}

Result<std::chrono::seconds> poll_interval_of(const Place& place) {
    const std::chrono::seconds interval = BANGER_TRY(duration_of(place));
    if (interval <= std::chrono::hours(1)) return interval;
    return place.refuse("is longer than an hour", "Use \"1s\" to \"1h\".");
}

/// An interface name (at most 15 bytes, netdevice(7)) that can be none of another program.
Result<std::string> bridge_name_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    if (text.starts_with("banger") && text.size() <= 15 && std::ranges::all_of(text, fits))
        return text;
    return place.refuse(quoted(text) + " is not a name for banger's bridge",
                        "Use up to 15 lower-case letters, digits and hyphens that begin with "
                        "\"banger\", so that it cannot be an interface of another program.");
}

Result<Ipv4Address> host_address_of(const Place& place) {
    const Ipv4Address address = BANGER_TRY(parsed<Ipv4Address>(place));
    const std::uint32_t first = address.bits() >> 24;
    if (first != 0 && first < 224) return address;
    return place.refuse("is " + address.text() + ", which is no host's address",
                        "Use the address of a host, as in 172.16.0.1.");
}

bool is_dns_label(std::string_view label) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
           std::ranges::all_of(label, fits);
}

Result<std::string> zone_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    bool is_good = text.size() <= 200;
    std::string_view last;
    for (std::size_t start = 0; is_good && start <= text.size(); start += last.size() + 1) {
        last = std::string_view(text).substr(start, text.find('.', start) - start);
        is_good = is_dns_label(last);
    }
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (is_good && !std::ranges::all_of(last, is_digit)) return text;
    return place.refuse(quoted(text) + " is not a DNS zone",
                        "Use labels of lower-case letters, digits and hyphens, as in \"vm\".");
}

Result<std::optional<std::string>> plugin_name_or_none(const Place& place) {
    const std::string name = BANGER_TRY(plugin_name_of(place));
    return name == "none" ? std::optional<std::string>() : std::optional(name);
}

Result<std::uint16_t> port_of(const Place& place) {
    return static_cast<std::uint16_t>(BANGER_TRY(integer_of(place, 1, 65535)));
}
Result<std::uint32_t> number_of(const Place& place, std::int64_t least, std::int64_t most) {
    return static_cast<std::uint32_t>(BANGER_TRY(integer_of(place, least, most)));
}
Result<ByteCount> mib_of(const Place& place) {
    // memory_mib carries its unit in its name.
    const std::int64_t mib = BANGER_TRY(integer_of(place, 1, std::int64_t{1} << 32));
    return ByteCount::mib(static_cast<std::uint64_t>(mib));
}

// ---- showing ----

std::string shown(const std::string& text) { return toml_text(text); }
std::string shown(LogLevel level) { return toml_text(to_string(level)); }
std::string shown(Ipv4Address address) { return toml_text(address.text()); }
std::string shown(std::uint32_t number) { return std::to_string(number); }
std::string shown(std::chrono::seconds time) { return toml_text(duration_text(time)); }
std::string shown(ByteCount size) { return toml_text(size.text()); }
std::string shown(const std::vector<std::string>& words) {
    std::string text = "[";
    for (const std::string& word : words)
        text += (text.size() > 1 ? ", " : "") + toml_text(word);
    return text + "]";
}
template <class T>
std::string shown(const std::optional<T>& value) {
    return value ? shown(*value) : std::string();
}
template <class T>
EffectiveValue show(const Sourced<T>& value) {
    return {{}, shown(value.value), value.source};
}
/// For an optional whose absence has a word.
template <class T>
EffectiveValue show_or(const Sourced<std::optional<T>>& value, std::string_view word) {
    return {{}, value.value ? shown(*value.value) : toml_text(word), value.source};
}

// Each row: name, how it is read, how it is shown.
#define BANGER_KEY(section, name, member, reader)                                            \
    {                                                                                        \
        section, name, [](Config& c, const Place& p) { return set(c.member, (reader), p); }, \
            [](const Config& c) { return show(c.member); }                                   \
    }
#define BANGER_KEY_OR(section, name, member, reader, word)                                   \
    {                                                                                        \
        section, name, [](Config& c, const Place& p) { return set(c.member, (reader), p); }, \
            [](const Config& c) { return show_or(c.member, word); }                          \
    }

const Key all_keys[] = {
    BANGER_KEY("", "log_level", log_level, log_level_of(p)),
    BANGER_KEY("", "default_image_name", default_image_name, artifact_name_of(p)),
    BANGER_KEY("", "ssh_key_path", ssh_key_path, path_of(p)),
    BANGER_KEY("", "firecracker_bin", firecracker_bin, path_of(p)),
    BANGER_KEY("", "jailer_bin", jailer_bin, path_of(p)),
    BANGER_KEY_OR("", "auto_stop_stale_after", auto_stop_stale_after, duration_or_off(p), "off"),
    BANGER_KEY("", "stats_poll_interval", stats_poll_interval, poll_interval_of(p)),
    BANGER_KEY("", "bridge_name", bridge_name, bridge_name_of(p)),
    BANGER_KEY("", "bridge_ip", bridge_ip, host_address_of(p)),
    BANGER_KEY("", "cidr", cidr, number_of(p, 8, 30)),
    BANGER_KEY("", "guest_dns", guest_dns, host_address_of(p)),
    BANGER_KEY("", "dns_zone", dns_zone, zone_of(p)),
    BANGER_KEY("", "dns_port", dns_port, port_of(p)),
    BANGER_KEY("vm_defaults", "vcpu", vm_defaults.vcpu, number_of(p, 1, 256)),
    {"vm_defaults", "memory_mib",
     [](Config& c, const Place& p) { return set(c.vm_defaults.memory, mib_of(p), p); },
     [](const Config& c) {
         const Sourced<std::optional<ByteCount>>& memory = c.vm_defaults.memory;
         return EffectiveValue{
             {}, memory.value ? std::to_string(memory.value->in_mib()) : "", memory.source};
     }},
    BANGER_KEY("vm_defaults", "disk_size", vm_defaults.disk_size, size_of(p)),
    BANGER_KEY("vm_defaults", "system_overlay_size", vm_defaults.system_overlay_size, size_of(p)),
    BANGER_KEY("plugins", "network", plugins.network, plugin_name_of(p)),
    BANGER_KEY_OR("plugins", "dns", plugins.dns, plugin_name_or_none(p), "none"),
    BANGER_KEY("plugins", "storage", plugins.storage, plugin_name_of(p)),
    BANGER_KEY("plugins", "vm_backend", plugins.vm_backend, plugin_name_of(p)),
    BANGER_KEY("plugins", "image_sources", plugins.image_sources, plugin_names_of(p)),
};

#undef BANGER_KEY
#undef BANGER_KEY_OR

}  // namespace

std::span<const Key> keys() { return all_keys; }

std::string toml_text(std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (byte < 0x20 || byte == 0x7f)
            ((out += "\\u00") += hex[byte >> 4]) += hex[byte & 15];
        else
            out += c;
    }
    return out + "\"";
}

std::string setting_text(const SettingValue& value) {
    if (const bool* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
    if (const std::int64_t* number = std::get_if<std::int64_t>(&value))
        return std::to_string(*number);
    if (const std::string* text = std::get_if<std::string>(&value)) return shown(*text);
    return shown(std::get<std::vector<std::string>>(value));
}

Config default_config(const ConfigContext& context) {
    const bool is_user = context.mode == RunMode::user;
    Config config;
    config.mode = context.mode;
    config.default_image_name.value = "debian-bookworm";
    config.ssh_key_path.value = context.default_ssh_key;
    config.stats_poll_interval.value = std::chrono::seconds(10);
    config.bridge_name.value = "banger0";
    config.bridge_ip.value = Ipv4Address(0xac100001);  // 172.16.0.1
    config.cidr.value = 24;
    config.guest_dns.value = Ipv4Address(0x01010101);  // 1.1.1.1
    config.dns_zone.value = "vm";
    config.dns_port.value = 42069;
    config.plugins.network.value = is_user ? "net-user" : "net-bridge";
    if (!is_user) config.plugins.dns.value = "dns-resolved";
    config.plugins.storage.value = is_user ? "storage-file" : "storage-dm";
    config.plugins.vm_backend.value = "vmm-qemu";
    config.plugins.image_sources.value = {"catalog", "image-debian", "image-oci"};
    return config;
}

}  // namespace banger::config
