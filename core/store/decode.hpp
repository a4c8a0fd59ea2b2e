#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "core/store/sqlite.hpp"

/// From columns back to checked values. Internal to core/store: a row that does not parse was not
/// written by banger, so the error says "corrupt", not "invalid argument".
namespace banger::sqlite {

template <class T>
Result<T> decoded(Result<T> parsed, std::string_view column) {
    if (parsed) return parsed;
    return Error(Errc::corrupt,
                 "column " + std::string(column) + ": " + std::move(parsed).error().message,
                 "Restore a copy of the database, or move it away to start anew.");
}

/// `parse_x(word)` of an enumeration.
template <class Enum>
Result<Enum> decoded(std::optional<Enum> parsed, std::string_view column) {
    if (parsed) return *parsed;
    return Error(Errc::corrupt, "column " + std::string(column) + " holds an unknown word",
                 "Restore a copy of the database, or move it away to start anew.");
}

/// Every row of `statement`, each read by `read(statement)`.
template <class T, class Read>
Result<std::vector<T>> read_all_rows(Statement& statement, Read read) {
    std::vector<T> rows;
    while (BANGER_TRY(statement.step()))
        rows.push_back(BANGER_TRY(read(statement)));
    return rows;
}

}  // namespace banger::sqlite
