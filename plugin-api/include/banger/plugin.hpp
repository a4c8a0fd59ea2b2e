#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "banger/dns.hpp"
#include "banger/host.hpp"
#include "banger/image_source.hpp"
#include "banger/network.hpp"
#include "banger/result.hpp"
#include "banger/storage.hpp"
#include "banger/vm_backend.hpp"

/// The door of a plugin: C outside, C++ inside.
///
/// The library exports one symbol, the plain struct `banger_plugin`. The loader checks every field
/// before it calls a function, so a library built for another API or with another standard library
/// is a sentence for the user and never a crash. BANGER_PLUGIN() below writes it.

/// "BNGR". A library whose first word is another is not a plugin.
#define BANGER_PLUGIN_MAGIC 0x424e4752u
/// Raised by every change of a header of plugin-api that a plugin could notice.
#define BANGER_PLUGIN_API_VERSION 1u
#define BANGER_PLUGIN_SYMBOL "banger_plugin"

namespace banger {

enum class Role { network, dns, storage, image_source, vm_backend };
std::string_view to_string(Role role);  ///< "image-source" with a hyphen, as in manifests and JSON
std::optional<Role> parse_role(std::string_view word);

/// What a plugin fills: null for a role it does not. Owned by the Plugin and valid as long as it.
struct Roles {
    Network* network = nullptr;
    Dns* dns = nullptr;
    Storage* storage = nullptr;
    ImageSource* image_source = nullptr;
    VmBackend* vm_backend = nullptr;
};

/// One instance of a plugin. Made once per process by the door's create(), destroyed before exit.
class Plugin {
public:
    virtual ~Plugin() = default;
    /// Exactly the roles that the manifest names. Always the same.
    virtual Roles roles() = 0;
};

/// Everything of the toolchain that decides whether two C++ binaries can share objects: libstdc++
/// release, CXX11 ABI, language level, debug mode. Compared as text.
#define BANGER_STRINGIZE_(x) #x
#define BANGER_STRINGIZE(x) BANGER_STRINGIZE_(x)
#ifdef _GLIBCXX_DEBUG
#define BANGER_DETAIL_DEBUG_TAG "debug"
#else
#define BANGER_DETAIL_DEBUG_TAG "release"
#endif
inline constexpr char build_tag[] =
    "libstdc++" BANGER_STRINGIZE(_GLIBCXX_RELEASE) "-cxx11abi" BANGER_STRINGIZE(
        _GLIBCXX_USE_CXX11_ABI) "-c++" BANGER_STRINGIZE(__cplusplus) "-" BANGER_DETAIL_DEBUG_TAG;

}  // namespace banger

extern "C" {

/// Offsets are the same on every supported target: fixed-size integers, then pointers.
struct banger_plugin_door {
    std::uint32_t magic;
    std::uint32_t struct_size;
    std::uint32_t api_version;
    std::uint32_t reserved;  ///< zero
    const char* build_tag;
    const char* name;  ///< equal to the manifest's
    /// Makes the one instance. On failure returns null and writes a NUL-terminated sentence of at
    /// most `capacity` bytes. Never lets an exception out.
    banger::Plugin* (*create)(banger::Host* host, char* message, std::size_t capacity);
    void (*destroy)(banger::Plugin* plugin);
};
}

namespace banger::detail {
void copy_message(std::string_view text, char* message, std::size_t capacity);

template <class Make>
Plugin* create_plugin(Make make, Host* host, char* message, std::size_t capacity) noexcept {
    try {
        Result<std::unique_ptr<Plugin>> made = make(*host);
        if (made) return std::move(made).value().release();
        copy_message(made.error().text(), message, capacity);
    } catch (const std::exception& failure) {
        copy_message(failure.what(), message, capacity);
    } catch (...) {
        copy_message("the plugin threw something that is not a std::exception", message, capacity);
    }
    return nullptr;
}
}  // namespace banger::detail

/// Writes the door. `plugin_name` is a string literal; `make` is a function
/// `Result<std::unique_ptr<Plugin>> make(Host&)`.
#define BANGER_PLUGIN(plugin_name, make)                                                      \
    extern "C" __attribute__((visibility("default"))) const banger_plugin_door banger_plugin; \
    const banger_plugin_door banger_plugin = {                                                \
        BANGER_PLUGIN_MAGIC,                                                                  \
        sizeof(banger_plugin_door),                                                           \
        BANGER_PLUGIN_API_VERSION,                                                            \
        0,                                                                                    \
        ::banger::build_tag,                                                                  \
        plugin_name,                                                                          \
        [](::banger::Host* host, char* message, std::size_t capacity) noexcept {              \
            return ::banger::detail::create_plugin(make, host, message, capacity);            \
        },                                                                                    \
        [](::banger::Plugin* plugin) noexcept { delete plugin; },                             \
    }
