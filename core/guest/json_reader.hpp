#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "banger/result.hpp"

/// Inside core/guest only: reading foreign JSON without exceptions.
namespace banger::guest {

/// The JSON value in `text`; Errc::corrupt when it is none or nests deeper than `max_depth`. The
/// depth is counted before parsing, on the bare text.
Result<nlohmann::json> parse_json(std::string_view text, int max_depth);

/// Valid UTF-8 in any case: bytes that are none are replaced.
std::string dump_json(const nlohmann::json& value);

/// Takes the fields of one object. The first thing that is wrong is kept, and every later call
/// returns an empty value, so that a decoder reads as a list of its fields and asks once, at the
/// end.
class ObjectReader {
public:
    /// `what` names the object in errors.
    ObjectReader(const nlohmann::json& value, std::string what);

    std::string string(const char* name);
    bool boolean(const char* name);
    double number(const char* name);
    std::uint64_t integer(const char* name,
                          std::uint64_t max = std::numeric_limits<std::uint64_t>::max());
    /// The array, or an empty one after an error.
    const nlohmann::json& array(const char* name, std::size_t max_size);
    /// The object, or an empty one after an error.
    const nlohmann::json& object(const char* name);
    /// Null when the field is missing or null.
    const nlohmann::json* optional(const char* name);

    /// Keeps `error` unless there is one already.
    void fail(Error error);
    /// The value of a Result, or its error kept and the fallback returned.
    template <class T>
    std::optional<T> take(Result<T> result) {
        if (result) return std::move(result).value();
        fail(std::move(result).error());
        return std::nullopt;
    }

    [[nodiscard]] bool ok() const { return !error_; }
    /// Errc::corrupt when something was wrong; with `strict` also when a field was never asked for.
    Result<void> finish(bool strict);

private:
    const nlohmann::json* find(const char* name, const char* type);
    Error wrong(const char* name, std::string_view expected) const;

    const nlohmann::json& value_;
    std::string what_;
    std::set<std::string, std::less<>> asked_;
    std::optional<Error> error_;
};

}  // namespace banger::guest
