#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/values.hpp"

namespace banger {

/// A name for a machine that was given none: two words, "brave-otter". From the kernel's random
/// source; the caller asks again when it is taken. Any thread.
VmName random_vm_name();

/// The candidate that the writer of `word` probably meant: the smallest edit distance (insert,
/// delete, replace, swap of neighbours), at most a third of the word's length. Nothing when none is
/// near.
std::optional<std::string> nearest_word(std::string_view word,
                                        std::span<const std::string> candidates);

/// Foreign text inside a message: in double quotes, at most 80 bytes, no control characters. Write
/// banger::quoted() where <filesystem> or <iomanip> is included: a std::string finds std::quoted.
std::string quoted(std::string_view text);

}  // namespace banger
