#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "banger/result.hpp"
#include "banger/values.hpp"

struct sqlite3;
struct sqlite3_stmt;

/// As much of SQLite as the store needs, typed. Internal to core/store; not thread-safe: the store
/// holds its mutex around every use.
namespace banger::sqlite {

/// What a value is in a column: an integer or text. Overloads, so that a new type is one line.
inline std::int64_t column(std::int64_t value) { return value; }
inline std::int64_t column(std::uint32_t value) { return value; }
inline std::int64_t column(std::uint16_t value) { return value; }
inline std::int64_t column(std::same_as<bool> auto value) { return value ? 1 : 0; }
inline std::int64_t column(ByteCount value) { return static_cast<std::int64_t>(value.count()); }
inline std::int64_t column(std::chrono::sys_seconds value) {
    return value.time_since_epoch().count();
}
inline std::string_view column(std::string_view value) { return value; }
inline std::string_view column(const std::string& value) { return value; }
inline std::string_view column(const char* value) { return value; }
template <class Tag>
std::string_view column(const banger::detail::CheckedString<Tag>& value) {
    return value.str();
}
inline std::string column(Ipv4Address value) { return value.text(); }
inline std::string column(const Ipv4Prefix& value) { return value.text(); }
inline std::string column(const MacAddress& value) { return value.text(); }
template <class Enum>
requires std::is_enum_v<Enum> std::string_view column(Enum value) { return to_string(value); }

/// A prepared statement with its arguments, and the row it stands on.
class Statement {
public:
    Statement(Statement&&) noexcept = default;
    Statement& operator=(Statement&&) noexcept = default;

    /// Goes to the next row; false when there is none.
    Result<bool> step();
    /// The next column of this row, from the left. The schema is STRICT, so the type is known.
    std::int64_t integer();
    std::string text();
    std::chrono::sys_seconds time() { return std::chrono::sys_seconds(seconds()); }
    ByteCount bytes() { return ByteCount::bytes(static_cast<std::uint64_t>(integer())); }
    /// Whether the next column is NULL; does not move on.
    [[nodiscard]] bool is_null() const;
    void skip(int columns) { column_ += columns; }
    std::optional<std::chrono::sys_seconds> optional_time();

private:
    friend class Connection;
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const;
    };
    explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
    std::chrono::seconds seconds() { return std::chrono::seconds(integer()); }
    void bind_integer(int index, std::int64_t value);
    void bind_text(int index, std::string_view value);

    template <class T>
    void bind(int index, const std::optional<T>& value) {
        if (value) bind(index, *value);  // unbound is NULL
    }
    template <class T>
    void bind(int index, const T& value) {
        if constexpr (std::is_same_v<decltype(column(value)), std::int64_t>)
            bind_integer(index, column(value));
        else
            bind_text(index, column(value));
    }

    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
    int column_ = 0;
};

/// One open database file.
class Connection {
public:
    /// Opens an existing file (it may be empty) and sets what belongs to every connection: extended
    /// result codes, busy timeout, no double-quoted strings, no trust in the schema, WAL.
    static Result<std::unique_ptr<Connection>> open(const std::string& path);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    template <class... Values>
    Result<Statement> prepare(std::string_view sql, const Values&... values) {
        Statement statement = BANGER_TRY(prepare_bare(sql));
        int index = 0;
        (statement.bind(++index, values), ...);
        return statement;
    }
    /// Runs a statement whose rows, if any, do not matter.
    template <class... Values>
    Result<void> run(std::string_view sql, const Values&... values) {
        Statement statement = BANGER_TRY(prepare(sql, values...));
        BANGER_TRY(statement.step());
        return ok();
    }
    /// The first column of the first row; 0 when there is none.
    template <class... Values>
    Result<std::int64_t> integer(std::string_view sql, const Values&... values) {
        Statement statement = BANGER_TRY(prepare(sql, values...));
        const bool has_row = BANGER_TRY(statement.step());
        return has_row ? statement.integer() : 0;
    }
    /// Several statements without arguments.
    Result<void> script(const std::string& sql);

    /// Rows that the last statement changed.
    [[nodiscard]] std::int64_t changes() const;
    [[nodiscard]] std::int64_t last_id() const;
    [[nodiscard]] bool is_in_transaction() const;

private:
    explicit Connection(sqlite3* handle) : handle_(handle) {}
    Result<Statement> prepare_bare(std::string_view sql);
    sqlite3* handle_;
};

/// From begin() to commit(); rolled back when it goes out of scope before.
class Transaction {
public:
    enum class Kind {
        read,     ///< several queries see one state
        write,    ///< survives a crash of the process
        durable,  ///< survives a power failure: costs an fsync
    };
    static Result<Transaction> begin(Connection& connection, Kind kind);
    Transaction(Transaction&& other) noexcept
        : connection_(std::exchange(other.connection_, nullptr)), kind_(other.kind_) {}
    Transaction& operator=(Transaction&&) = delete;
    Transaction(const Transaction&) = delete;
    ~Transaction();
    Result<void> commit();

private:
    Transaction(Connection& connection, Kind kind) : connection_(&connection), kind_(kind) {}
    Connection* connection_;
    Kind kind_;
};

/// The Error for a result code, with the connection's own message where there is one.
Error error_of(sqlite3* handle, int code);

}  // namespace banger::sqlite
