#include "core/store/database.hpp"
#include "core/store/decode.hpp"

/// The part of the store that is about what is on the host and what was done.
namespace banger {

using sqlite::Connection;
using sqlite::decoded;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

constexpr std::int64_t kept_operations = 1000;

Result<ResourceRecord> read_resource(Statement& row) {
    const std::int64_t id = row.integer();
    const VmId vm = BANGER_TRY(decoded(VmId::parse(row.text()), "host_resources.vm"));
    const ResourceKind kind =
        BANGER_TRY(decoded(parse_resource_kind(row.text()), "host_resources.kind"));
    std::string plugin = row.text();
    std::string detail = row.text();
    return ResourceRecord{id, vm, kind, std::move(plugin), std::move(detail), row.time()};
}

Result<std::vector<ResourceRecord>> load_resources(Connection& connection,
                                                   const std::optional<std::string>& vm) {
    Statement rows = BANGER_TRY(
        connection.prepare("SELECT id, vm, kind, plugin, detail, recorded_at FROM host_resources"
                           " WHERE ?1 IS NULL OR vm = ?1 ORDER BY id",
                           vm));
    return sqlite::read_all_rows<ResourceRecord>(rows, read_resource);
}

Result<OperationRecord> read_operation(Statement& row) {
    OperationRecord operation;
    operation.id = row.integer();
    operation.kind = row.text();
    operation.subject = row.text();
    operation.started_at = row.time();
    operation.ended_at = row.optional_time();
    operation.outcome =
        BANGER_TRY(decoded(parse_operation_outcome(row.text()), "operations.outcome"));
    operation.error = row.text();
    return operation;
}

OperationOutcome outcome_of(const Error* error) {
    if (!error) return OperationOutcome::succeeded;
    return error->code == Errc::cancelled ? OperationOutcome::cancelled : OperationOutcome::failed;
}

}  // namespace

Result<std::int64_t> Store::record_resource(const VmId& vm, ResourceKind kind,
                                            std::string_view plugin, std::string_view detail) {
    const auto record = [&](Connection& connection) -> Result<std::int64_t> {
        Result<void> inserted = connection.run(
            "INSERT INTO host_resources (vm, kind, plugin, detail, recorded_at)"
            " VALUES (?, ?, ?, ?, ?)",
            vm, kind, plugin, detail, database_->now());
        if (inserted) return connection.last_id();
        if (inserted.error().code != Errc::not_found) return inserted.error();
        return Error(Errc::not_found, "there is no machine " + vm.str(), "See `banger vm list`.");
    };
    return database_->transact(Transaction::Kind::write, record);
}

Result<void> Store::forget_resource(std::int64_t id) {
    return database_->transact(Transaction::Kind::write, [&](Connection& connection) {
        return connection.run("DELETE FROM host_resources WHERE id = ?", id);
    });
}

Result<void> Store::forget_resources(const VmId& vm, ResourceKind kind) {
    return database_->transact(Transaction::Kind::write, [&](Connection& connection) {
        return connection.run("DELETE FROM host_resources WHERE vm = ? AND kind = ?", vm, kind);
    });
}

Result<std::vector<ResourceRecord>> Store::resources_of(const VmId& vm) {
    return database_->transact(Transaction::Kind::read, [&](Connection& connection) {
        return load_resources(connection, vm.str());
    });
}

Result<std::vector<ResourceRecord>> Store::resources() {
    return database_->transact(Transaction::Kind::read, [](Connection& connection) {
        return load_resources(connection, std::nullopt);
    });
}

Result<std::int64_t> Store::begin_operation(std::string_view kind, std::string_view subject) {
    const auto begin = [&](Connection& connection) -> Result<std::int64_t> {
        BANGER_TRY(
            connection.run("INSERT INTO operations (kind, subject, started_at, outcome, error)"
                           " VALUES (?, ?, ?, ?, '')",
                           kind, subject, database_->now(), OperationOutcome::running));
        const std::int64_t id = connection.last_id();
        BANGER_TRY(connection.run("DELETE FROM operations WHERE id <= ?", id - kept_operations));
        return id;
    };
    return database_->transact(Transaction::Kind::write, begin);
}

Result<void> Store::end_operation(std::int64_t id, const Error* error) {
    return database_->transact(Transaction::Kind::write, [&](Connection& connection) {
        return connection.run(
            "UPDATE operations SET ended_at = ?2, outcome = ?3, error = ?4 WHERE id = ?1", id,
            database_->now(), outcome_of(error), error ? error->message : std::string());
    });
}

Result<std::int64_t> Store::mark_interrupted_operations() {
    const auto mark = [&](Connection& connection) -> Result<std::int64_t> {
        BANGER_TRY(connection.run(
            "UPDATE operations SET ended_at = ?1, outcome = ?2 WHERE outcome = ?3",
            database_->now(), OperationOutcome::interrupted, OperationOutcome::running));
        return connection.changes();
    };
    return database_->transact(Transaction::Kind::write, mark);
}

Result<std::vector<OperationRecord>> Store::operations(std::int64_t limit) {
    const auto load = [&](Connection& connection) -> Result<std::vector<OperationRecord>> {
        Statement rows = BANGER_TRY(connection.prepare(
            "SELECT id, kind, subject, started_at, ended_at, outcome, error FROM operations"
            " ORDER BY id DESC LIMIT ?",
            limit));
        return sqlite::read_all_rows<OperationRecord>(rows, read_operation);
    };
    return database_->transact(Transaction::Kind::read, load);
}

}  // namespace banger
