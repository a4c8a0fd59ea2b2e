#pragma once

#include <toml++/toml.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/config/config.hpp"

/// Reading one value out of a file. Internal to core/config: the only headers that see toml++.
namespace banger::config {

/// A value in a file, and how to speak of it.
struct Place {
    const toml::node& node;
    std::string key;  ///< as in the documentation: "vm_defaults.vcpu", "file_sync[0].guest"
    std::string file;
    const ConfigContext& context;

    [[nodiscard]] Source source() const;
    /// "FILE:LINE: `KEY` COMPLAINT".
    [[nodiscard]] Error refuse(std::string_view complaint, std::string remedy) const;
    /// What a value's own parse() said, at this place.
    [[nodiscard]] Error refuse(const Error& error) const;
    /// A part of this value: an element, a member.
    [[nodiscard]] Place part(const toml::node& inner, std::string_view suffix) const;
};

Result<std::string> text_of(const Place& place);
Result<std::int64_t> integer_of(const Place& place, std::int64_t least, std::int64_t most);
/// A string as in ByteCount::parse(), or a number of MiB.
Result<ByteCount> size_of(const Place& place);
/// "10s", "5m", "1h30m", "2d".
Result<std::chrono::seconds> duration_of(const Place& place);
std::string duration_text(std::chrono::seconds duration);
/// Absolute, or `~/` and then in the home; normalised, without control characters, of a file.
Result<std::string> path_of(const Place& place);
Result<std::vector<std::string>> plugin_names_of(const Place& place);
Result<std::string> plugin_name_of(const Place& place);
Result<SettingValue> setting_of(const Place& place);

/// `error` about a key that is none, with the nearest of `valid`.
Error unknown_key(const Place& place, std::string_view key, const std::vector<std::string>& valid);

/// What parse() of a value type says, at this place.
template <class T>
Result<T> parsed(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    Result<T> value = T::parse(text);
    if (!value) return place.refuse(value.error());
    return value;
}

/// `[[file_sync]]`, whole.
Result<std::vector<FileSync>> file_sync_of(const Place& place);

}  // namespace banger::config
