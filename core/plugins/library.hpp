#pragma once

#include <sys/stat.h>
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

/// The loader without manifests: files that can be trusted, libraries whose door fits, instances.
/// What bangerd-root uses by itself, and loader.hpp builds on. Needs no other library.
namespace banger {

struct Manifest;     // manifest.hpp
struct PluginFiles;  // loader.hpp

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

/// A folder held open. It and every folder above belong to root or `owner` and can be written by no
/// one else (a sticky folder above may).
struct TrustedFolder {
    UniqueFd fd;
    std::string path;  ///< without links
};
Admission<TrustedFolder> open_trusted_folder(const std::string& folder, uid_t owner);

/// A regular file STEM SUFFIX of the folder, no link, of root or `owner`, writable by no one else.
struct TrustedFile {
    UniqueFd fd;
    struct stat status = {};
};
Admission<TrustedFile> open_trusted_file(const TrustedFolder& folder, const std::string& stem,
                                         const std::string& suffix, uid_t owner);

/// An opened library whose door fits. Stays open until the process ends.
class Library {
public:
    /// Looks at the ELF headers, opens the library by its descriptor, and compares every field of
    /// the door. Runs the library's static constructors, nothing else. `file` is for people.
    static Admission<Library> open(const PluginName& name, const std::string& file,
                                   const UniqueFd& fd);
    static Admission<Library> open(const PluginFiles& files);
    [[nodiscard]] const banger_plugin_door& door() const { return *door_; }

private:
    explicit Library(const banger_plugin_door* door) : door_(door) {}
    const banger_plugin_door* door_;
};

/// Makes the instance of a plugin that is linked into the program instead of loaded. For tests.
using PluginFactory = std::function<Result<std::unique_ptr<Plugin>>(Host&)>;

/// The one instance of a plugin. Destroys it. `host` must outlive it.
class LoadedPlugin {
public:
    static Admission<LoadedPlugin> create(const PluginName& name, const std::string& file,
                                          const Library& library, Host& host);
    static Admission<LoadedPlugin> create(const PluginName& name, const PluginFactory& factory,
                                          Host& host);
    /// The same two for programs with manifests (loader.cpp): the roles must be the manifest's.
    static Admission<LoadedPlugin> create(const PluginFiles& files, const Library& library,
                                          Host& host);
    static Admission<LoadedPlugin> create(const Manifest& manifest, const PluginFactory& factory,
                                          Host& host);
    [[nodiscard]] const Roles& roles() const { return roles_; }

private:
    using Instance = std::unique_ptr<Plugin, std::function<void(Plugin*)>>;
    static Admission<LoadedPlugin> admit(const PluginName& name, const std::string& file,
                                         Instance instance);
    LoadedPlugin(Instance instance, Roles roles) : instance_(std::move(instance)), roles_(roles) {}
    Instance instance_;
    Roles roles_;
};

/// The roles that are not null, in the order of Role.
std::vector<Role> filled(const Roles& roles);

}  // namespace banger
