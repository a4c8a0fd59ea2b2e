#include <filesystem>
#include <set>

#include "core/base/names.hpp"
#include "core/config/toml_place.hpp"

/// The checks of `[[file_sync]]` that need no look at the files: those are made when a machine is.
namespace banger::config {

namespace {

constexpr std::string_view guest_home = "/root";

bool is_inside(std::string_view path, std::string_view folder) {
    return path.size() > folder.size() + 1 && path.starts_with(folder) &&
           path[folder.size()] == '/';
}

/// Normalised and without a slash at the end: a folder may be written with one.
std::string without_last_slash(std::string path) {
    while (path.size() > 1 && path.ends_with('/'))
        path.pop_back();
    return path;
}

/// `~/` stands for `home`. `.` and `..` are resolved before the comparison, so that neither leads
/// out.
Result<std::string> path_inside(const Place& place, const std::string& home,
                                const std::string& remedy) {
    const std::string text = BANGER_TRY(text_of(place));
    for (const char c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return place.refuse(banger::quoted(text) + " has control characters",
                                "Write a plain path.");
    std::string path = text.starts_with("~/") ? home + text.substr(1) : text;
    path = without_last_slash(std::filesystem::path(path).lexically_normal().string());
    if (is_inside(path, home)) return path;
    return place.refuse(banger::quoted(text) + " is not inside " + home, remedy);
}

Result<std::uint32_t> mode_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
    const bool is_plain = text.size() == 3 || (text.size() == 4 && text.front() == '0');
    std::uint32_t mode = 0;
    for (const char c : text)
        mode = is_octal(c) && is_plain ? mode * 8 + static_cast<std::uint32_t>(c - '0') : 01000;
    if (is_plain && mode <= 0777) return mode;
    return place.refuse(banger::quoted(text) + " is not a file mode",
                        "Write the permission bits in octal, as text: mode = \"0600\".");
}

Result<FileSync> entry_of(const Place& place) {
    const toml::table* const table = place.node.as_table();
    if (!table)
        return place.refuse("is not a table", "Write each entry below a [[file_sync]] line.");
    FileSync entry;
    entry.source = place.source();
    for (const auto& [key, node] : *table) {
        const std::string name(key.str());
        const Place part = place.part(node, "." + name);
        if (name == "host")
            entry.host = BANGER_TRY(path_inside(part, place.context.home,
                                                "Only what lies in your home is copied: ~/…"));
        else if (name == "guest")
            entry.guest = BANGER_TRY(
                path_inside(part, std::string(guest_home), "Write a path below ~/ or /root/."));
        else if (name == "mode")
            entry.mode = BANGER_TRY(mode_of(part));
        else
            return unknown_key(part, name, {"host", "guest", "mode"});
    }
    for (const auto& [name, value] : {std::pair{"host", &entry.host}, {"guest", &entry.guest}})
        if (value->empty())
            return place.refuse("has no `" + std::string(name) + "`",
                                "Give both `host` and `guest`.");
    return entry;
}

}  // namespace

Result<std::vector<FileSync>> file_sync_of(const Place& place) {
    const toml::array* const list = place.node.as_array();
    if (!list)
        return place.refuse("is not a list of tables", "Write [[file_sync]], in two brackets.");
    std::vector<FileSync> entries;
    std::set<std::string> guests;
    for (const toml::node& element : *list) {
        const Place part = place.part(element, "[" + std::to_string(entries.size()) + "]");
        FileSync entry = BANGER_TRY(entry_of(part));
        if (!guests.insert(entry.guest).second)
            return part.refuse("writes " + banger::quoted(entry.guest) + " again",
                               "Give every entry a `guest` of its own.");
        entries.push_back(std::move(entry));
    }
    return entries;
}

}  // namespace banger::config
