#pragma once

#include <span>

#include "banger/result.hpp"
#include "core/store/sqlite.hpp"

/// The schema and its history. Internal to core/store.
namespace banger::sqlite {

/// Migration N (from 1) is element N-1: SQL that brings a database from version N-1 to N. A landed
/// one is never edited; a change is a new one at the end, with a golden database of the version
/// before in tests/store.
std::span<const char* const> migrations();

/// "BNGR", in the file's header: tells a database of ours from any other (PRAGMA application_id).
constexpr std::int64_t application_id = 0x424e4752;

/// Brings the database to the last of `steps` in one transaction: all of them or none. Refuses one
/// of another program (Errc::corrupt) and one of a newer version (Errc::unsupported) before it
/// writes.
Result<void> migrate(Connection& connection, std::span<const char* const> steps);

}  // namespace banger::sqlite
