#include "core/plugins/loader.hpp"

#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

#include "core/base/file.hpp"
#include "core/base/names.hpp"

namespace banger {

namespace {

constexpr ByteCount max_manifest = ByteCount::kib(64);
constexpr std::string_view rebuild = "Rebuild the plugin against this banger's plugin-api.";

Admission<PluginFiles> find_plugin(const TrustedFolder& folder, const std::string& stem,
                                   uid_t owner) {
    const std::string manifest_path = folder.path + "/" + stem + ".toml";
    std::string library_path = folder.path + "/" + stem + ".so";
    const auto refuse = [&](const std::string& file, std::string reason, std::string remedy) {
        return Refusal{stem, file, std::move(reason), std::move(remedy)};
    };
    if (const Result<PluginName> name = PluginName::parse(stem); !name)
        return refuse(library_path, name.error().message, name.error().remedy);
    Admission<TrustedFile> manifest_file = open_trusted_file(folder, stem, ".toml", owner);
    if (!manifest_file) return manifest_file.refusal();
    const Result<std::string> text = read_all(manifest_file->fd.get(), max_manifest);
    if (!text)
        return refuse(manifest_path, text.error().message, "A manifest is a small text file.");
    const Result<Manifest> manifest = parse_manifest(*text, manifest_path);
    if (!manifest) return refuse(manifest_path, manifest.error().message, manifest.error().remedy);
    if (manifest->name.str() != stem)
        return refuse(manifest_path, "its name is \"" + manifest->name.str() + "\"",
                      "Name manifest and library after the plugin.");
    if (manifest->api_version != BANGER_PLUGIN_API_VERSION)
        return refuse(manifest_path,
                      "it is for plugin-api version " + std::to_string(manifest->api_version) +
                          ", this banger has " + std::to_string(BANGER_PLUGIN_API_VERSION),
                      std::string(rebuild));
    const bool is_library = manifest->executable.empty();
    Admission<TrustedFile> library =
        is_library ? open_trusted_file(folder, stem, ".so", owner)
                   : open_trusted_file(folder, manifest->executable, "", owner);
    if (!library)
        return Refusal{stem, library.refusal().file, library.refusal().reason,
                       library.refusal().remedy};
    if (!is_library) library_path = folder.path + "/" + manifest->executable;
    if (!is_library && (library->status.st_mode & S_IXUSR) == 0)
        return refuse(library_path, "it is not executable",
                      "Allow it: chmod u+x " + library_path + ".");
    return PluginFiles{*manifest, library_path, std::move(library->fd), library->status.st_uid};
}

std::string role_words(const std::vector<Role>& roles) {
    std::string text;
    for (const Role role : roles)
        text += (text.empty() ? "" : ", ") + std::string(to_string(role));
    return text.empty() ? "none" : text;
}

Admission<LoadedPlugin> check_roles(const Manifest& manifest, const std::string& file,
                                    Admission<LoadedPlugin> plugin) {
    if (!plugin || filled(plugin->roles()) == manifest.roles) return plugin;
    return Refusal{manifest.name.str(), file,
                   "it fills " + role_words(filled(plugin->roles())) + ", its manifest says " +
                       role_words(manifest.roles),
                   "Put the library and the manifest of one build together."};
}

}  // namespace

Result<Digest> PluginFiles::digest() const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          &EVP_MD_CTX_free);
    std::array<unsigned char, 1 << 16> buffer;
    if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
        return Error(Errc::internal, "libcrypto has no SHA-256");
    off_t offset = 0;
    while (true) {
        const ssize_t got = ::pread(library_fd.get(), buffer.data(), buffer.size(), offset);
        if (got < 0) return Error::from_errno(errno, "reading " + library);
        if (got == 0) break;
        EVP_DigestUpdate(context.get(), buffer.data(), static_cast<std::size_t>(got));
        offset += got;
    }
    std::array<unsigned char, 32> sum;
    EVP_DigestFinal_ex(context.get(), sum.data(), nullptr);
    std::string text = "sha256:";
    for (const unsigned char byte : sum) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return Digest::parse(text);
}

Admission<PluginFiles> find_plugin(const std::string& folder, const std::string& stem,
                                   uid_t owner) {
    Admission<TrustedFolder> trusted = open_trusted_folder(folder, owner);
    if (!trusted) return Refusal{stem, folder, trusted.refusal().reason, trusted.refusal().remedy};
    return find_plugin(*trusted, stem, owner);
}

std::vector<Admission<PluginFiles>> find_plugins(const std::string& folder, uid_t owner) {
    std::vector<Admission<PluginFiles>> found;
    if (!path_exists(folder)) return found;
    Admission<TrustedFolder> trusted = open_trusted_folder(folder, owner);
    if (!trusted) {
        found.emplace_back(trusted.refusal());
        return found;
    }
    const Result<std::vector<std::string>> names =
        list_folder("/proc/self/fd/" + std::to_string(trusted->fd.get()) + "/.");
    if (!names) {
        found.emplace_back(Refusal{folder, folder, names.error().message, names.error().remedy});
        return found;
    }
    std::set<std::string> stems;
    for (const std::string& name : *names)
        for (const std::string_view suffix : {".so", ".toml"})
            if (name.ends_with(suffix)) stems.insert(name.substr(0, name.size() - suffix.size()));
    for (const std::string& stem : stems)
        found.push_back(find_plugin(*trusted, stem, owner));
    return found;
}

Admission<Library> Library::open(const PluginFiles& files) {
    return open(files.manifest.name, files.library, files.library_fd);
}

Admission<LoadedPlugin> LoadedPlugin::create(const PluginFiles& files, const Library& library,
                                             Host& host) {
    return check_roles(files.manifest, files.library,
                       create(files.manifest.name, files.library, library, host));
}

Admission<LoadedPlugin> LoadedPlugin::create(const Manifest& manifest, const PluginFactory& factory,
                                             Host& host) {
    return check_roles(manifest, "built in", create(manifest.name, factory, host));
}

}  // namespace banger
