#include "cli/parse.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "core/base/names.hpp"

namespace banger::cli {

namespace {

std::string key_of(const Option& option) { return option_names(option).back().substr(2); }

std::string see_help(const std::string& name) {
    return "See `banger " + name + (name.empty() ? "" : " ") + "--help`";
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& prefix, const std::string& otherwise) {
    const std::optional<std::string> nearest = nearest_word(word, candidates);
    return nearest ? "Did you mean `" + prefix + *nearest + "`?" : otherwise;
}

/// Why CLI11 gave up, in our words: its own name no remedy.
Error explain(const CommandSpec& command, const std::vector<std::string>& words,
              const std::string& reason) {
    std::vector<std::string> known = {"-h", "--help"};
    for (const Option& option : command.options)
        for (const std::string& name : option_names(option))
            known.push_back(name);
    for (const std::string& word : words) {
        if (word.size() < 2 || word[0] != '-') continue;
        const std::string name = word.substr(0, word.find('='));
        if (std::ranges::find(known, name) != known.end()) continue;
        // -qf is -q -f.
        const bool is_cluster = word[1] != '-' && word.size() > 2 &&
                                std::ranges::find(known, word.substr(0, 2)) != known.end();
        if (is_cluster) continue;
        return {Errc::invalid_argument, "unknown flag " + banger::quoted(name),
                did_you_mean(name, known, "", see_help(command.full_name()))};
    }
    return {Errc::invalid_argument, reason, see_help(command.full_name())};
}

Result<void> check_words(const CommandSpec& command, const Arguments& arguments) {
    const Words& expected = command.words;
    const std::string name = "`banger " + command.full_name() + "`";
    if (arguments.words.size() < expected.minimum) {
        std::string example;
        if (!command.examples.empty())
            example =
                "For example, to " + command.summary + ": " + command.examples[0].line + "\n  ";
        return Error(Errc::invalid_argument, name + " needs " + expected.name,
                     example + see_help(command.full_name()));
    }
    if (arguments.words.size() > expected.maximum) {
        const std::string& extra = arguments.words[expected.maximum];
        std::string remedy = see_help(command.full_name());
        if (command.takes_guest_command)
            remedy = "Put `--` before a command for the guest: banger " + command.full_name() +
                     (expected.maximum > 0 ? " " + expected.name : "") + " -- COMMAND";
        return Error(Errc::invalid_argument, "unexpected word " + banger::quoted(extra), remedy);
    }
    if (arguments.guest_command && !command.takes_guest_command)
        return Error(Errc::invalid_argument, name + " takes no command after `--`",
                     see_help(command.full_name()));
    if (arguments.guest_command && arguments.guest_command->empty())
        return Error(Errc::invalid_argument, "nothing follows `--`",
                     "Name the command to run in the guest, or leave `--` out for a shell");
    return ok();
}

Result<void> check_choice(const std::string& what, const std::string& value,
                          const std::vector<std::string>& choices) {
    if (choices.empty() || std::ranges::find(choices, value) != choices.end()) return ok();
    std::string all;
    for (const std::string& choice : choices)
        all += (all.empty() ? "" : ", ") + choice;
    return Error(Errc::invalid_argument, what + " cannot be " + banger::quoted(value),
                 "Use one of: " + all);
}

Result<void> check_choices(const CommandSpec& command, const Arguments& arguments) {
    for (const Option& option : command.options)
        if (const std::optional<std::string> value = arguments.value(key_of(option)))
            BANGER_TRY(check_choice("--" + key_of(option), *value, option.choices));
    for (const std::string& word : arguments.words)
        BANGER_TRY(check_choice(command.words.name, word, command.words.choices));
    return ok();
}

}  // namespace

std::vector<std::string> option_names(const Option& option) {
    std::vector<std::string> names;
    for (std::size_t begin = 0; begin <= option.names.size();) {
        const std::size_t end = std::min(option.names.find(',', begin), option.names.size());
        names.push_back(option.names.substr(begin, end - begin));
        begin = end + 1;
    }
    return names;
}

std::optional<std::string> Arguments::value(std::string_view name) const {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
}

const Group* CommandTable::find_group(std::string_view name) const {
    const auto found = std::ranges::find(groups, name, &Group::name);
    return found == groups.end() ? nullptr : &*found;
}

const Group* CommandTable::find_group(std::span<const std::string> words,
                                      std::size_t& taken) const {
    taken = 2;
    const Group* group = words.size() < 2 ? nullptr : find_group(words[0] + " " + words[1]);
    if (group) return group;
    group = words.empty() ? nullptr : find_group(words[0]);
    taken = group ? 1 : 0;
    return group;
}

const CommandSpec* CommandTable::find(std::string_view group, std::string_view name) const {
    for (const CommandSpec& command : commands)
        if (command.group == group &&
            (command.name == name ||
             std::ranges::find(command.other_names, name) != command.other_names.end()))
            return &command;
    return nullptr;
}

Result<Arguments> parse_arguments(const CommandSpec& command, std::vector<std::string> words) {
    Arguments arguments;
    // Cut off first: whatever follows belongs to the guest, word for word.
    const auto separator = std::ranges::find(words, "--");
    if (separator != words.end()) {
        arguments.guest_command.emplace(separator + 1, words.end());
        words.erase(separator, words.end());
    }
    if (std::ranges::find(words, "--help") != words.end() ||
        std::ranges::find(words, "-h") != words.end()) {
        arguments.switches.insert("help");
        return arguments;
    }

    try {
        CLI::App app;
        app.set_help_flag();
        for (const Option& option : command.options) {
            const std::string key = key_of(option);
            if (option.value.empty()) {
                app.add_flag_callback(option.names,
                                      [&arguments, key] { arguments.switches.insert(key); });
            } else {
                app.add_option_function<std::string>(option.names,
                                                     [&arguments, key](const std::string& value) {
                                                         arguments.values[key] = value;
                                                     })
                    ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
            }
        }
        app.add_option("words", arguments.words);
        std::vector<std::string> reversed(words.rbegin(), words.rend());
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        return explain(command, words, error.what());
    } catch (const CLI::Error& error) {
        return Error(Errc::internal, std::string("reading the command line: ") + error.what());
    }
    BANGER_TRY(check_words(command, arguments));
    BANGER_TRY(check_choices(command, arguments));
    return arguments;
}

Result<Destination> find_destination(const CommandTable& table,
                                     std::span<const std::string> words) {
    Destination destination;
    const auto is_help = [](const std::string& word) {
        return word == "--help" || word == "-h" || word == "help";
    };
    if (words.size() > 1 && words[0] == "help") {
        // `banger help vm run` is `banger vm run --help`.
        std::vector<std::string> asked(words.begin() + 1, words.end());
        asked.emplace_back("--help");
        return find_destination(table, asked);
    }
    if (words.empty() || is_help(words[0])) return destination;
    if (words[0] == "--version") {
        destination.wants_version = true;
        return destination;
    }
    std::size_t at = 0;
    destination.group = table.find_group(words, at);
    const std::string group = destination.group ? destination.group->name : "";
    if (at == words.size() || is_help(words[at])) return destination;
    destination.command = table.find(group, words[at]);
    if (destination.command) {
        destination.rest.assign(words.begin() + static_cast<std::ptrdiff_t>(at) + 1, words.end());
        return destination;
    }

    std::vector<std::string> candidates;
    for (const CommandSpec& command : table.commands)
        if (command.group == group) candidates.push_back(command.name);
    for (const Group& each : table.groups) {
        const bool is_inside = each.name.find(' ') != each.name.npos;
        if (group.empty() && !is_inside) candidates.push_back(each.name);
        if (!group.empty() && each.name.starts_with(group + " "))
            candidates.push_back(each.name.substr(group.size() + 1));
    }
    const std::string prefix = group.empty() ? "banger " : "banger " + group + " ";
    const bool is_flag = words[at].starts_with('-');
    std::string otherwise = see_help(group);
    // `banger run` means `banger vm run`.
    if (group.empty() && !is_flag)
        for (const CommandSpec& command : table.commands)
            if (command.name == words[at])
                otherwise = "Did you mean `banger " + command.full_name() + "`?";
    return Error(
        Errc::invalid_argument,
        std::string("unknown ") + (is_flag ? "flag " : "command ") + banger::quoted(words[at]),
        did_you_mean(words[at], candidates, prefix, otherwise));
}

}  // namespace banger::cli
