#include "core/system/layout.hpp"

#include <pwd.h>

#include <vector>

#include "core/base/names.hpp"
#include "core/plugins/trusted_plugins.hpp"

namespace banger::system {

namespace {

Result<Owner> owner_of(const passwd* entry, const std::string& wanted) {
    if (!entry)
        return Error(Errc::not_found, "there is no user " + quoted(wanted),
                     "Name the user whom the machines shall belong to: --owner USER");
    if (entry->pw_uid == 0)
        return Error(Errc::invalid_argument, "root cannot own machines",
                     "Name the user who will run `banger`: --owner USER");
    return Owner{entry->pw_name, entry->pw_uid, entry->pw_gid, entry->pw_dir};
}

}  // namespace

Layout Layout::at(std::string root) {
    Layout layout;
    layout.binaries = root + "/usr/local/bin";
    layout.library = root + "/usr/local/lib/banger";
    layout.plugins = layout.library + "/plugins";
    layout.share = root + "/usr/local/share";
    layout.units = root + "/etc/systemd/system";
    layout.tmpfiles = root + "/etc/tmpfiles.d/banger.conf";
    layout.udev_rules = root + "/etc/udev/rules.d/59-banger.rules";
    layout.etc = root + "/etc/banger";
    layout.install_record = layout.etc + "/install.toml";
    layout.helper_config = layout.etc + "/helper.json";
    layout.trusted_plugins = layout.etc + "/" + std::string(trusted_plugins_file);
    layout.config = layout.etc + "/config.toml";
    layout.state = root + "/var/lib/banger";
    layout.root_state = root + "/var/lib/banger-root";
    layout.cache = root + "/var/cache/banger";
    layout.build_cache = root + "/var/cache/banger-build";
    layout.run = root + "/run/banger";
    layout.root_run = root + "/run/banger-root";
    layout.root = std::move(root);
    return layout;
}

Result<Owner> Owner::find(const std::string& name) {
    std::vector<char> buffer(65536);
    passwd entry{};
    passwd* found = nullptr;
    (void)::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    return owner_of(found, name);
}

Result<Owner> Owner::find(uid_t uid) {
    std::vector<char> buffer(65536);
    passwd entry{};
    passwd* found = nullptr;
    (void)::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    return owner_of(found, std::to_string(uid));
}

}  // namespace banger::system
