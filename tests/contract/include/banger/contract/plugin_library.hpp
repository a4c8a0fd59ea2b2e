#pragma once

#include <dlfcn.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "banger/plugin.hpp"

namespace banger::contract {

/// A plugin made from its library, through the door: what a subject holds, so that the suite tests
/// the file that will be installed. `banger plugin verify` looks at the rest: owner, manifest,
/// every field of the door.
class PluginLibrary {
public:
    /// Throws std::runtime_error, which fails the test that makes the subject. `host` outlives it.
    PluginLibrary(const std::string& path, Host& host)
        : plugin_(create(door_of(path), host), door_of(path).destroy) {}
    [[nodiscard]] Roles roles() const { return plugin_->roles(); }

private:
    /// The library stays open until the test program ends, as in banger.
    static const banger_plugin_door& door_of(const std::string& path) {
        void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(::dlerror());
        const void* const door = ::dlsym(library, BANGER_PLUGIN_SYMBOL);
        if (door == nullptr) throw std::runtime_error(path + " has no " BANGER_PLUGIN_SYMBOL);
        return *static_cast<const banger_plugin_door*>(door);
    }
    static Plugin* create(const banger_plugin_door& door, Host& host) {
        std::array<char, 512> message{};
        Plugin* const plugin = door.create(&host, message.data(), message.size());
        if (plugin == nullptr) throw std::runtime_error(message.data());
        return plugin;
    }

    std::unique_ptr<Plugin, void (*)(Plugin*)> plugin_;
};

}  // namespace banger::contract
