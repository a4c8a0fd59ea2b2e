#pragma once

#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/result.hpp"

namespace banger {

/// A configuration file's text with `[SECTION] KEY` set, and every other byte as it was: comments,
/// order and spelling are the user's. Adds key and section where they are missing.
///
/// Pure. Errc::invalid_argument for what is not TOML; Errc::unsupported where the section is
/// written in a way that has no line to add to (an inline table, dotted keys): then nothing is
/// changed, and the remedy says what to write. What comes back was read again: it differs from
/// `text` in that one value.
Result<std::string> set_value(const std::string& text, const std::string& file,
                              std::string_view section, std::string_view key,
                              const SettingValue& value);

}  // namespace banger
