#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "banger/values.hpp"

/// The structs of io.banger.System.varlink, name for name. Check is banger::Check.
namespace banger::protocol {

struct PluginInfo {
    std::string name;
    std::string version;
    std::string summary;
    std::vector<std::string> roles;
    std::vector<std::string> used_for;
    std::string privilege;
    std::string runs_in;
    std::string status;
    std::string reason;
    std::string remedy;
    std::string file;
    std::string digest;
    std::string trust;
    std::vector<std::string> asks_for;
};

struct CallInFlight {
    std::string plugin;
    std::string method;
    std::string vm;
    std::uint64_t milliseconds = 0;
};

struct Setting {
    std::string key;
    std::string value;
    std::string source;
};

struct SystemInfoReply {
    std::string version;
    std::string commit;
    std::string built;
    std::string mode;
    std::int64_t pid = 0;
    std::uint64_t uptime_seconds = 0;
    std::uint64_t machines = 0;
};

struct PluginsReply {
    std::vector<PluginInfo> plugins;
    std::vector<CallInFlight> calls_in_flight;
};

struct DoctorReply {
    std::vector<Check> checks;
    std::vector<Setting> settings;
};

/// The reply of Exit.
struct NoReply {};

}  // namespace banger::protocol
