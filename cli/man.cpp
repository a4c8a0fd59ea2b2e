#include "cli/man.hpp"

#include <algorithm>
#include <cstdint>

#include "cli/parse.hpp"
#include "cli/render/terminal.hpp"
#include "core/base/file.hpp"
#include "core/base/version.hpp"

namespace banger::cli {

namespace {

/// The code point of the well-formed UTF-8 character at `at`, which is moved behind it.
std::uint32_t take_character(std::string_view text, std::size_t& at) {
    const auto byte = static_cast<unsigned char>(text[at++]);
    if (byte < 0x80) return byte;
    int more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
    std::uint32_t code = byte & (0x3fU >> more);
    for (; more > 0 && at < text.size(); --more)
        code = code << 6 | (static_cast<unsigned char>(text[at++]) & 0x3fU);
    return code;
}

/// Text inside a line. ASCII hyphens and quotes stay what they are: these pages are full of
/// commands to be copied.
std::string escaped(std::string_view text) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t code = take_character(text, at);
        if (code >= 0x80) {
            std::string hex;
            for (std::uint32_t rest = code; rest != 0; rest >>= 4)
                hex.insert(hex.begin(), digits[rest & 15]);
            hex.insert(0, 4 - std::min<std::size_t>(4, hex.size()), '0');
            out += "\\[u" + hex + "]";
        } else if (code == '\\') {
            out += "\\e";
        } else if (code == '-') {
            out += "\\-";
        } else if (code == '\'') {
            out += "\\(aq";
        } else if (code == '`') {
            out += "\\(ga";
        } else if (code == '"') {
            out += "\\(dq";
        } else if (code == '~') {
            out += "\\(ti";
        } else if (code == '^') {
            out += "\\(ha";
        } else {
            out += static_cast<char>(code);
        }
    }
    return out;
}

/// A line of its own; a dot in front is no request.
std::string line(std::string_view text) {
    return (text.starts_with('.') ? "\\&" : "") + escaped(text) + "\n";
}

/// Paragraphs: an empty line ends one; `...` within is a command, and bold.
std::string paragraphs(const std::string& text) {
    std::string out;
    std::string current;
    const auto end_line = [&] {
        if (!current.empty()) out += current + "\n";
        current.clear();
    };
    bool is_bold = false;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find_first_of("\n`", begin), text.size());
        current += escaped(std::string_view(text).substr(begin, end - begin));
        if (end == text.size()) break;
        if (text[end] == '`') {
            is_bold = !is_bold;
            current += is_bold ? "\\fB" : "\\fR";
            begin = end + 1;
            continue;
        }
        begin = end + 1;
        end_line();
        if (text.compare(end, 2, "\n\n") != 0) continue;
        out += ".PP\n";
        ++begin;
    }
    end_line();
    return out;
}

std::string page_name(const std::string& full_name) {
    std::string name = full_name.empty() ? "banger" : "banger-" + full_name;
    std::ranges::replace(name, ' ', '-');
    return name;
}

std::string header(const std::string& full_name, const std::string& summary) {
    std::string name = page_name(full_name);
    std::string title = name;
    std::ranges::transform(title, title.begin(), [](char c) {
        return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    });
    return ".\\\" Made from the table of commands; do not edit.\n.TH \"" + escaped(title) +
           "\" 1 \"\" \"banger " + escaped(version().number) + "\" \"banger\"\n.SH NAME\n" +
           escaped(name) + " \\- " + escaped(summary) + "\n";
}

std::string examples_of(const std::vector<Example>& examples) {
    if (examples.empty()) return {};
    std::string out = ".SH EXAMPLES\n";
    for (const Example& example : examples)
        out += ".TP\n\\fB" + escaped(example.line) + "\\fR\n" + line(example.does);
    return out;
}

std::string commands_of(const CommandTable& table, const std::string& group) {
    std::string out = ".SH COMMANDS\n";
    for (const CommandSpec& command : table.commands)
        if (command.group == group)
            out += ".TP\n\\fB" + escaped(page_name(command.full_name())) + "\\fR(1)\n" +
                   line(command.summary);
    return out;
}

std::string options_of(const CommandSpec& command) {
    std::string out = ".SH OPTIONS\n";
    for (const Option& option : command.options) {
        std::string names;
        for (const std::string& name : option_names(option))
            names += (names.empty() ? "\\fB" : "\\fR, \\fB") + escaped(name);
        if (!option.value.empty()) names += "\\fR \\fI" + escaped(option.value);
        out += ".TP\n" + names + "\\fR\n" + line(option.help);
        if (!option.standard.empty()) out += line("(default: " + option.standard + ")");
    }
    return out + ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nprint help\n";
}

std::string see_also(const std::vector<std::string>& names) {
    std::string out = ".SH SEE ALSO\n";
    for (std::size_t i = 0; i < names.size(); ++i)
        out += "\\fB" + escaped(names[i]) + "\\fR(1)" + (i + 1 < names.size() ? ",\n" : "\n");
    return out;
}

ManPage page_of(const CommandTable& table) {
    // "banger: a real Linux machine in one command", and then paragraphs.
    const std::size_t end = table.details.find('\n');
    const std::string first = table.details.substr(0, end);
    std::string text = header("", first.substr(first.find(": ") + 2));
    text += ".SH SYNOPSIS\n\\fBbanger\\fR \\fICOMMAND\\fR [\\fIFLAGS\\fR] [\\fIWORDS\\fR]\n";
    text += ".SH DESCRIPTION\n" + paragraphs(table.details.substr(end + 2));
    text += examples_of(table.examples) + ".SH GROUPS\n";
    for (const Group& group : table.groups)
        text += ".TP\n\\fB" + escaped(page_name(group.name)) + "\\fR(1)\n" + line(group.summary);
    return {"banger.1", text + commands_of(table, "")};
}

ManPage page_of(const CommandTable& table, const Group& group) {
    std::string text = header(group.name, group.summary);
    text += ".SH SYNOPSIS\n\\fBbanger " + escaped(group.name) +
            "\\fR \\fICOMMAND\\fR [\\fIFLAGS\\fR] [\\fIWORDS\\fR]\n";
    text += ".SH DESCRIPTION\n" + paragraphs(group.details) + examples_of(group.examples) +
            commands_of(table, group.name) + see_also({"banger"});
    return {page_name(group.name) + ".1", text};
}

ManPage page_of(const CommandSpec& command) {
    std::string text = header(command.full_name(), command.summary);
    text += ".SH SYNOPSIS\n\\fBbanger " + escaped(command.full_name()) + "\\fR [\\fIFLAGS\\fR]";
    if (!command.words.name.empty())
        text += command.words.minimum > 0 ? " \\fI" + escaped(command.words.name) + "\\fR"
                                          : " [\\fI" + escaped(command.words.name) + "\\fR]";
    if (command.takes_guest_command) text += " [\\fB\\-\\-\\fR \\fICOMMAND...\\fR]";
    text += "\n.SH DESCRIPTION\n" +
            paragraphs(command.details.empty() ? command.summary : command.details);
    if (!command.other_names.empty()) {
        std::string names;
        for (const std::string& name : command.other_names)
            names += (names.empty() ? "" : ", ") + name;
        text += ".PP\n" + line("Also called: " + names + ".");
    }
    text += options_of(command) + examples_of(command.examples);
    return {page_name(command.full_name()) + ".1",
            text + (command.group.empty() ? see_also({"banger"})
                                          : see_also({"banger", page_name(command.group)}))};
}

}  // namespace

std::vector<ManPage> man_pages(const CommandTable& table) {
    std::vector<ManPage> pages = {page_of(table)};
    for (const Group& group : table.groups)
        pages.push_back(page_of(table, group));
    for (const CommandSpec& command : table.commands)
        pages.push_back(page_of(command));
    return pages;
}

int write_man_pages(const CommandTable& table, const std::string& folder, Terminal& terminal) {
    for (const ManPage& page : man_pages(table)) {
        const Result<void> written = write_file_atomic(folder + "/" + page.name, page.text, 0644);
        if (written) continue;
        terminal.error(written.error());
        return exit_failed;
    }
    return 0;
}

}  // namespace banger::cli
