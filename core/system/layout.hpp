#pragma once

#include <sys/types.h>

#include <string>

#include "banger/result.hpp"

/// The system installation: two services, whose files lie here.
namespace banger::system {

/// Where everything of system mode lies. A value with a root in front, so that a test has its own.
struct Layout {
    static Layout at(std::string root = {});

    std::string root;            ///< "" on a real host
    std::string binaries;        ///< /usr/local/bin
    std::string library;         ///< /usr/local/lib/banger: plugins, and the agent beside them
    std::string plugins;         ///< /usr/local/lib/banger/plugins
    std::string share;           ///< /usr/local/share: completions and manual pages beneath
    std::string units;           ///< /etc/systemd/system
    std::string tmpfiles;        ///< /etc/tmpfiles.d/banger.conf
    std::string udev_rules;      ///< /etc/udev/rules.d/59-banger.rules
    std::string etc;             ///< /etc/banger
    std::string install_record;  ///< /etc/banger/install.toml
    std::string helper_config;   ///< /etc/banger/helper.json
    std::string config;          ///< /etc/banger/config.toml
    std::string state;           ///< /var/lib/banger
    std::string root_state;      ///< /var/lib/banger-root
    std::string cache;           ///< /var/cache/banger
    /// /var/cache/banger-build: mmdebstrap's unprivileged ids must reach it, so it is open to pass
    /// through.
    std::string build_cache;
    std::string run;       ///< /run/banger
    std::string root_run;  ///< /run/banger-root
    /// /etc/banger/trusted-plugins.json: whom root lets into the helper
    std::string trusted_plugins;
};

/// Whom the machines belong to: the authority of both services.
struct Owner {
    std::string name;
    uid_t uid = 0;
    gid_t gid = 0;
    std::string home;

    /// From the user database. Errc::not_found; Errc::invalid_argument for root.
    static Result<Owner> find(const std::string& name);
    static Result<Owner> find(uid_t uid);
};

/// The four units, sockets first.
inline constexpr const char* unit_names[] = {"bangerd-root.socket", "bangerd.socket",
                                             "bangerd-root.service", "bangerd.service"};

}  // namespace banger::system
