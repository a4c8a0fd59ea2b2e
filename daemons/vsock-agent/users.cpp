#include "daemons/vsock-agent/users.hpp"

#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>

namespace banger::agent {

namespace {

using Parts = std::vector<std::string_view>;

constexpr std::size_t max_groups = 256;

Parts split(std::string_view text, char separator) {
    Parts parts;
    while (true) {
        const std::size_t at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == text.npos) return parts;
        text.remove_prefix(at + 1);
    }
}

std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    // -1 means "leave it as it is" to setuid(2) and its like.
    if (failed != std::errc() || end != text.data() + text.size() || value == ~std::uint32_t{0})
        return std::nullopt;
    return value;
}

/// Lines with enough fields, split at colons, until `visit` says that it has seen enough.
void each_entry(std::string_view file, std::size_t fields,
                const std::function<bool(const Parts&)>& visit) {
    for (const std::string_view line : split(file, '\n')) {
        const Parts parts = split(line, ':');
        if (parts.size() >= fields && !visit(parts)) return;
    }
}

std::optional<gid_t> find_group(std::string_view wanted, std::string_view group) {
    std::optional<gid_t> found;
    each_entry(group, 3, [&](const Parts& entry) {
        if (entry[0] == wanted) found = number(entry[2]);
        return !found;
    });
    return found ? found : number(wanted);
}

}  // namespace

Result<ImageUser> find_user(std::string_view wanted, std::string_view passwd,
                            std::string_view group) {
    const std::size_t colon = wanted.find(':');
    const std::string_view asked = wanted.substr(0, colon);
    const std::string_view who = asked.empty() ? "0" : asked;
    const std::optional<std::uint32_t> uid = number(who);
    std::optional<ImageUser> user;
    std::string name;
    each_entry(passwd, 7, [&](const Parts& entry) {
        const std::optional<std::uint32_t> own = number(entry[2]);
        if (!own || !(entry[0] == who || (uid && own == uid))) return true;
        name = entry[0];
        user = ImageUser{
            *own, number(entry[3]).value_or(0), {}, std::string(entry[5]), std::string(entry[6])};
        return false;
    });
    if (!user && who == "root") user = ImageUser{};
    if (!user && uid)
        user = ImageUser{.uid = *uid, .gid = 0, .groups = {}, .home = {}, .shell = {}};
    if (!user)
        return Error(Errc::not_found,
                     "the image has no user " + std::string(who) + " in /etc/passwd");
    if (user->home.empty()) user->home = user->uid == 0 ? "/root" : "/";
    if (colon != wanted.npos && colon + 1 < wanted.size()) {
        const std::optional<gid_t> gid = find_group(wanted.substr(colon + 1), group);
        if (!gid)
            return Error(Errc::not_found, "the image has no group " +
                                              std::string(wanted.substr(colon + 1)) +
                                              " in /etc/group");
        user->gid = *gid;
        return *std::move(user);
    }
    if (name.empty()) return *std::move(user);
    each_entry(group, 4, [&](const Parts& entry) {
        const std::optional<std::uint32_t> gid = number(entry[2]);
        for (const std::string_view member : split(entry[3], ','))
            if (gid && member == name) user->groups.push_back(*gid);
        return user->groups.size() < max_groups;
    });
    return *std::move(user);
}

}  // namespace banger::agent
