#include "cli/plugin_choice.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "cli/config.hpp"
#include "cli/plugin_files.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/config/edit.hpp"
#include "core/plugins/manifest.hpp"

namespace banger::cli {

namespace {

using Names = std::vector<std::string>;

/// Who is asked after this image source is never asked: to it, any word is a repository's name.
constexpr std::string_view takes_every_reference = "image-oci";

/// A plugin that is installed and fills the role on this host.
Result<void> check_fills(const std::string& name, Role role, const client::DaemonPlace& place,
                         const Context& context) {
    const std::map<std::string, std::string> files = manifest_files(place.paths, context.program);
    const auto file = files.find(name);
    if (file == files.end()) {
        Names known;
        for (const auto& [other, path] : files)
            known.push_back(other);
        const std::optional<std::string> near = nearest_word(name, known);
        return Error(Errc::not_found, "there is no plugin " + banger::quoted(name),
                     near ? "Did you mean " + *near + "?" : "See: banger plugin list");
    }
    const std::string text = BANGER_TRY(read_file(file->second, ByteCount::mib(1)));
    const Manifest manifest = BANGER_TRY(parse_manifest(text, file->second));
    if (std::ranges::find(manifest.roles, role) == manifest.roles.end())
        return Error(Errc::unsupported,
                     name + " does not fill the role " + std::string(to_string(role)),
                     "See: banger plugin list");
    if (manifest.privilege == Privilege::root && place.paths.mode == RunMode::user)
        return Error(Errc::unsupported, name + " needs root, which user mode has not",
                     "Install the services: sudo banger system install --owner \"$USER\"");
    return ok();
}

/// Sets `[plugins] KEY` in the user's file. A file that is a link stays one.
Result<int> set_choice(const std::string& key, const SettingValue& value,
                       const client::DaemonPlace& place, Context& context) {
    const std::unique_ptr<char, decltype(&std::free)> real(
        ::realpath(place.paths.user_config_file.c_str(), nullptr), &std::free);
    const std::string path = real ? real.get() : place.paths.user_config_file;
    std::string text;
    mode_t mode = 0600;
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) {
        text = BANGER_TRY(read_file(path, ByteCount::mib(1)));
        mode = status.st_mode & 0777;
    }
    const std::string changed = BANGER_TRY(set_value(text, path, "plugins", key, value));
    Terminal& terminal = context.terminal;
    if (changed == text) {
        terminal.out(printable(path) + " has that already\n");
        return 0;
    }
    BANGER_TRY(ensure_folder(parent_path(path), 0700));
    BANGER_TRY(write_file_atomic(path, changed, mode));
    terminal.out("set plugins." + key + " in " + printable(path) + "\n");
    terminal.note(
        place.paths.mode == RunMode::system
            ? "It holds after: sudo banger system restart\n"
            : "It holds when bangerd starts again; it leaves by itself when nothing runs\n");
    return 0;
}

Result<Names> image_sources(const client::DaemonPlace& place) {
    const Config config = BANGER_TRY(effective_config(place));
    return *config.plugins.image_sources;
}

}  // namespace

Result<int> plugin_use(const Arguments& arguments, Context& context) {
    const std::optional<Role> role = parse_role(arguments.words[0]);
    const std::string& name = arguments.words[1];
    if (!role)
        return usage_error(context, {Errc::invalid_argument,
                                     "there is no role " + banger::quoted(arguments.words[0]),
                                     "Use network, dns, storage, image-source or vm-backend."});
    const client::DaemonPlace place = BANGER_TRY(daemon_place(context));
    if (*role != Role::dns || name != "none") BANGER_TRY(check_fills(name, *role, place, context));
    if (*role != Role::image_source) {
        std::string key(to_string(*role));
        std::ranges::replace(key, '-', '_');
        return set_choice(key, name, place, context);
    }
    Names sources = BANGER_TRY(image_sources(place));
    std::erase(sources, name);
    sources.insert(sources.begin(), name);
    return set_choice("image_sources", sources, place, context);
}

Result<int> plugin_enable(const Arguments& arguments, Context& context) {
    const std::string& name = arguments.words[0];
    const client::DaemonPlace place = BANGER_TRY(daemon_place(context));
    if (const Result<void> fills = check_fills(name, Role::image_source, place, context); !fills) {
        Error error = fills.error();
        if (error.code == Errc::unsupported)
            error.remedy = "Another role has one plugin: banger plugin use ROLE " + name;
        return error;
    }
    Names sources = BANGER_TRY(image_sources(place));
    if (std::ranges::count(sources, name) == 0)
        sources.insert(std::ranges::find(sources, takes_every_reference), name);
    return set_choice("image_sources", sources, place, context);
}

Result<int> plugin_disable(const Arguments& arguments, Context& context) {
    const std::string& name = arguments.words[0];
    const client::DaemonPlace place = BANGER_TRY(daemon_place(context));
    Names sources = BANGER_TRY(image_sources(place));
    if (std::erase(sources, name) == 0)
        return Error(Errc::not_found, name + " is not among the image sources",
                     "Another role keeps a plugin until there is a new one: banger plugin use ROLE "
                     "PLUGIN (of dns: none)");
    if (sources.empty())
        return Error(Errc::in_use, name + " is the only image source",
                     "Enable another one first: banger plugin enable catalog");
    return set_choice("image_sources", sources, place, context);
}

}  // namespace banger::cli
