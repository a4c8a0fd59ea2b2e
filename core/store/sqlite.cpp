#include "core/store/sqlite.hpp"

#include <sqlite3.h>

#include <cerrno>

namespace banger::sqlite {

namespace {

constexpr int busy_timeout_ms = 5000;
constexpr const char* full_remedy = "Free space where banger keeps its state; nothing was changed.";
constexpr const char* damaged_remedy =
    "Stop bangerd, then restore a copy of the file or move it away together with the -wal and -shm "
    "files beside it; banger starts anew then and does not know the machines made before.";

/// SQLite tells a full disk only for ENOSPC; a quota (EDQUOT) or a file size limit (EFBIG) is a
/// plain I/O error to it, and only errno knows. `last_errno` is a hint: a call that succeeded does
/// not reset it.
Error input_output_error(const std::string& reason, int last_errno) {
    if (errc_from_errno(last_errno) == Errc::no_space)
        return {Errc::no_space, Error::from_errno(last_errno, reason).message, full_remedy};
    return {Errc::internal, reason, "Check the disk and the permissions of banger's state folder."};
}

}  // namespace

Error error_of(sqlite3* handle, int code) {
    const int last_errno = errno;
    const std::string reason =
        "database: " + std::string(handle ? ::sqlite3_errmsg(handle) : ::sqlite3_errstr(code));
    switch (code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return {Errc::busy, reason, "Another process uses banger's database; try again."};
        case SQLITE_FULL:
            return {Errc::no_space, reason, full_remedy};
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return {Errc::corrupt, reason, damaged_remedy};
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_AUTH:
            return {Errc::permission_denied, reason,
                    "Make banger's state folder and the files in it yours and writable."};
        case SQLITE_NOMEM:
            return {Errc::no_space, reason, "Free some memory."};
        case SQLITE_CANTOPEN:
        case SQLITE_IOERR:
            return input_output_error(reason, last_errno);
        case SQLITE_CONSTRAINT:
            if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
                return {Errc::already_exists, reason};
            if (code == SQLITE_CONSTRAINT_FOREIGNKEY) return {Errc::not_found, reason};
            return {Errc::internal, reason};
        default:
            return {Errc::internal, reason};
    }
}

// ---- Statement ----

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
    ::sqlite3_finalize(statement);
}

void Statement::bind_integer(int index, std::int64_t value) {
    ::sqlite3_bind_int64(statement_.get(), index, value);
}

void Statement::bind_text(int index, std::string_view value) {
    // A copy: the argument may be a temporary. A null pointer would be NULL, not "".
    ::sqlite3_bind_text64(statement_.get(), index, value.data() ? value.data() : "", value.size(),
                          SQLITE_TRANSIENT, SQLITE_UTF8);
}

Result<bool> Statement::step() {
    column_ = 0;
    const int code = ::sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return error_of(::sqlite3_db_handle(statement_.get()), code);
}

std::int64_t Statement::integer() { return ::sqlite3_column_int64(statement_.get(), column_++); }

std::string Statement::text() {
    const int column = column_++;
    const unsigned char* const text = ::sqlite3_column_text(statement_.get(), column);
    if (!text) return {};
    const int size = ::sqlite3_column_bytes(statement_.get(), column);
    return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
}

bool Statement::is_null() const {
    return ::sqlite3_column_type(statement_.get(), column_) == SQLITE_NULL;
}

std::optional<std::chrono::sys_seconds> Statement::optional_time() {
    if (!is_null()) return time();
    skip(1);
    return std::nullopt;
}

// ---- Connection ----

Result<std::unique_ptr<Connection>> Connection::open(const std::string& path) {
    sqlite3* handle = nullptr;
    // NOMUTEX: the store has a mutex of its own around this connection.
    const int code = ::sqlite3_open_v2(
        path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
        nullptr);
    std::unique_ptr<Connection> connection(new Connection(handle));
    if (code != SQLITE_OK) return error_of(handle, code);
    ::sqlite3_busy_timeout(handle, busy_timeout_ms);
    ::sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    ::sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    ::sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
    ::sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
    // The whole database is smaller than this cache; the default would only cost an idle daemon
    // RAM.
    BANGER_TRY(connection->script("PRAGMA cache_size = -512; PRAGMA synchronous = NORMAL"));
    return connection;
}

Connection::~Connection() { ::sqlite3_close_v2(handle_); }

Result<Statement> Connection::prepare_bare(std::string_view sql) {
    sqlite3_stmt* statement = nullptr;
    const int code = ::sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()),
                                          &statement, nullptr);
    if (code != SQLITE_OK) return error_of(handle_, code);
    return Statement(statement);
}

Result<void> Connection::script(const std::string& sql) {
    const int code = ::sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return error_of(handle_, code);
    return ok();
}

std::int64_t Connection::changes() const { return ::sqlite3_changes64(handle_); }
std::int64_t Connection::last_id() const { return ::sqlite3_last_insert_rowid(handle_); }
bool Connection::is_in_transaction() const { return ::sqlite3_get_autocommit(handle_) == 0; }

// ---- Transaction ----

Result<Transaction> Transaction::begin(Connection& connection, Kind kind) {
    if (kind == Kind::durable) BANGER_TRY(connection.script("PRAGMA synchronous = FULL"));
    Transaction transaction(connection, kind);
    // IMMEDIATE: a write that would have to wait does so here, not in the middle.
    BANGER_TRY(connection.script(kind == Kind::read ? "BEGIN" : "BEGIN IMMEDIATE"));
    return transaction;
}

Result<void> Transaction::commit() { return connection_->script("COMMIT"); }

Transaction::~Transaction() {
    if (!connection_) return;
    // Neither can be answered to anybody. A rollback that fails leaves the transaction to SQLite,
    // which undoes it when the file is opened next.
    if (connection_->is_in_transaction()) (void)connection_->script("ROLLBACK");
    if (kind_ == Kind::durable) (void)connection_->script("PRAGMA synchronous = NORMAL");
}

}  // namespace banger::sqlite
