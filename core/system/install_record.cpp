#include "core/system/install_record.hpp"

#include <toml++/toml.h>

#include <sstream>

#include "core/base/file.hpp"

namespace banger::system {

std::string InstallRecord::text() const {
    toml::array names;
    for (const std::string& plugin : plugins)
        names.push_back(plugin);
    const toml::table table{{"owner_uid", static_cast<std::int64_t>(owner_uid)},
                            {"owner_gid", static_cast<std::int64_t>(owner_gid)},
                            {"version", version},
                            {"commit", commit},
                            {"enabled_linger", enabled_linger},
                            {"plugins", std::move(names)}};
    std::ostringstream out;
    out << "# Written by `banger system install`, and read by it. Do not edit: settings are in "
           "config.toml.\n"
        << table << "\n";
    return out.str();
}

Result<InstallRecord> InstallRecord::parse(std::string_view text, const std::string& file) {
    const auto broken = [&](const std::string& why) {
        return Error(Errc::corrupt, file + " is damaged: " + why,
                     "Run `sudo banger system install --owner USER` again.");
    };
    toml::table table;
    try {
        table = toml::parse(text, file);
    } catch (const toml::parse_error& error) {
        return broken(std::string(error.description()));
    }
    const std::optional<std::int64_t> uid = table["owner_uid"].value_exact<std::int64_t>();
    const std::optional<std::int64_t> gid = table["owner_gid"].value_exact<std::int64_t>();
    const auto is_id = [](std::int64_t id) { return id >= 0 && id < 0xffffffff; };
    if (!uid || !is_id(*uid) || *uid == 0) return broken("owner_uid is missing or wrong");
    if (!gid || !is_id(*gid)) return broken("owner_gid is missing or wrong");
    InstallRecord record;
    record.owner_uid = static_cast<uid_t>(*uid);
    record.owner_gid = static_cast<gid_t>(*gid);
    record.version = table["version"].value_or(std::string());
    record.commit = table["commit"].value_or(std::string());
    record.enabled_linger = table["enabled_linger"].value_or(false);
    if (const toml::array* names = table["plugins"].as_array())
        for (const toml::node& name : *names)
            if (const auto plugin = name.value<std::string>()) record.plugins.push_back(*plugin);
    return record;
}

Result<std::optional<InstallRecord>> read_install_record(const Layout& layout) {
    const Result<std::string> text = read_file(layout.install_record, ByteCount::mib(1));
    if (!text) {
        if (text.error().code == Errc::not_found) return std::optional<InstallRecord>();
        return text.error();
    }
    return std::optional(BANGER_TRY(InstallRecord::parse(*text, layout.install_record)));
}

}  // namespace banger::system
