#include <map>
#include <utility>

#include "core/base/names.hpp"
#include "core/store/database.hpp"
#include "core/store/decode.hpp"
#include "core/store/lookup.hpp"

/// The part of the store that is about machines and their addresses.
namespace banger {

using sqlite::Connection;
using sqlite::decoded;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

constexpr LookupWords machine_words{"machine", "banger vm list"};

// ---- reading ----

constexpr std::string_view select_machines =
    "SELECT m.id, m.name, m.image, m.image_id, m.kernel, m.kernel_id, m.backend, m.network,"
    " m.storage, m.mac, m.state, m.error_reason, m.vcpus, m.memory, m.disk_size,"
    " m.system_overlay_size, m.nat, m.created_at, m.started_at, m.stopped_at, m.ssh_host_key,"
    " a.address,"
    " m.pid, m.pid_start_time, m.backend_state,"
    " m.workspace_guest_path, m.workspace_source, m.workspace_head, m.workspace_prepared_at,"
    " m.workspace_base, m.workspace_branch, m.workspace_mode, m.workspace_has_untracked,"
    " m.workspace_is_readonly, m.workspace_fingerprint,"
    " l.kind, l.device, l.mac, l.address, l.gateway, l.name_server, l.nat"
    " FROM machines m LEFT JOIN leases a ON a.vm = m.id LEFT JOIN links l ON l.vm = m.id";

std::optional<VmProcess> read_process(Statement& row, const VmId& vm) {
    if (row.is_null()) return row.skip(3), std::nullopt;
    const std::int64_t pid = row.integer();
    const auto start_time = static_cast<std::uint64_t>(row.integer());
    return VmProcess{vm, {pid, start_time}, row.text()};
}

std::optional<WorkspaceRecord> read_workspace(Statement& row) {
    if (row.is_null()) return row.skip(10), std::nullopt;
    WorkspaceRecord workspace;
    workspace.guest_path = row.text();
    workspace.source = row.text();
    workspace.head = row.text();
    workspace.prepared_at = row.time();
    workspace.base = row.text();
    workspace.branch = row.text();
    workspace.mode = row.text();
    workspace.has_untracked = row.integer() != 0;
    workspace.is_readonly = row.integer() != 0;
    workspace.fingerprint = row.text();
    return workspace;
}

Result<std::optional<NetworkLink>> read_link(Statement& row, const VmId& vm) {
    if (row.is_null()) return std::optional<NetworkLink>();
    const LinkKind kind = BANGER_TRY(decoded(parse_link_kind(row.text()), "links.kind"));
    const std::string device = row.text();
    const MacAddress mac = BANGER_TRY(decoded(MacAddress::parse(row.text()), "links.mac"));
    const Ipv4Prefix address = BANGER_TRY(decoded(Ipv4Prefix::parse(row.text()), "links.address"));
    const Ipv4Address gateway =
        BANGER_TRY(decoded(Ipv4Address::parse(row.text()), "links.gateway"));
    const Ipv4Address server =
        BANGER_TRY(decoded(Ipv4Address::parse(row.text()), "links.name_server"));
    const bool nat = row.integer() != 0;
    return std::optional(NetworkLink{vm, kind, device, mac, address, gateway, server, nat, {}});
}

/// The columns of `select_machines`, in their order; volumes and forwards come from their own
/// tables.
Result<VmRecord> read_machine(Statement& row) {
    VmId id = BANGER_TRY(decoded(VmId::parse(row.text()), "machines.id"));
    VmName name = BANGER_TRY(decoded(VmName::parse(row.text()), "machines.name"));
    ArtifactName image = BANGER_TRY(decoded(ArtifactName::parse(row.text()), "machines.image"));
    std::string image_id = row.text();
    ArtifactName kernel = BANGER_TRY(decoded(ArtifactName::parse(row.text()), "machines.kernel"));
    std::string kernel_id = row.text();
    PluginName backend = BANGER_TRY(decoded(PluginName::parse(row.text()), "machines.backend"));
    PluginName network = BANGER_TRY(decoded(PluginName::parse(row.text()), "machines.network"));
    PluginName storage = BANGER_TRY(decoded(PluginName::parse(row.text()), "machines.storage"));
    MacAddress mac = BANGER_TRY(decoded(MacAddress::parse(row.text()), "machines.mac"));
    VmRecord machine{.id = id,
                     .name = std::move(name),
                     .image = std::move(image),
                     .image_id = std::move(image_id),
                     .kernel = std::move(kernel),
                     .kernel_id = std::move(kernel_id),
                     .backend = std::move(backend),
                     .network = std::move(network),
                     .storage = std::move(storage),
                     .mac = mac};
    machine.state = BANGER_TRY(decoded(parse_vm_state(row.text()), "machines.state"));
    machine.error_reason = row.text();
    machine.vcpus = static_cast<std::uint32_t>(row.integer());
    machine.memory = row.bytes();
    machine.disk_size = row.bytes();
    machine.system_overlay_size = row.bytes();
    machine.nat = row.integer() != 0;
    machine.created_at = row.time();
    machine.started_at = row.optional_time();
    machine.stopped_at = row.optional_time();
    machine.ssh_host_key = row.text();
    if (row.is_null())
        row.skip(1);
    else
        machine.address = Ipv4Address(static_cast<std::uint32_t>(row.integer()));
    machine.process = read_process(row, id);
    machine.workspace = read_workspace(row);
    machine.link = BANGER_TRY(read_link(row, id));
    return machine;
}

using MachineIndex = std::map<std::string, VmRecord*, std::less<>>;

/// The machine a child row belongs to. Foreign keys promise one; a damaged file does not.
Result<VmRecord*> owner_of_row(Statement& row, const MachineIndex& machines) {
    const auto found = machines.find(row.text());
    if (found != machines.end()) return found->second;
    return Error(Errc::corrupt, "a row belongs to a machine that is not there",
                 "Restore a copy of the database.");
}

Result<void> read_volumes(Statement& rows, const MachineIndex& machines) {
    while (BANGER_TRY(rows.step())) {
        VmRecord& machine = *BANGER_TRY(owner_of_row(rows, machines));
        const VolumeRole role = BANGER_TRY(decoded(parse_volume_role(rows.text()), "volumes.role"));
        std::string path = rows.text();
        const DiskFormat format =
            BANGER_TRY(decoded(parse_disk_format(rows.text()), "volumes.format"));
        machine.volumes.push_back({machine.id, role, std::move(path), format, rows.bytes()});
    }
    return ok();
}

Result<void> read_forwards(Statement& rows, const MachineIndex& machines) {
    while (BANGER_TRY(rows.step())) {
        VmRecord& machine = *BANGER_TRY(owner_of_row(rows, machines));
        const Ipv4Address host =
            BANGER_TRY(decoded(Ipv4Address::parse(rows.text()), "forwards.host_address"));
        const auto host_port = static_cast<std::uint16_t>(rows.integer());
        const auto guest_port = static_cast<std::uint16_t>(rows.integer());
        if (machine.link) machine.link->forwards.push_back({host, host_port, guest_port});
    }
    return ok();
}

/// All machines, or one: three queries whatever their number.
Result<std::vector<VmRecord>> load_machines(Connection& connection,
                                            const std::optional<std::string>& id) {
    const auto query = [&](std::string_view select, std::string_view where,
                           std::string_view order) {
        std::string sql(select);
        if (id) sql += where;
        return connection.prepare(sql += order, id);
    };
    Statement rows = BANGER_TRY(query(select_machines, " WHERE m.id = ?1", " ORDER BY m.name"));
    std::vector<VmRecord> machines =
        BANGER_TRY(sqlite::read_all_rows<VmRecord>(rows, read_machine));
    MachineIndex index;
    for (VmRecord& machine : machines)
        index[machine.id.str()] = &machine;

    Statement volumes = BANGER_TRY(query("SELECT vm, role, path, format, size FROM volumes",
                                         " WHERE vm = ?1", " ORDER BY vm, role"));
    BANGER_TRY(read_volumes(volumes, index));
    Statement forwards =
        BANGER_TRY(query("SELECT vm, host_address, host_port, guest_port FROM forwards",
                         " WHERE vm = ?1", " ORDER BY vm, position"));
    BANGER_TRY(read_forwards(forwards, index));
    return machines;
}

Result<VmRecord> load_machine(Connection& connection, const std::string& id) {
    std::vector<VmRecord> machines = BANGER_TRY(load_machines(connection, id));
    if (machines.empty())
        return Error(Errc::not_found, "there is no machine " + quoted(id), "See `banger vm list`.");
    return std::move(machines.front());
}

// ---- writing ----

Result<void> write_link(Connection& connection, const NetworkLink& link, const VmId& vm) {
    BANGER_TRY(connection.run("INSERT INTO links VALUES (?, ?, ?, ?, ?, ?, ?, ?)", vm, link.kind,
                              link.device, link.mac, link.address, link.gateway, link.name_server,
                              link.nat));
    std::int64_t position = 0;
    for (const PortForward& forward : link.forwards)
        BANGER_TRY(connection.run("INSERT INTO forwards VALUES (?, ?, ?, ?, ?)", vm, position++,
                                  forward.host_address, forward.host_port, forward.guest_port));
    return ok();
}

/// Everything of a machine whose row exists, but what never changes.
Result<void> write_machine(Connection& connection, const VmRecord& machine) {
    std::optional<std::int64_t> pid;
    std::optional<std::int64_t> start_time;
    std::optional<std::string> backend_state;
    if (machine.process) {
        pid = machine.process->process.pid;
        start_time = static_cast<std::int64_t>(machine.process->process.start_time);
        backend_state = machine.process->backend_state;
    }
    const WorkspaceRecord* const workspace = machine.workspace ? &*machine.workspace : nullptr;
    const auto of_workspace = [&](auto member) {
        return workspace ? std::optional(workspace->*member) : std::nullopt;
    };
    BANGER_TRY(connection.run(
        "UPDATE machines SET image = ?2, image_id = ?3, kernel = ?4, kernel_id = ?5, backend = ?6,"
        " network = ?7, storage = ?8, mac = ?9, state = ?10, error_reason = ?11, vcpus = ?12,"
        " memory = ?13, disk_size = ?14, system_overlay_size = ?15, nat = ?16, started_at = ?17,"
        " stopped_at = ?18, pid = ?19, pid_start_time = ?20, backend_state = ?21,"
        " workspace_guest_path = ?22, workspace_source = ?23, workspace_head = ?24,"
        " workspace_prepared_at = ?25, ssh_host_key = ?26, workspace_base = ?27,"
        " workspace_branch = ?28, workspace_mode = ?29, workspace_has_untracked = ?30,"
        " workspace_is_readonly = ?31, workspace_fingerprint = ?32 WHERE id = ?1",
        machine.id, machine.image, machine.image_id, machine.kernel, machine.kernel_id,
        machine.backend, machine.network, machine.storage, machine.mac, machine.state,
        machine.error_reason, machine.vcpus, machine.memory, machine.disk_size,
        machine.system_overlay_size, machine.nat, machine.started_at, machine.stopped_at, pid,
        start_time, backend_state, of_workspace(&WorkspaceRecord::guest_path),
        of_workspace(&WorkspaceRecord::source), of_workspace(&WorkspaceRecord::head),
        of_workspace(&WorkspaceRecord::prepared_at), machine.ssh_host_key,
        of_workspace(&WorkspaceRecord::base), of_workspace(&WorkspaceRecord::branch),
        of_workspace(&WorkspaceRecord::mode), of_workspace(&WorkspaceRecord::has_untracked),
        of_workspace(&WorkspaceRecord::is_readonly), of_workspace(&WorkspaceRecord::fingerprint)));
    if (connection.changes() == 0)
        return Error(Errc::not_found,
                     "machine " + quoted(machine.name.str()) + " is not in the store any more",
                     "See `banger vm list`.");
    // The forwards go with their link.
    BANGER_TRY(connection.run("DELETE FROM links WHERE vm = ?", machine.id));
    if (machine.link) BANGER_TRY(write_link(connection, *machine.link, machine.id));
    BANGER_TRY(connection.run("DELETE FROM volumes WHERE vm = ?", machine.id));
    for (const Volume& volume : machine.volumes)
        BANGER_TRY(connection.run("INSERT INTO volumes VALUES (?, ?, ?, ?, ?)", machine.id,
                                  volume.role, volume.path, volume.format, volume.size));
    return ok();
}

/// The row itself, with what never changes; write_machine() fills in the rest.
Result<void> insert_machine(Connection& connection, const VmRecord& machine) {
    return connection.run(
        "INSERT INTO machines (id, name, created_at, image, image_id, kernel, kernel_id, backend,"
        " network, storage, mac, state, error_reason, vcpus, memory, disk_size,"
        " system_overlay_size, nat, ssh_host_key)"
        " VALUES (?1, ?2, ?3, '', ?4, '', ?5, '', '', '', '', '', '', 0, 0, 0, 0, 0, '')",
        machine.id, machine.name, machine.created_at, machine.image_id, machine.kernel_id);
}

// ---- reserving ----

Result<void> check_name_is_free(Connection& connection, const VmName& name) {
    if (BANGER_TRY(connection.integer("SELECT count(*) FROM machines WHERE name = ?", name)) == 0)
        return ok();
    return Error(Errc::already_exists, "a machine named " + quoted(name.str()) + " exists already",
                 "Choose another name, or delete it with `banger vm delete " + name.str() + "`.");
}

/// `table` is a word of ours, "images" or "kernels".
Result<void> check_is_ready(Connection& connection, const std::string& table, const std::string& id,
                            const ArtifactName& name) {
    const std::string thing = table.substr(0, table.size() - 1);
    Statement row =
        BANGER_TRY(connection.prepare("SELECT state FROM " + table + " WHERE id = ?", id));
    if (!BANGER_TRY(row.step()))
        return Error(Errc::not_found, thing + " " + quoted(name.str()) + " is not in the store",
                     "Pull it with `banger " + thing + " pull " + name.str() + "`.");
    if (row.text() == to_string(ArtifactState::ready)) return ok();
    return Error(Errc::wrong_state, thing + " " + quoted(name.str()) + " is not complete",
                 "Pull it again with `banger " + thing + " pull " + name.str() + "`.");
}

/// Ends the rest of addresses whose time is over.
Result<void> end_quarantine(Connection& connection, UnixTime now, std::chrono::seconds quarantine) {
    // A clock that was set back must not make an address rest for years.
    BANGER_TRY(connection.run("UPDATE leases SET released_at = ?1 WHERE released_at > ?1", now));
    return connection.run("DELETE FROM leases WHERE vm IS NULL AND released_at <= ?",
                          now - quarantine);
}

/// The lowest address of the pool that nobody has or had a moment ago.
Result<Ipv4Address> free_address(Connection& connection, const Ipv4Prefix& pool, UnixTime now,
                                 std::chrono::seconds quarantine) {
    const std::int64_t first = std::int64_t{pool.network().bits()} + 1;
    const std::int64_t last = std::int64_t{pool.broadcast().bits()} - 1;
    const std::int64_t gateway = pool.address().bits();
    Statement taken = BANGER_TRY(connection.prepare(
        "SELECT address FROM leases WHERE address BETWEEN ?1 AND ?2 ORDER BY address", first,
        last));
    std::int64_t candidate = first;
    while (BANGER_TRY(taken.step())) {
        if (candidate == gateway) ++candidate;
        const std::int64_t address = taken.integer();
        if (address > candidate) break;
        // One behind the candidate is the gateway's, leased when the pool had another.
        if (address == candidate) ++candidate;
    }
    if (candidate == gateway) ++candidate;
    if (candidate <= last) return Ipv4Address(static_cast<std::uint32_t>(candidate));

    const std::int64_t rests_since = BANGER_TRY(connection.integer(
        "SELECT coalesce(min(released_at), 0) FROM leases WHERE address BETWEEN ?1 AND ?2", first,
        last));
    std::string remedy =
        "Delete a machine that is not needed, or make the network larger (a smaller `cidr`).";
    if (rests_since != 0) {
        const UnixTime free_at = UnixTime(std::chrono::seconds(rests_since)) + quarantine;
        remedy = "Try again in " + std::to_string((free_at - now).count()) +
                 " s, when an address that was just given back is free.";
    }
    return Error(Errc::no_space, "every address of " + pool.text() + " is taken", remedy);
}

}  // namespace

Result<VmRecord> Store::reserve_machine(VmRecord machine, std::optional<Ipv4Prefix> pool) {
    const UnixTime now = database_->now();
    // On its own, so that it stays also when the pool turns out to be full.
    if (pool)
        BANGER_TRY(database_->transact(Transaction::Kind::write, [&](Connection& connection) {
            return end_quarantine(connection, now, database_->quarantine());
        }));
    const auto reserve = [&](Connection& connection) -> Result<VmRecord> {
        BANGER_TRY(check_name_is_free(connection, machine.name));
        BANGER_TRY(check_is_ready(connection, "images", machine.image_id, machine.image));
        BANGER_TRY(check_is_ready(connection, "kernels", machine.kernel_id, machine.kernel));
        if (machine.created_at == UnixTime()) machine.created_at = now;
        machine.address.reset();
        BANGER_TRY(insert_machine(connection, machine));
        if (pool) {
            machine.address =
                BANGER_TRY(free_address(connection, *pool, now, database_->quarantine()));
            BANGER_TRY(connection.run("INSERT INTO leases VALUES (?, ?, NULL)",
                                      machine.address->bits(), machine.id));
        }
        BANGER_TRY(write_machine(connection, machine));
        return machine;
    };
    return database_->transact(Transaction::Kind::durable, reserve);
}

Result<void> Store::save_machine(const VmRecord& machine) {
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return write_machine(connection, machine);
    });
}

Result<void> Store::remove_machine(const VmId& vm) {
    const auto remove = [&](Connection& connection) -> Result<void> {
        Statement left = BANGER_TRY(connection.prepare(
            "SELECT group_concat(DISTINCT kind) FROM host_resources WHERE vm = ?", vm));
        BANGER_TRY(left.step());
        if (!left.is_null())
            return Error(Errc::in_use,
                         "machine " + vm.str() + " still has something on the host: " + left.text(),
                         "Delete it again with `banger vm delete " + vm.str() + "`.");
        BANGER_TRY(connection.run("UPDATE leases SET vm = NULL, released_at = ?2 WHERE vm = ?1", vm,
                                  database_->now()));
        return connection.run("DELETE FROM machines WHERE id = ?", vm);
    };
    return database_->transact(Transaction::Kind::durable, remove);
}

Result<std::vector<VmRecord>> Store::machines() {
    return database_->transact(Transaction::Kind::read, [](Connection& connection) {
        return load_machines(connection, std::nullopt);
    });
}

Result<VmRecord> Store::machine(const VmId& vm) {
    return database_->transact(Transaction::Kind::read, [&](Connection& connection) {
        return load_machine(connection, vm.str());
    });
}

Result<VmRecord> Store::find_machine(std::string_view text) {
    const auto find = [&](Connection& connection) -> Result<VmRecord> {
        Statement rows =
            BANGER_TRY(connection.prepare("SELECT id, name FROM machines ORDER BY name"));
        std::vector<Candidate> candidates;
        while (BANGER_TRY(rows.step())) {
            std::string id = rows.text();
            candidates.push_back({std::move(id), rows.text()});
        }
        const std::string id = BANGER_TRY(look_up(text, candidates, machine_words));
        return load_machine(connection, id);
    };
    return database_->transact(Transaction::Kind::read, find);
}

}  // namespace banger
