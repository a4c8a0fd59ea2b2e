#include "core/config/edit.hpp"

#include <toml++/toml.h>

#include <algorithm>

#include "core/config/keys.hpp"

namespace banger {

namespace {

Result<toml::table> parse(const std::string& text, const std::string& file) {
    try {
        return toml::parse(std::string_view(text), file);
    } catch (const toml::parse_error& failure) {
        return Error(Errc::invalid_argument,
                     file + ":" + std::to_string(failure.source().begin.line) + ": not TOML",
                     "Correct the line. The format is TOML 1.0: text stands in quotes.");
    }
}

/// The byte of a position; columns are characters (UTF-8), both count from 1.
std::size_t byte_of(std::string_view text, toml::source_position position) {
    std::size_t at = 0;
    for (toml::source_index line = 1; line < position.line; ++line)
        at = std::min(text.find('\n', at), text.size() - 1) + 1;
    const auto is_inner = [&](std::size_t byte) {
        return byte < text.size() && (static_cast<unsigned char>(text[byte]) & 0xc0) == 0x80;
    };
    for (toml::source_index column = 1; column < position.column && at < text.size(); ++column)
        while (is_inner(++at))
            continue;
    return at;
}

/// After the line that the byte is in.
std::size_t next_line(std::string_view text, std::size_t at) {
    const std::size_t end = text.find('\n', at);
    return end == text.npos ? text.size() : end + 1;
}

toml::array array_of(const std::vector<std::string>& words) {
    toml::array array;
    for (const std::string& word : words)
        array.push_back(word);
    return array;
}

void put(toml::table& table, std::string_view key, const SettingValue& value) {
    if (const bool* flag = std::get_if<bool>(&value)) table.insert_or_assign(key, *flag);
    if (const auto* number = std::get_if<std::int64_t>(&value))
        table.insert_or_assign(key, *number);
    if (const auto* word = std::get_if<std::string>(&value)) table.insert_or_assign(key, *word);
    if (const auto* words = std::get_if<std::vector<std::string>>(&value))
        table.insert_or_assign(key, array_of(*words));
}

std::string with_line_end(std::string text) {
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    return text;
}

}  // namespace

Result<std::string> set_value(const std::string& text, const std::string& file,
                              std::string_view section, std::string_view key,
                              const SettingValue& value) {
    toml::table wanted = BANGER_TRY(parse(text, file));
    const std::string written = config::setting_text(value);
    const std::string line = std::string(key) + " = " + written + "\n";
    const std::string header = "[" + std::string(section) + "]";
    const auto by_hand = [&] {
        return Error(Errc::unsupported, file + " has no line " + header + " to add to",
                     "Write there yourself: " + std::string(section) + "." + std::string(key) +
                         " = " + written);
    };
    std::string result = text;
    toml::node* const node = wanted.get(section);
    toml::table* const table = node ? node->as_table() : nullptr;
    if (node && !table) return by_hand();
    if (!table) {
        result = with_line_end(result) + (text.empty() ? "" : "\n") + header + "\n" + line;
        wanted.insert_or_assign(section, toml::table());
    } else if (const toml::node* old = table->get(key)) {
        const std::size_t begin = byte_of(text, old->source().begin);
        const std::size_t end = byte_of(text, old->source().end);
        if (begin > end) return by_hand();
        result.replace(begin, end - begin, written);
    } else {
        const std::size_t at = byte_of(text, table->source().begin);
        if (!std::string_view(text).substr(at).starts_with(header)) return by_hand();
        const std::size_t after = next_line(text, at);
        result = with_line_end(text.substr(0, after)) + line + text.substr(after);
    }
    put(*wanted.get_as<toml::table>(section), key, value);
    const Result<toml::table> is = parse(result, file);
    if (!is || *is != wanted) return by_hand();
    return result;
}

}  // namespace banger
