#include "core/plugins/trusted_plugins.hpp"

#include <algorithm>

#include "core/base/file.hpp"
#include "core/plugins/inspect.hpp"
#include "core/rpc/fields.hpp"

namespace banger {

namespace {

struct TrustedText {
    TrustedPlugins plugins;
};

constexpr ByteCount max_file = ByteCount::kib(64);
/// Those of this tree that need root; a test compares them with their manifests.
constexpr std::string_view own[] = {"dns-resolved", "net-bridge", "storage-dm", "vmm-firecracker"};

std::string trust_command(const std::string& name) { return "sudo banger plugin trust " + name; }

}  // namespace

}  // namespace banger

template <>
struct banger::rpc::Fields<banger::TrustedText> {
    using T = banger::TrustedText;
    static constexpr auto list = fields(field("plugins", &T::plugins));
};

namespace banger {

Result<TrustedPlugins> read_trusted_plugins(const std::string& path, uid_t root) {
    if (!path_exists(path)) return TrustedPlugins{};
    Admission<TrustedFolder> folder = open_trusted_folder(parent_path(path), root);
    if (!folder)
        return Error(Errc::unavailable, path + ": " + folder.refusal().reason,
                     folder.refusal().remedy);
    const std::string name = path.substr(path.rfind('/') + 1);
    Admission<TrustedFile> file = open_trusted_file(*folder, name, "", root);
    if (!file) {
        const std::string& reason = file.refusal().reason;
        return Error(Errc::unavailable, reason.starts_with(path) ? reason : path + ": " + reason,
                     file.refusal().remedy);
    }
    const std::string text = BANGER_TRY(read_all(file->fd.get(), max_file));
    return BANGER_TRY(
               rpc::decode_text<TrustedText>(text, trusted_plugins_file).context("reading " + path))
        .plugins;
}

Result<void> write_trusted_plugins(const std::string& path, const TrustedPlugins& trusted) {
    BANGER_TRY(ensure_folder(parent_path(path), 0755));
    return write_file_atomic(path, rpc::encode(TrustedText{trusted}).pretty_text() + "\n", 0644);
}

bool is_stranger(const Manifest& manifest) {
    return manifest.privilege == Privilege::root &&
           std::ranges::find(own, manifest.name.str()) == std::end(own);
}

std::optional<Error> distrust_of(const PluginFiles& files, const TrustedPlugins& trusted) {
    const std::string& name = files.manifest.name.str();
    if (!is_stranger(files.manifest)) return std::nullopt;
    const auto entry = trusted.find(name);
    if (entry == trusted.end())
        return Error(Errc::permission_denied,
                     "it is a third party's and would run as root, which root has not allowed",
                     "If you trust it with this whole host: " + trust_command(name));
    const Result<Digest> digest = files.digest();
    if (digest && *digest == entry->second) return std::nullopt;
    return Error(Errc::permission_denied,
                 "it is no longer the one that root allowed to run as root",
                 "Look at what is there now, and if you trust it: " + trust_command(name));
}

Result<void> check_stands_alone(const PluginFiles& files) {
    const Linkage linkage = BANGER_TRY(linkage_of(files.library_fd).context(files.library));
    const auto has_place = [](const std::string& soname) {
        return soname.find('/') != soname.npos;
    };
    const auto by_path = std::ranges::find_if(linkage.needed, has_place);
    if (linkage.search_path.empty() && by_path == linkage.needed.end()) return ok();
    return Error(Errc::permission_denied,
                 files.library + " takes libraries from " +
                     (by_path == linkage.needed.end() ? linkage.search_path : *by_path) +
                     ", and they would run as root, too",
                 "Link what it needs into it, or take it from the system's own folders; without "
                 "RUNPATH: -DCMAKE_SKIP_INSTALL_RPATH=ON.");
}

}  // namespace banger
