#include <algorithm>

#include "cli/commands.hpp"
#include "cli/plugin_choice.hpp"
#include "cli/plugin_new.hpp"
#include "cli/plugin_trust.hpp"
#include "cli/plugin_verify.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/protocol/plugin_fields.hpp"

namespace banger::cli {

namespace {

using protocol::PluginInfo;
using Colour = Style::Colour;

Result<protocol::PluginsReply> plugins(Context& context) {
    Session session = BANGER_TRY(open_session(context));
    return session.daemon.call<protocol::PluginsReply>("io.banger.System.Plugins",
                                                       protocol::NoParameters{});
}

/// Not to be had, for a reason.
bool is_out(const std::string& status) { return status == "refused" || status == "quarantined"; }

Colour colour_of(const std::string& status) {
    if (status == "loaded") return Colour::green;
    return is_out(status) ? Colour::red : Colour::dim;
}

/// Why some were refused, and which calls do not come back.
std::string remarks(const protocol::PluginsReply& reply, const Style& style) {
    std::string text;
    for (const PluginInfo& plugin : reply.plugins)
        if (is_out(plugin.status))
            text += "\n" +
                    style(Colour::red, printable(plugin.name) + (plugin.status == "refused"
                                                                     ? " was refused:"
                                                                     : " is in quarantine:")) +
                    " " + printable(plugin.reason) + "\n  " + printable(plugin.remedy) + "\n";
    for (const protocol::CallInFlight& call : reply.calls_in_flight)
        text += "\n" + printable(call.plugin) + " has been in " + printable(call.method) + " for " +
                duration_text(std::chrono::milliseconds(call.milliseconds)) +
                (call.vm.empty() ? "" : ", machine " + printable(call.vm)) + "\n";
    return text;
}

Result<int> list(const Arguments& arguments, Context& context) {
    const protocol::PluginsReply reply = BANGER_TRY(plugins(context));
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(reply));
    } else if (arguments.has("quiet")) {
        for (const PluginInfo& plugin : reply.plugins)
            terminal.out(plugin.name + "\n");
    } else {
        Table table(
            {"NAME", "VERSION", "STATUS", "USED FOR", "PRIVILEGE", "TRUST", "RUNS IN", "SUMMARY"});
        for (const PluginInfo& plugin : reply.plugins)
            table.add({{plugin.name, Colour::bold},
                       plugin.version,
                       {plugin.status, colour_of(plugin.status)},
                       joined(plugin.used_for, "-"),
                       plugin.privilege,
                       plugin.trust,
                       plugin.runs_in,
                       plugin.summary});
        terminal.out(table.text(terminal.out_style(), terminal.out_width()) +
                     remarks(reply, terminal.out_style()));
    }
    return 0;
}

Result<PluginInfo> find_plugin(const protocol::PluginsReply& reply, const std::string& name) {
    const auto found = std::ranges::find(reply.plugins, name, &PluginInfo::name);
    if (found != reply.plugins.end()) return *found;
    return Error(Errc::not_found, "there is no plugin \"" + name + "\"", "See: banger plugin list");
}

Result<int> info(const Arguments& arguments, Context& context) {
    const protocol::PluginsReply reply = BANGER_TRY(plugins(context));
    const PluginInfo plugin = BANGER_TRY(find_plugin(reply, arguments.words[0]));
    if (arguments.has("quiet")) {
        context.terminal.out(plugin.name + "\n");
        return 0;
    }
    if (wants_json(arguments)) {
        context.terminal.out(json_text(plugin));
        return 0;
    }
    Sheet sheet;
    sheet.add("name", {plugin.name, Colour::bold});
    sheet.add("version", plugin.version);
    sheet.add("summary", plugin.summary);
    sheet.add("roles", joined(plugin.roles, "-"));
    sheet.add("used for", joined(plugin.used_for, "-"));
    sheet.add("privilege", plugin.privilege);
    sheet.add("trust", plugin.trust);
    if (plugin.trust == "sandboxed") sheet.add("asks for", joined(plugin.asks_for, "-"));
    sheet.add("runs in", plugin.runs_in);
    sheet.add("status", {plugin.status, colour_of(plugin.status)});
    sheet.add("reason", plugin.reason);
    sheet.add("remedy", plugin.remedy);
    sheet.add("file", plugin.file);
    sheet.add("digest", plugin.digest);
    context.terminal.out(sheet.text(context.terminal.out_style()));
    return 0;
}

/// A plugin's name has neither.
bool is_path(const std::string& word) {
    return word.find('/') != word.npos || word.find('.') != word.npos;
}

Result<int> verify(const Arguments& arguments, Context& context) {
    std::vector<std::string> names;
    int status = 0;
    for (const std::string& word : arguments.words)
        if (!is_path(word))
            names.push_back(word);
        else if (verify_path(word, context) != 0)
            status = exit_failed;
    if (names.empty() && !arguments.words.empty()) return status;
    const protocol::PluginsReply reply = BANGER_TRY(plugins(context));
    if (names.empty())
        for (const PluginInfo& plugin : reply.plugins)
            names.push_back(plugin.name);
    Terminal& terminal = context.terminal;
    for (const std::string& name : names) {
        const Result<PluginInfo> plugin = find_plugin(reply, name);
        if (!plugin) {
            terminal.error(plugin.error());
            status = exit_failed;
        } else if (is_out(plugin->status)) {
            terminal.out(terminal.out_style()(Colour::red, plugin->status) + "  " +
                         printable(name) + ": " + printable(plugin->reason) + "\n         " +
                         printable(plugin->remedy) + "\n");
            status = exit_failed;
        } else {
            terminal.out(terminal.out_style()(Colour::green, "ok") + "       " + printable(name) +
                         "  " + printable(plugin->digest) + "\n");
        }
    }
    return status;
}

Result<int> retry(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    BANGER_TRY(session.daemon.call<protocol::NoReply>("io.banger.System.RetryPlugin",
                                                      protocol::RetryPlugin{arguments.words[0]}));
    return 0;
}

}  // namespace

void add_plugin_commands(CommandTable& table) {
    table.groups.push_back(
        {"plugin",
         "what does the work: plugins and their roles",
         "Five roles (network, dns, storage, image source, vm back end) are\n"
         "filled by plugins, which the [plugins] table of the configuration chooses.",
         {{"banger plugin list", "which there are, what each is used for"},
          {"banger plugin info vmm-qemu", "one of them in full"},
          {"banger plugin verify", "are all of them fit to be loaded?"},
          {"banger plugin new mine --role image-source", "write one yourself"}}});
    table.commands.push_back({"plugin",
                              "list",
                              {"ls"},
                              "list plugins",
                              "Also those that were refused, and why.",
                              {},
                              false,
                              {format_option(), quiet_option("print names alone")},
                              {{"banger plugin list", "see them all"}},
                              list,
                              nullptr});
    table.commands.push_back(
        {"plugin",
         "info",
         {"show"},
         "show everything about one",
         "",
         {"PLUGIN", 1, 1},
         false,
         {format_option(), quiet_option("print the name alone")},
         {{"banger plugin info vmm-qemu", "its roles, privilege, file and digest"}},
         info,
         nullptr});
    table.commands.push_back(
        {"plugin",
         "verify",
         {},
         "check that plugins are fit to be loaded",
         "Of each PLUGIN what bangerd found; without one, all. A word with a slash or a\n"
         "dot is a path (a library, a manifest, or a folder of them): then everything is\n"
         "looked at that is looked at before a plugin is loaded, without a daemon. Owner\n"
         "and mode of files and folders, the manifest, the library, what it was built\n"
         "with. Printed are version, roles, privilege, owner, digest and the libraries\n"
         "that it needs. The exit status is 1 when one was refused.",
         {"PLUGIN...", 0, Words::many},
         false,
         {},
         {{"banger plugin verify", "check them all"},
          {"banger plugin verify build/lib/banger/plugins/mine.so", "before it is installed"}},
         verify,
         nullptr});
    table.commands.push_back(
        {"plugin",
         "new",
         {},
         "write the project of a new plugin",
         "A folder NAME with a plugin that works, its manifest, a test that puts it\n"
         "under the contract of its role, and the way to build it with the package\n"
         "banger-plugin-dev. docs/PLUGINS.md explains it.",
         {"NAME", 1, 1},
         false,
         {{"--role", "ROLE", "what it is to fill: image-source, dns or storage", "",
           template_roles()}},
         {{"banger plugin new mine --role image-source", "begin with images from a folder"}},
         plugin_new,
         nullptr});
    table.commands.push_back(
        {"plugin",
         "use",
         {},
         "let a plugin fill a role",
         "Writes it into your configuration file, and leaves the rest of that as it is.\n"
         "ROLE is network, dns, storage, image-source or vm-backend. There are several\n"
         "image sources: the one named here is asked first from then on. Machines that\n"
         "exist keep the plugins that made them.",
         {"ROLE PLUGIN", 2, 2},
         false,
         {},
         {{"banger plugin use storage storage-file", "disks as files, from the next machine on"},
          {"banger plugin use dns none", "names are not routed"}},
         plugin_use,
         nullptr});
    table.commands.push_back(
        {"plugin",
         "enable",
         {},
         "ask an image source too",
         "After the others, but before image-oci, to which every reference is one of a\n"
         "registry's. Writes it into your configuration file.",
         {"PLUGIN", 1, 1},
         false,
         {},
         {{"banger plugin enable image-oci", "images from registries"}},
         plugin_enable,
         nullptr});
    table.commands.push_back({"plugin",
                              "disable",
                              {},
                              "ask an image source no longer",
                              "Writes it into your configuration file.",
                              {"PLUGIN", 1, 1},
                              false,
                              {},
                              {{"banger plugin disable image-oci", "no images from registries"}},
                              plugin_disable,
                              nullptr});
    table.commands.push_back(
        {"plugin",
         "retry",
         {},
         "let a plugin in quarantine try again",
         "A plugin in a process of its own that crashed three times in ten minutes is in\n"
         "quarantine: it is not started any more. This forgets its crashes.",
         {"PLUGIN", 1, 1},
         false,
         {},
         {{"banger plugin retry image-mine", "after what was wrong is mended"}},
         retry,
         nullptr});
    table.commands.push_back(
        {"plugin",
         "trust",
         {},
         "let a third party's plugin run as root (sudo)",
         "PLUGIN lies in /usr/local/lib/banger/plugins, where root has put it. The digest\n"
         "of its library goes into /etc/banger/trusted-plugins.json, and bangerd-root\n"
         "loads those bytes and no others: after an update it has to be said again.\n\n"
         "In bangerd-root a plugin is root. It can do anything to this host.",
         {"PLUGIN", 1, 1},
         false,
         {},
         {{"sudo banger plugin trust net-mine", "after you have looked at what it is"}},
         plugin_trust,
         nullptr});
    table.commands.push_back({"plugin",
                              "distrust",
                              {},
                              "take that back (sudo)",
                              "Whether it was trusted or not.",
                              {"PLUGIN", 1, 1},
                              false,
                              {},
                              {{"sudo banger plugin distrust net-mine", "root's word no more"}},
                              plugin_distrust,
                              nullptr});
}

}  // namespace banger::cli
