#include "cli/help.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;
using Rows = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t line_width = 80;

/// Fills lines; an empty line ends a paragraph.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width) {
    const std::string new_line = "\n" + std::string(indent, ' ');
    std::string out;
    std::size_t column = 0;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find_first_of(" \n", begin), text.size());
        const std::string word = text.substr(begin, end - begin);
        if (column > 0 && column + 1 + width_of(word) > width) {
            out += new_line;
            column = 0;
        } else if (column > 0) {
            out += ' ';
            ++column;
        }
        out += word;
        column += width_of(word);
        begin = end + 1;
        if (text.compare(end, 2, "\n\n") != 0) continue;
        out += "\n" + new_line;
        column = 0;
        ++begin;
    }
    return out;
}

std::string section(const std::string& title, const Rows& rows, Colour colour, const Style& style) {
    if (rows.empty()) return {};
    std::size_t widest = 0;
    for (const auto& [left, right] : rows)
        widest = std::max(widest, width_of(left));
    std::string text = "\n" + style(Colour::bold, title) + "\n";
    // Long commands get their explanation on a line of its own.
    const bool is_wide = widest > 46;
    for (const auto& [left, right] : rows) {
        text += "  " + style(colour, left);
        const std::size_t indent = is_wide ? 6 : widest + 4;
        if (is_wide)
            text += "\n" + std::string(indent, ' ');
        else
            text.append(widest - width_of(left) + 2, ' ');
        text += wrapped(right, indent, line_width - std::min(indent, line_width / 2)) + "\n";
    }
    return text;
}

Rows rows_of(const std::vector<Example>& examples) {
    Rows rows;
    for (const Example& example : examples)
        rows.emplace_back(example.line, example.does);
    return rows;
}

Rows commands_of(const CommandTable& table, const std::string& group) {
    Rows rows;
    for (const CommandSpec& command : table.commands)
        if (command.group == group) rows.emplace_back(command.name, command.summary);
    for (const Group& each : table.groups)
        if (!group.empty() && each.name.starts_with(group + " "))
            rows.emplace_back(each.name.substr(group.size() + 1), each.summary);
    return rows;
}

std::string usage_of(const CommandSpec& command) {
    std::string text = "banger " + command.full_name();
    if (!command.options.empty()) text += " [FLAGS]";
    std::string words = command.words.name;
    for (const std::string& choice : command.words.choices)
        words = &choice == &command.words.choices.front() ? choice : words + "|" + choice;
    if (!words.empty()) text += command.words.minimum > 0 ? " " + words : " [" + words + "]";
    if (command.takes_guest_command) text += " [-- COMMAND...]";
    return text;
}

Rows flags_of(const CommandSpec& command) {
    Rows rows;
    for (const Option& option : command.options) {
        const std::size_t comma = option.names.find(',');
        std::string names = comma == option.names.npos ? "    " + option.names
                                                       : option.names.substr(0, comma) + ", " +
                                                             option.names.substr(comma + 1);
        if (!option.value.empty()) names += " " + option.value;
        std::string help = option.help;
        if (!option.standard.empty()) help += " (default: " + option.standard + ")";
        rows.emplace_back(std::move(names), std::move(help));
    }
    rows.emplace_back("-h, --help", "print this");
    return rows;
}

}  // namespace

std::string help_text(const CommandTable& table, const Style& style) {
    Rows groups;
    for (const Group& group : table.groups)
        if (group.name.find(' ') == group.name.npos) groups.emplace_back(group.name, group.summary);
    return wrapped(table.details, 0, line_width) + "\n" +
           section("Begin with", rows_of(table.examples), Colour::cyan, style) +
           section("Groups", groups, Colour::none, style) +
           section("Commands", commands_of(table, ""), Colour::none, style) +
           "\n`banger GROUP` and `banger GROUP COMMAND --help` say more.\n"
           "`banger --safe-mode COMMAND` leaves plugins of third parties alone.\n";
}

std::string help_text(const CommandTable& table, const Group& group, const Style& style) {
    return "banger " + group.name + ": " + group.summary + "\n\n" +
           wrapped(group.details, 0, line_width) + "\n" +
           section("Begin with", rows_of(group.examples), Colour::cyan, style) +
           section("Commands", commands_of(table, group.name), Colour::none, style) + "\n`banger " +
           group.name + " COMMAND --help` says more.\n";
}

std::string help_text(const CommandSpec& command, const Style& style) {
    std::string text = "banger " + command.full_name() + ": " + command.summary + "\n";
    if (!command.details.empty()) text += "\n" + wrapped(command.details, 0, line_width) + "\n";
    text += section("Usage", {{usage_of(command), ""}}, Colour::none, style);
    while (text.ends_with(" \n"))
        text.erase(text.size() - 2, 1);
    if (!command.other_names.empty()) {
        std::string names;
        for (const std::string& name : command.other_names)
            names += (names.empty() ? "" : ", ") + name;
        text += "\nAlso called: " + names + "\n";
    }
    return text + section("Examples", rows_of(command.examples), Colour::cyan, style) +
           section("Flags", flags_of(command), Colour::none, style);
}

}  // namespace banger::cli
