#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace banger {

/// The spelling of an enumerator that counts from zero.
template <class Enum, std::size_t N>
std::string_view word_of(const std::string_view (&words)[N], Enum value) {
    return words[static_cast<std::size_t>(value)];
}

template <class Enum, std::size_t N>
std::optional<Enum> value_of(const std::string_view (&words)[N], std::string_view word) {
    for (std::size_t i = 0; i < N; ++i)
        if (words[i] == word) return static_cast<Enum>(i);
    return std::nullopt;
}

}  // namespace banger
