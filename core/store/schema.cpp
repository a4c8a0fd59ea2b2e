#include "core/store/schema.hpp"

#include <string>

namespace banger::sqlite {

namespace {

constexpr const char* version_1 = R"sql(
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    distro TEXT NOT NULL,
    architecture TEXT NOT NULL,
    description TEXT NOT NULL,
    provenance TEXT NOT NULL,
    kernel_reference TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    working_folder TEXT NOT NULL,
    run_user TEXT NOT NULL
) STRICT;

-- The lists of an image's run configuration: 'environment', 'entrypoint', 'command'.
CREATE TABLE image_words (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    list TEXT NOT NULL,
    position INTEGER NOT NULL,
    word TEXT NOT NULL,
    PRIMARY KEY (image_id, list, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE kernels (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    reference TEXT NOT NULL,
    architecture TEXT NOT NULL,
    description TEXT NOT NULL,
    provenance TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;

CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images(id),
    kernel TEXT NOT NULL,
    kernel_id TEXT NOT NULL REFERENCES kernels(id),
    backend TEXT NOT NULL,
    network TEXT NOT NULL,
    storage TEXT NOT NULL,
    mac TEXT NOT NULL,
    state TEXT NOT NULL,
    error_reason TEXT NOT NULL,
    vcpus INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    disk_size INTEGER NOT NULL,
    system_overlay_size INTEGER NOT NULL,
    nat INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    stopped_at INTEGER,
    pid INTEGER,
    pid_start_time INTEGER,
    backend_state TEXT,
    workspace_guest_path TEXT,
    workspace_source TEXT,
    workspace_head TEXT,
    workspace_prepared_at INTEGER,
    ssh_host_key TEXT NOT NULL
) STRICT;
CREATE INDEX machines_by_image ON machines(image_id);
CREATE INDEX machines_by_kernel ON machines(kernel_id);

CREATE TABLE links (
    vm TEXT PRIMARY KEY REFERENCES machines(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    device TEXT NOT NULL,
    mac TEXT NOT NULL,
    address TEXT NOT NULL,
    gateway TEXT NOT NULL,
    name_server TEXT NOT NULL,
    nat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE forwards (
    vm TEXT NOT NULL REFERENCES links(vm) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    host_address TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    guest_port INTEGER NOT NULL,
    PRIMARY KEY (vm, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE volumes (
    vm TEXT NOT NULL REFERENCES machines(id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (vm, role)
) STRICT, WITHOUT ROWID;

-- An address in host byte order. Without a machine it rests until the quarantine is over.
CREATE TABLE leases (
    address INTEGER PRIMARY KEY,
    vm TEXT UNIQUE REFERENCES machines(id),
    released_at INTEGER
) STRICT;

-- No cascade: a machine whose journal is not empty must not vanish.
CREATE TABLE host_resources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    vm TEXT NOT NULL REFERENCES machines(id),
    kind TEXT NOT NULL,
    plugin TEXT NOT NULL,
    detail TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX host_resources_by_vm ON host_resources(vm);

CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL
) STRICT;
)sql";

constexpr const char* version_2 = R"sql(
ALTER TABLE machines ADD COLUMN workspace_base TEXT;
ALTER TABLE machines ADD COLUMN workspace_branch TEXT;
ALTER TABLE machines ADD COLUMN workspace_mode TEXT;
ALTER TABLE machines ADD COLUMN workspace_has_untracked INTEGER;
ALTER TABLE machines ADD COLUMN workspace_is_readonly INTEGER;
ALTER TABLE machines ADD COLUMN workspace_fingerprint TEXT;
UPDATE machines SET workspace_base = workspace_head, workspace_branch = '',
    workspace_mode = 'overlay', workspace_has_untracked = 0, workspace_is_readonly = 0,
    workspace_fingerprint = '' WHERE workspace_head IS NOT NULL;
)sql";

constexpr const char* version_3 = R"sql(
-- What the user asked for, when that is not the canonical spelling; empty: it is.
ALTER TABLE images ADD COLUMN asked_as TEXT NOT NULL DEFAULT '';
ALTER TABLE kernels ADD COLUMN asked_as TEXT NOT NULL DEFAULT '';
-- A registered image: the user's own file, and its st_mtim in nanoseconds. Empty: in the store.
ALTER TABLE images ADD COLUMN file TEXT NOT NULL DEFAULT '';
ALTER TABLE images ADD COLUMN file_changed INTEGER NOT NULL DEFAULT 0;

-- What an artifact was made of, where it was told; a size may be unknown.
CREATE TABLE image_parts (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER,
    PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE kernel_parts (
    kernel_id TEXT NOT NULL REFERENCES kernels(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER,
    PRIMARY KEY (kernel_id, position)
) STRICT, WITHOUT ROWID;
)sql";

constexpr const char* all_migrations[] = {version_1, version_2, version_3};

struct Header {
    std::int64_t application = 0;
    std::int64_t version = 0;
    std::int64_t objects = 0;
};

Result<Header> read_header(Connection& connection) {
    return Header{BANGER_TRY(connection.integer("PRAGMA application_id")),
                  BANGER_TRY(connection.integer("PRAGMA user_version")),
                  BANGER_TRY(connection.integer("SELECT count(*) FROM sqlite_schema"))};
}

Result<void> check_header(const Header& header, std::int64_t newest) {
    const bool is_empty = header.application == 0 && header.version == 0 && header.objects == 0;
    if (!is_empty && header.application != application_id)
        return Error(Errc::corrupt, "this is not a database of banger",
                     "Move the file away; banger makes its own.");
    if (header.version > newest)
        return Error(Errc::unsupported,
                     "it was written by a newer banger (schema " + std::to_string(header.version) +
                         ", this one reads up to " + std::to_string(newest) + ")",
                     "Use that banger again, or move the file away to start anew.");
    if (header.version < 0)
        return Error(Errc::corrupt, "its schema version is negative", "Restore a copy.");
    return ok();
}

}  // namespace

std::span<const char* const> migrations() { return all_migrations; }

Result<void> migrate(Connection& connection, std::span<const char* const> steps) {
    const auto newest = static_cast<std::int64_t>(steps.size());
    const Header before = BANGER_TRY(read_header(connection));
    BANGER_TRY(check_header(before, newest));
    // Outside a transaction, where alone it can be changed; kept in the file, so this writes only
    // once. A file system without shared memory keeps the old journal: slower, as safe.
    BANGER_TRY(connection.script("PRAGMA journal_mode = WAL"));
    if (before.version == newest) return ok();

    // A migration may rebuild a table that others refer to; the result is checked as a whole.
    BANGER_TRY(connection.script("PRAGMA foreign_keys = OFF"));
    Transaction transaction =
        BANGER_TRY(Transaction::begin(connection, Transaction::Kind::durable));
    // Again, now that nobody else can write: another process may have been quicker.
    const Header header = BANGER_TRY(read_header(connection));
    BANGER_TRY(check_header(header, newest));
    for (std::int64_t version = header.version; version < newest; ++version)
        BANGER_TRY(connection.script(steps[static_cast<std::size_t>(version)])
                       .context("bringing the database to schema " + std::to_string(version + 1)));
    Statement violations = BANGER_TRY(connection.prepare("PRAGMA foreign_key_check"));
    if (BANGER_TRY(violations.step()))
        return Error(Errc::corrupt, "table " + violations.text() + " has dangling rows",
                     "Restore a copy of the database.");
    BANGER_TRY(connection.script("PRAGMA application_id = " + std::to_string(application_id) +
                                 "; PRAGMA user_version = " + std::to_string(newest)));
    return transaction.commit();
}

}  // namespace banger::sqlite
