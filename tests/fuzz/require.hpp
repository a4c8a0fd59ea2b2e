#pragma once

#include <algorithm>
#include <cstdlib>
#include <string_view>

/// What a fuzzer holds to be true whatever comes in: a crash is a finding.
inline void require(bool condition) {
    if (!condition) std::abort();
}

/// No control character: safe on a terminal.
inline bool is_plain(std::string_view text) {
    return std::ranges::none_of(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}
