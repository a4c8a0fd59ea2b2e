#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/plugins/manifest.hpp"

/// Brings plugins in, one check after the other, so that what is wrong with one is a sentence and
/// never a crash:
///
/// 1. `PluginFiles::find`: folder, manifest and library are files of root or of the owner, writable
/// by
///    no one else, and so is every folder above. All looked at through descriptors that stay open:
///    what was checked is what is read and loaded, whatever happens to the names meanwhile.
/// 2. The manifest is read (manifest.hpp).
/// 3. `Library::open`: the ELF headers fit the file (a truncated library would end the process with
///    SIGBUS inside ld.so), the library is opened by its descriptor, and every field of the door is
///    compared before a function is called.
/// 4. `LoadedPlugin::create`: create() is called, and roles() must be the manifest's.
///
/// A library is never unloaded. All functions may block on the disk; safe from any thread.
namespace banger {

/// Why a plugin is not to be had. Kept for `plugin list` and `doctor`.
struct Refusal {
    std::string name;    ///< the stem of the file, or the folder; not always a valid PluginName
    std::string file;    ///< what the reason is about
    std::string reason;  ///< without a final full stop
    std::string remedy;  ///< one sentence
    friend bool operator==(const Refusal&, const Refusal&) = default;

    /// As an error for a caller who asked for this very plugin: Errc::unavailable.
    [[nodiscard]] Error error() const;
};

/// What one folder holds for one plugin, checked but not opened. Move-only; holds one descriptor.
struct PluginFiles {
    Manifest manifest;
    std::string library;  ///< path of the .so, for people
    UniqueFd library_fd;
    uid_t owner_uid = 0;  ///< of the library
    Digest digest;        ///< of the library's bytes
};

/// A Refusal or the thing.
template <class T>
class Admission {
public:
    Admission(T value) : value_(std::move(value)) {}              // NOLINT
    Admission(Refusal refusal) : refusal_(std::move(refusal)) {}  // NOLINT
    explicit operator bool() const { return value_.has_value(); }
    T& operator*() { return *value_; }
    T* operator->() { return &*value_; }
    [[nodiscard]] const Refusal& refusal() const { return refusal_; }

private:
    std::optional<T> value_;
    Refusal refusal_;
};

/// The plugins of one folder, each admitted or refused, sorted by name. A folder that does not
/// exist has none. A folder that others can write to is one Refusal for the folder. `owner` is
/// trusted beside root.
std::vector<Admission<PluginFiles>> find_plugins(const std::string& folder, uid_t owner);

/// An opened library whose door fits. Stays open until the process ends.
class Library {
public:
    /// Checks 3 of the list above. Runs the library's static constructors, nothing else.
    static Admission<Library> open(const PluginFiles& files);
    [[nodiscard]] const banger_plugin_door& door() const { return *door_; }

private:
    explicit Library(const banger_plugin_door* door) : door_(door) {}
    const banger_plugin_door* door_;
};

/// Makes the instance of a plugin that is linked into the program instead of loaded. For tests.
using PluginFactory = std::function<Result<std::unique_ptr<Plugin>>(Host&)>;

/// The one instance of a plugin, whose roles are the manifest's. Destroys it.
class LoadedPlugin {
public:
    /// Check 4. `host` must outlive the instance.
    static Admission<LoadedPlugin> create(const PluginFiles& files, const Library& library,
                                          Host& host);
    static Admission<LoadedPlugin> create(const Manifest& manifest, const PluginFactory& factory,
                                          Host& host);
    [[nodiscard]] const Roles& roles() const { return roles_; }

private:
    using Instance = std::unique_ptr<Plugin, std::function<void(Plugin*)>>;
    static Admission<LoadedPlugin> admit(const Manifest& manifest, std::string_view file,
                                         Instance instance);
    LoadedPlugin(Instance instance, Roles roles) : instance_(std::move(instance)), roles_(roles) {}
    Instance instance_;
    Roles roles_;
};

}  // namespace banger
