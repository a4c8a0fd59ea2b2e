#include "cli/plugin_verify.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>

#include "cli/render/table.hpp"
#include "cli/render/terminal.hpp"
#include "cli/render/text.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/plugins/inspect.hpp"
#include "core/plugins/loader.hpp"
#include "core/plugins/trusted_plugins.hpp"
#include "core/system/files.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using Colour = Style::Colour;

std::string owner_text(uid_t uid) { return uid == 0 ? "root" : "uid " + std::to_string(uid); }

std::string roles_text(const Manifest& manifest) {
    std::vector<std::string> words;
    for (const Role role : manifest.roles)
        words.emplace_back(to_string(role));
    return joined(words, "nothing");
}

std::string privilege_text(Privilege privilege) {
    if (privilege == Privilege::none) return "none";
    return "root: it runs in bangerd-root, from root's own plugin folder";
}

/// Whether bangerd-root of this host would load a third party's; empty for others.
std::string trust_text(const PluginFiles& files) {
    if (!is_stranger(files.manifest)) return {};
    const Result<TrustedPlugins> trusted =
        read_trusted_plugins(system::Layout::at().trusted_plugins, 0);
    if (!trusted) return trusted.error().message;
    const std::optional<Error> distrust = distrust_of(files, *trusted);
    return distrust ? distrust->message : "by root, for these very bytes";
}

/// Its constructors run in a process of their own: they may crash it, or never end. The build tag.
Admission<std::string> open_in_a_child(const PluginFiles& files, const std::string& folder,
                                       const std::string& program) {
    const std::string name = files.manifest.name.str();
    const auto refuse = [&](std::string reason, std::string remedy) {
        return Refusal{name, files.library, std::move(reason), std::move(remedy)};
    };
    Command command;
    command.program = program;
    command.arguments = {"__open-plugin", folder, name};
    command.environment = minimal_environment();
    command.dies_with_parent = true;
    const Result<CommandOutput> output =
        run_command(std::move(command), 20s, ByteCount::kib(64), {});
    if (!output && output.error().code == Errc::timed_out)
        return refuse("opening it does not end: a static constructor hangs",
                      "Do that work in the function that makes the plugin.");
    if (!output) return refuse(output.error().message, output.error().remedy);
    if (output->status.signal != 0)
        return refuse("opening it crashes (signal " + std::to_string(output->status.signal) + ", " +
                          ::strsignal(output->status.signal) + "): a static constructor does that",
                      "Run a debugger on: " + shell_quote(program) + " __open-plugin " +
                          shell_quote(folder) + " " + name);
    const std::string& text = output->standard_output;
    const std::size_t end = text.find('\n');
    const std::string first = text.substr(0, end);
    // An exit status of 0 alone says nothing: a constructor may have called exit(0).
    if (output->status.is_success() && !first.empty()) return first;
    if (first.empty()) return refuse("opening it ends the process", "Take exit() out of it.");
    std::string rest = end == text.npos ? "" : text.substr(end + 1);
    while (rest.ends_with('\n'))
        rest.pop_back();
    return refuse(first, rest);
}

/// What it needs, and whether this host has it.
struct Needs {
    std::string text;
    std::vector<std::string> missing;
};
Needs needs_of(const PluginFiles& files) {
    const Result<Linkage> linkage = linkage_of(files.library_fd);
    if (!linkage) return {"unknown: " + linkage.error().message, {}};
    Needs needs;
    needs.missing = system::missing_libraries(files.library).value_or({});
    std::vector<std::string> words;
    for (const std::string& soname : linkage->needed)
        words.push_back(soname + (std::ranges::count(needs.missing, soname) ? " (missing)" : ""));
    needs.text = joined(words, "nothing");
    if (!linkage->search_path.empty()) needs.text += ", first from " + linkage->search_path;
    return needs;
}

void print_refusal(const Refusal& refusal, Terminal& terminal) {
    const std::string where =
        refusal.reason.find(refusal.file) == refusal.reason.npos ? refusal.file + ": " : "";
    terminal.out(terminal.out_style()(Colour::red, "refused") + "  " + printable(refusal.name) +
                 ": " + printable(where + refusal.reason) + "\n         " +
                 printable(refusal.remedy) + "\n");
}

/// True when it can be loaded.
bool verify_one(Admission<PluginFiles> found, const std::string& folder, Context& context) {
    Terminal& terminal = context.terminal;
    if (!found) {
        print_refusal(found.refusal(), terminal);
        return false;
    }
    const PluginFiles& files = *found;
    const bool is_library = files.manifest.executable.empty();
    const Needs needs = is_library ? needs_of(files) : Needs();
    Admission<std::string> opened =
        is_library ? open_in_a_child(files, folder, context.program)
                   : Admission<std::string>(std::string("a program of its own"));
    if (opened) {
        terminal.out(terminal.out_style()(Colour::green, "ok") + "       " +
                     files.manifest.name.str() + " can be loaded\n");
    } else {
        Refusal refusal = opened.refusal();
        if (!needs.missing.empty())
            refusal.remedy =
                "Install what it needs: sudo apt install " + system::packages_of(needs.missing);
        print_refusal(refusal, terminal);
    }
    const Result<Digest> digest = files.digest();
    Sheet sheet;
    sheet.add("version", files.manifest.version);
    sheet.add("summary", files.manifest.summary);
    sheet.add("roles", roles_text(files.manifest));
    sheet.add("privilege", privilege_text(files.manifest.privilege));
    sheet.add("trust", trust_text(files));
    sheet.add("asks for", joined(words_of(files.manifest.sandbox), "nothing"));
    sheet.add("file", files.library);
    sheet.add("owner", owner_text(files.owner_uid));
    sheet.add("digest", digest ? digest->str() : digest.error().message);
    sheet.add("plugin-api", std::to_string(files.manifest.api_version));
    sheet.add("built with", opened ? *opened : std::string());
    sheet.add("needs", needs.text);
    terminal.out(sheet.text(terminal.out_style()));
    return static_cast<bool>(opened);
}

}  // namespace

int verify_path(const std::string& path, Context& context) {
    struct stat status {};
    const bool is_there = ::stat(path.c_str(), &status) == 0;
    if (is_there && S_ISDIR(status.st_mode)) {
        std::vector<Admission<PluginFiles>> all = find_plugins(path, ::geteuid());
        if (all.empty()) {
            context.terminal.error({Errc::not_found, "there is no plugin in " + path,
                                    "A plugin is NAME.so beside NAME.toml."});
            return exit_failed;
        }
        bool are_good = true;
        for (Admission<PluginFiles>& one : all)
            are_good &= verify_one(std::move(one), path, context);
        return are_good ? 0 : exit_failed;
    }
    const std::string folder = parent_path(path);
    std::string stem = path.substr(path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1);
    for (const std::string_view suffix : {".so", ".toml"})
        if (stem.ends_with(suffix)) {
            stem.resize(stem.size() - suffix.size());
            break;
        }
    const bool is_good = verify_one(find_plugin(folder, stem, ::geteuid()), folder, context);
    return is_good ? 0 : exit_failed;
}

int open_plugin(const std::string& folder, const std::string& name, Terminal& terminal) {
    const auto say = [&](const Refusal& refusal) {
        terminal.out(printable(refusal.reason) + "\n" + printable(refusal.remedy) + "\n");
        return exit_failed;
    };
    Admission<PluginFiles> files = find_plugin(folder, name, ::geteuid());
    if (!files) return say(files.refusal());
    Admission<Library> library = Library::open(*files);
    if (!library) return say(library.refusal());
    terminal.out(printable(library->door().build_tag) + "\n");
    return 0;
}

}  // namespace banger::cli
