#include "cli/plugin_trust.hpp"

#include <unistd.h>

#include "cli/render/terminal.hpp"
#include "cli/render/text.hpp"
#include "cli/system_install.hpp"
#include "core/system/helper_config.hpp"

namespace banger::cli {

namespace {

using system::Layout;

/// The name, where root asks and the services are installed.
Result<PluginName> check_may_say(const std::string& word, const Layout& layout,
                                 const Context& context) {
    const PluginName name = BANGER_TRY(PluginName::parse(word));
    if (::geteuid() != 0) return needs_root(context, name.str());
    BANGER_TRY(installed(layout));
    return name;
}

}  // namespace

Result<int> plugin_trust(const Arguments& arguments, Context& context) {
    const Layout layout = Layout::at();
    const PluginName name = BANGER_TRY(check_may_say(arguments.words[0], layout, context));
    const UniqueFd lock = BANGER_TRY(lock_installation());
    const auto [files, digest] = BANGER_TRY(system::trust_plugin(layout, name, 0));
    context.terminal.out(name.str() + " " + printable(files.manifest.version) +
                         " may run as root from now on, which is all that root can do\n" +
                         digest.str() + "  " + files.library + "\n");
    context.terminal.note("To use it, name it in [plugins] of " + layout.config +
                          ", then: sudo banger system restart\n");
    return 0;
}

Result<int> plugin_distrust(const Arguments& arguments, Context& context) {
    const Layout layout = Layout::at();
    const PluginName name = BANGER_TRY(check_may_say(arguments.words[0], layout, context));
    const UniqueFd lock = BANGER_TRY(lock_installation());
    if (!BANGER_TRY(system::distrust_plugin(layout, name, 0))) {
        context.terminal.out(name.str() + " was not trusted\n");
        return 0;
    }
    context.terminal.out(name.str() + " may not run as root any more\n");
    context.terminal.note("What runs of it ends with: sudo banger system restart\n");
    return 0;
}

}  // namespace banger::cli
