#include "cli/artifact_commands.hpp"

#include <filesystem>

#include "cli/render/table.hpp"

namespace banger::cli {

std::string absolute_path(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

void print_available(const std::vector<protocol::Available>& available, const Arguments& arguments,
                     Terminal& terminal, const std::string& group) {
    if (wants_json(arguments)) {
        terminal.out(json_text(available));
        return;
    }
    if (arguments.has("quiet")) {
        for (const protocol::Available& each : available)
            terminal.out(each.reference + "\n");
        return;
    }
    if (available.empty()) {
        terminal.note("No image source knows any " + group + ". See: banger plugin list\n");
        return;
    }
    Table table({"REFERENCE", "DISTRO", "ARCH", "SOURCE", "DESCRIPTION"});
    for (const protocol::Available& each : available)
        table.add({{each.reference, Style::Colour::bold},
                   each.distro,
                   each.architecture,
                   each.source,
                   each.description});
    terminal.out(table.text(terminal.out_style(), terminal.out_width()));
}

void add_artifact_commands(CommandTable& table, const ArtifactCommands& commands) {
    const std::string& group = commands.group;
    const std::string call = "banger " + group + " ";
    const auto add = [&](std::string name, std::vector<std::string> other_names,
                         std::string summary, std::string details, Words words,
                         std::vector<Option> options, std::vector<Example> examples,
                         decltype(CommandSpec::run) run) {
        table.commands.push_back({group, std::move(name), std::move(other_names),
                                  std::move(summary), std::move(details), std::move(words), false,
                                  std::move(options), std::move(examples), run, nullptr});
    };
    table.groups.push_back({group,
                            "the " + group + "s that machines start from",
                            commands.about,
                            {{call + "list", "those on this host"},
                             {call + "list --available", "those that can be had"},
                             {call + "pull " + commands.sample, "fetch one now"},
                             {call + "delete " + commands.sample, "free its space"}}});
    add("list", {"ls"}, "list " + group + "s", commands.list_details, {},
        {{"--available", "", "those that image sources offer, here or not", "", {}},
         format_option(),
         quiet_option("print ids alone (with --available references)")},
        {{call + "list", "those on this host"},
         {call + "list --available", "those that can be had"}},
        commands.list);
    add("show", {}, "show everything about one", "Also which machines use it.",
        {commands.holder, 1, 1}, {format_option(), quiet_option("print the id alone")},
        {{call + "show " + commands.sample, "where it came from, who uses it"}}, commands.show);
    add(
        "pull", {}, "fetch one", commands.pull_details, {"REFERENCE", 1, 1},
        [&] {
            std::vector<Option> options = {
                {"--name", "NAME", "what to call it here", "from the reference", {}},
                {"--refresh",
                 "",
                 "fetch it again although it is here, unless it is the same",
                 "",
                 {}}};
            options.insert(options.end(), commands.pull_options.begin(),
                           commands.pull_options.end());
            options.push_back(quiet_option("print the id alone"));
            return options;
        }(),
        {{call + "pull " + commands.sample, "have it ready"}}, commands.pull);
    add("delete", {"rm"}, "remove some",
        "One that a machine uses stays, and the error says which machine that is.",
        {commands.holder + "...", 1, Words::many}, {},
        {{call + "delete " + commands.sample, "free its space"}}, commands.remove);
}

}  // namespace banger::cli
