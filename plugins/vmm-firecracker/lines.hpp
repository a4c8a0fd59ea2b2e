#pragma once

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

/// Texts of ours with one "NAME VALUE" a line, read in their order.
namespace banger::firecracker {

/// The value of the next line, when that is its name; the line is then gone from the text.
inline std::optional<std::string_view> take(std::string_view& text, std::string_view name) {
    const std::size_t end = text.find('\n');
    if (end == text.npos || !text.starts_with(name) || text.size() <= name.size() ||
        text[name.size()] != ' ')
        return {};
    const std::string_view value = text.substr(name.size() + 1, end - name.size() - 1);
    text.remove_prefix(end + 1);
    return value;
}

/// The same for a number: decimal, whole, at most `most`.
template <class Number>
std::optional<Number> take_number(std::string_view& text, std::string_view name,
                                  Number most = std::numeric_limits<Number>::max()) {
    const std::optional<std::string_view> value = take(text, name);
    Number number{};
    if (!value) return {};
    const auto [end, status] =
        std::from_chars(value->data(), value->data() + value->size(), number);
    if (status != std::errc() || end != value->data() + value->size() || number > most) return {};
    return number;
}

}  // namespace banger::firecracker
