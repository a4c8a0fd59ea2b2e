#include "cli/plugin_new.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "banger/values.hpp"
#include "cli/plugin_files.hpp"
#include "cli/render/terminal.hpp"
#include "cli/render/text.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "plugin_templates.hpp"

namespace banger::cli {

namespace {

std::string renamed(std::string_view text, std::string_view from, const std::string& to) {
    std::string out;
    for (std::size_t at = 0;;) {
        const std::size_t found = text.find(from, at);
        out += text.substr(at, found == text.npos ? found : found - at);
        if (found == text.npos) return out;
        out += to;
        at = found + from.size();
    }
}

Result<void> write_project(const PluginTemplate& project, const PluginName& name,
                           const std::string& folder) {
    if (::mkdir(folder.c_str(), 0755) != 0) {
        if (errno == EEXIST)
            return Error(Errc::already_exists, folder + " exists already",
                         "Choose another name, or move that away.");
        return Error::from_errno(errno, "making " + folder);
    }
    Rollback rollback([](const Error&) {});
    rollback.add("removing " + folder, [&] { return remove_tree(folder); });
    for (const TemplateFile& file : project.files)
        BANGER_TRY(write_file_atomic(folder + "/" + renamed(file.path, project.name, name.str()),
                                     renamed(file.text, project.name, name.str()), 0644));
    rollback.commit();
    return ok();
}

}  // namespace

std::vector<std::string> template_roles() {
    std::vector<std::string> roles;
    for (const PluginTemplate& project : plugin_templates)
        roles.emplace_back(project.role);
    return roles;
}

Result<int> plugin_new(const Arguments& arguments, Context& context) {
    const PluginName name = BANGER_TRY(PluginName::parse(arguments.words[0]));
    const std::optional<std::string> role = arguments.value("role");
    if (!role)
        return usage_error(context, {Errc::invalid_argument, "the plugin's role is not said",
                                     "Add --role and one of: " + joined(template_roles(), "")});
    if (path_exists(own_plugins(context.program) + "/" + name.str() + ".toml"))
        return Error(Errc::already_exists,
                     "banger has a plugin " + name.str() + " of its own, which goes first",
                     "Choose another name.");
    // Found: the option takes nothing else.
    const auto* const project = std::ranges::find(plugin_templates, *role, &PluginTemplate::role);
    BANGER_TRY(write_project(*project, name, name.str()));
    Terminal& terminal = context.terminal;
    terminal.out("made " + name.str() + "\n");
    terminal.note("Build and test it: cd " + name.str() +
                  " && cmake -B build && cmake --build build && ctest --test-dir build\n");
    return 0;
}

}  // namespace banger::cli
