#include <algorithm>

#include "core/base/names.hpp"
#include "core/store/database.hpp"
#include "core/store/decode.hpp"
#include "core/store/lookup.hpp"

/// The part of the store that is about images and kernels.
namespace banger {

using sqlite::Connection;
using sqlite::decoded;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

/// What images and kernels differ in where they are treated alike.
struct Kind {
    std::string thing;  ///< also the word in machine columns and commands: "image"
    std::string table;
    LookupWords words;
};
const Kind& image_kind() {
    static const Kind kind{"image", "images", {"image", "banger image list"}};
    return kind;
}
const Kind& kernel_kind() {
    static const Kind kind{"kernel", "kernels", {"kernel", "banger kernel list"}};
    return kind;
}

Result<void> check_id(const std::string& id) {
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (id.size() >= 12 && id.size() <= 64 && std::ranges::all_of(id, is_hex)) return ok();
    return Error(Errc::invalid_argument, quoted(id) + " is not an id of an image or kernel",
                 "An id has 12 to 64 lower-case hexadecimal digits.");
}

Result<void> check_is_new(Connection& connection, const Kind& kind, const std::string& id,
                          const ArtifactName& name) {
    BANGER_TRY(check_id(id));
    Statement taken = BANGER_TRY(connection.prepare(
        "SELECT name FROM " + kind.table + " WHERE name = ?1 OR id = ?2", name, id));
    if (!BANGER_TRY(taken.step())) return ok();
    const std::string existing = taken.text();
    return Error(Errc::already_exists,
                 existing == name.str()
                     ? "the " + kind.thing + " " + quoted(existing) + " exists"
                     : "the id " + id + " is that of " + kind.thing + " " + quoted(existing),
                 "Choose another name, or delete it with `banger " + kind.thing + " delete " +
                     existing + "`.");
}

Result<std::vector<std::string>> users_of(Connection& connection, const Kind& kind,
                                          const std::string& id) {
    Statement rows = BANGER_TRY(connection.prepare(
        "SELECT name FROM machines WHERE " + kind.thing + "_id = ? ORDER BY name", id));
    return sqlite::read_all_rows<std::string>(
        rows, [](Statement& row) -> Result<std::string> { return row.text(); });
}

Result<void> remove(Connection& connection, const Kind& kind, const std::string& id) {
    const std::vector<std::string> users = BANGER_TRY(users_of(connection, kind, id));
    if (users.empty()) return connection.run("DELETE FROM " + kind.table + " WHERE id = ?", id);
    std::string list;
    for (const std::string& user : users)
        list += (list.empty() ? "" : " ") + user;
    return Error(Errc::in_use, "the " + kind.thing + " is used by " + list,
                 "Delete what is not needed with `banger vm delete " + list + "`.");
}

Result<std::string> find_id(Connection& connection, const Kind& kind, std::string_view text) {
    Statement rows = BANGER_TRY(connection.prepare("SELECT id, name, reference, asked_as FROM " +
                                                   kind.table + " ORDER BY name"));
    std::vector<Candidate> candidates;
    while (BANGER_TRY(rows.step())) {
        Candidate candidate;
        candidate.id = rows.text();
        candidate.name = rows.text();
        candidate.reference = rows.text();
        candidate.asked_as = rows.text();
        candidates.push_back(std::move(candidate));
    }
    return look_up(text, candidates, kind.words);
}

Error gone(const Kind& kind, const ArtifactName& name) {
    return {Errc::not_found,
            "the " + kind.thing + " " + quoted(name.str()) + " is not in the store any more",
            "See `" + std::string(kind.words.list) + "`."};
}

Result<std::vector<PartRecord>> read_parts(Connection& connection, const Kind& kind,
                                           const std::string& id) {
    Statement rows =
        BANGER_TRY(connection.prepare("SELECT digest, size FROM " + kind.thing + "_parts WHERE " +
                                          kind.thing + "_id = ? ORDER BY position",
                                      id));
    return sqlite::read_all_rows<PartRecord>(rows, [&](Statement& row) -> Result<PartRecord> {
        PartRecord part{
            BANGER_TRY(decoded(Digest::parse(row.text()), kind.thing + "_parts.digest"))};
        if (row.is_null())
            row.skip(1);
        else
            part.size = row.bytes();
        return part;
    });
}

Result<void> write_parts(Connection& connection, const Kind& kind, const std::string& id,
                         const std::vector<PartRecord>& parts) {
    const std::string table = kind.thing + "_parts";
    BANGER_TRY(connection.run("DELETE FROM " + table + " WHERE " + kind.thing + "_id = ?", id));
    std::int64_t position = 0;
    for (const PartRecord& part : parts)
        BANGER_TRY(connection.run("INSERT INTO " + table + " VALUES (?, ?, ?, ?)", id, position++,
                                  part.digest, part.size));
    return ok();
}

Result<void> check_exists(Connection& connection, const Kind& kind, const std::string& id) {
    const std::int64_t count =
        BANGER_TRY(connection.integer("SELECT count(*) FROM " + kind.table + " WHERE id = ?", id));
    if (count > 0) return ok();
    return Error(Errc::not_found, "the " + kind.thing + " is not in the store any more",
                 "See `" + std::string(kind.words.list) + "`.");
}

// ---- images ----

Result<ImageRecord> read_image(Statement& row) {
    std::string id = row.text();
    ArtifactName name = BANGER_TRY(decoded(ArtifactName::parse(row.text()), "images.name"));
    ImageRecord image{.id = std::move(id), .name = std::move(name)};
    image.reference = row.text();
    image.distro = row.text();
    image.architecture = row.text();
    image.description = row.text();
    image.provenance = row.text();
    image.kernel_reference = row.text();
    image.size = row.bytes();
    image.created_at = row.time();
    image.state = BANGER_TRY(decoded(parse_artifact_state(row.text()), "images.state"));
    image.run_config.working_folder = row.text();
    image.run_config.user = row.text();
    image.asked_as = row.text();
    const std::string file = row.text();
    const std::int64_t changed = row.integer();
    if (!file.empty()) image.file = RegisteredFile{file, changed};
    return image;
}

Result<void> read_words(Connection& connection, ImageRecord& image) {
    Statement rows = BANGER_TRY(connection.prepare(
        "SELECT list, word FROM image_words WHERE image_id = ? ORDER BY list, position", image.id));
    while (BANGER_TRY(rows.step())) {
        const std::string list = rows.text();
        std::vector<std::string>& words = list == "environment"  ? image.run_config.environment
                                          : list == "entrypoint" ? image.run_config.entrypoint
                                                                 : image.run_config.command;
        words.push_back(rows.text());
    }
    return ok();
}

/// All images, or one. There are tens of them: a query for each one's words is cheap enough.
Result<std::vector<ImageRecord>> load_images(Connection& connection,
                                             const std::optional<std::string>& id) {
    Statement rows = BANGER_TRY(connection.prepare(
        "SELECT id, name, reference, distro, architecture, description, provenance,"
        " kernel_reference, size, created_at, state, working_folder, run_user, asked_as, file,"
        " file_changed FROM images"
        " WHERE ?1 IS NULL OR id = ?1 ORDER BY name",
        id));
    std::vector<ImageRecord> images =
        BANGER_TRY(sqlite::read_all_rows<ImageRecord>(rows, read_image));
    for (ImageRecord& image : images) {
        BANGER_TRY(read_words(connection, image));
        image.parts = BANGER_TRY(read_parts(connection, image_kind(), image.id));
    }
    return images;
}

Result<void> write_words(Connection& connection, const std::string& id, std::string_view list,
                         const std::vector<std::string>& words) {
    std::int64_t position = 0;
    for (const std::string& word : words)
        BANGER_TRY(connection.run("INSERT INTO image_words VALUES (?, ?, ?, ?)", id, list,
                                  position++, word));
    return ok();
}

Result<void> write_image(Connection& connection, const ImageRecord& image) {
    BANGER_TRY(connection.run(
        "UPDATE images SET reference = ?2, distro = ?3, architecture = ?4, description = ?5,"
        " provenance = ?6, kernel_reference = ?7, size = ?8, created_at = ?9, state = ?10,"
        " working_folder = ?11, run_user = ?12, asked_as = ?13, file = ?14, file_changed = ?15"
        " WHERE id = ?1",
        image.id, image.reference, image.distro, image.architecture, image.description,
        image.provenance, image.kernel_reference, image.size, image.created_at, image.state,
        image.run_config.working_folder, image.run_config.user, image.asked_as,
        image.file ? image.file->path : std::string(), image.file ? image.file->changed : 0));
    if (connection.changes() == 0) return gone(image_kind(), image.name);
    BANGER_TRY(connection.run("DELETE FROM image_words WHERE image_id = ?", image.id));
    BANGER_TRY(write_words(connection, image.id, "environment", image.run_config.environment));
    BANGER_TRY(write_words(connection, image.id, "entrypoint", image.run_config.entrypoint));
    BANGER_TRY(write_words(connection, image.id, "command", image.run_config.command));
    return write_parts(connection, image_kind(), image.id, image.parts);
}

Result<void> insert_image(Connection& connection, const ImageRecord& image) {
    BANGER_TRY(check_is_new(connection, image_kind(), image.id, image.name));
    BANGER_TRY(connection.run(
        "INSERT INTO images (id, name, reference, distro, architecture, description, provenance,"
        " kernel_reference, size, created_at, state, working_folder, run_user)"
        " VALUES (?, ?, '', '', '', '', '', '', 0, 0, '', '', '')",
        image.id, image.name));
    return write_image(connection, image);
}

// ---- kernels ----

Result<KernelRecord> read_kernel(Statement& row) {
    std::string id = row.text();
    ArtifactName name = BANGER_TRY(decoded(ArtifactName::parse(row.text()), "kernels.name"));
    KernelRecord kernel{.id = std::move(id), .name = std::move(name)};
    kernel.version = row.text();
    kernel.reference = row.text();
    kernel.architecture = row.text();
    kernel.description = row.text();
    kernel.provenance = row.text();
    kernel.size = row.bytes();
    kernel.created_at = row.time();
    kernel.state = BANGER_TRY(decoded(parse_artifact_state(row.text()), "kernels.state"));
    kernel.asked_as = row.text();
    return kernel;
}

Result<std::vector<KernelRecord>> load_kernels(Connection& connection,
                                               const std::optional<std::string>& id) {
    Statement rows = BANGER_TRY(connection.prepare(
        "SELECT id, name, version, reference, architecture, description, provenance, size,"
        " created_at, state, asked_as FROM kernels WHERE ?1 IS NULL OR id = ?1 ORDER BY name",
        id));
    std::vector<KernelRecord> kernels =
        BANGER_TRY(sqlite::read_all_rows<KernelRecord>(rows, read_kernel));
    for (KernelRecord& kernel : kernels)
        kernel.parts = BANGER_TRY(read_parts(connection, kernel_kind(), kernel.id));
    return kernels;
}

Result<void> write_kernel(Connection& connection, const KernelRecord& kernel) {
    BANGER_TRY(connection.run(
        "UPDATE kernels SET version = ?2, reference = ?3, architecture = ?4, description = ?5,"
        " provenance = ?6, size = ?7, created_at = ?8, state = ?9, asked_as = ?10 WHERE id = ?1",
        kernel.id, kernel.version, kernel.reference, kernel.architecture, kernel.description,
        kernel.provenance, kernel.size, kernel.created_at, kernel.state, kernel.asked_as));
    if (connection.changes() == 0) return gone(kernel_kind(), kernel.name);
    return write_parts(connection, kernel_kind(), kernel.id, kernel.parts);
}

Result<void> insert_kernel(Connection& connection, const KernelRecord& kernel) {
    BANGER_TRY(check_is_new(connection, kernel_kind(), kernel.id, kernel.name));
    BANGER_TRY(connection.run(
        "INSERT INTO kernels (id, name, version, reference, architecture, description, provenance,"
        " size, created_at, state) VALUES (?, ?, '', '', '', '', '', 0, 0, '')",
        kernel.id, kernel.name));
    return write_kernel(connection, kernel);
}

}  // namespace

Result<void> Store::add_image(const ImageRecord& image) {
    ImageRecord added = image;
    if (added.created_at == UnixTime()) added.created_at = database_->now();
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return insert_image(connection, added);
    });
}

Result<void> Store::replace_image(const std::string& old_id, const ImageRecord& image) {
    ImageRecord added = image;
    if (added.created_at == UnixTime()) added.created_at = database_->now();
    const auto replace = [&](Connection& connection) -> Result<void> {
        BANGER_TRY(check_exists(connection, image_kind(), old_id));
        BANGER_TRY(remove(connection, image_kind(), old_id));
        return insert_image(connection, added);
    };
    return database_->transact(Transaction::Kind::durable, replace);
}

Result<void> Store::save_image(const ImageRecord& image) {
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return write_image(connection, image);
    });
}

Result<void> Store::remove_image(const std::string& id) {
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return remove(connection, image_kind(), id);
    });
}

Result<std::vector<ImageRecord>> Store::images() {
    return database_->transact(Transaction::Kind::read, [](Connection& connection) {
        return load_images(connection, std::nullopt);
    });
}

Result<ImageRecord> Store::find_image(std::string_view text) {
    const auto find = [&](Connection& connection) -> Result<ImageRecord> {
        const std::string id = BANGER_TRY(find_id(connection, image_kind(), text));
        return std::move(BANGER_TRY(load_images(connection, id)).at(0));
    };
    return database_->transact(Transaction::Kind::read, find);
}

Result<std::vector<std::string>> Store::machines_using_image(const std::string& id) {
    return database_->transact(Transaction::Kind::read, [&](Connection& connection) {
        return users_of(connection, image_kind(), id);
    });
}

Result<void> Store::add_kernel(const KernelRecord& kernel) {
    KernelRecord added = kernel;
    if (added.created_at == UnixTime()) added.created_at = database_->now();
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return insert_kernel(connection, added);
    });
}

Result<void> Store::replace_kernel(const std::string& old_id, const KernelRecord& kernel) {
    KernelRecord added = kernel;
    if (added.created_at == UnixTime()) added.created_at = database_->now();
    const auto replace = [&](Connection& connection) -> Result<void> {
        BANGER_TRY(check_exists(connection, kernel_kind(), old_id));
        BANGER_TRY(remove(connection, kernel_kind(), old_id));
        return insert_kernel(connection, added);
    };
    return database_->transact(Transaction::Kind::durable, replace);
}

Result<void> Store::save_kernel(const KernelRecord& kernel) {
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return write_kernel(connection, kernel);
    });
}

Result<void> Store::remove_kernel(const std::string& id) {
    return database_->transact(Transaction::Kind::durable, [&](Connection& connection) {
        return remove(connection, kernel_kind(), id);
    });
}

Result<std::vector<KernelRecord>> Store::kernels() {
    return database_->transact(Transaction::Kind::read, [](Connection& connection) {
        return load_kernels(connection, std::nullopt);
    });
}

Result<KernelRecord> Store::find_kernel(std::string_view text) {
    const auto find = [&](Connection& connection) -> Result<KernelRecord> {
        const std::string id = BANGER_TRY(find_id(connection, kernel_kind(), text));
        return std::move(BANGER_TRY(load_kernels(connection, id)).at(0));
    };
    return database_->transact(Transaction::Kind::read, find);
}

Result<std::vector<std::string>> Store::machines_using_kernel(const std::string& id) {
    return database_->transact(Transaction::Kind::read, [&](Connection& connection) {
        return users_of(connection, kernel_kind(), id);
    });
}

}  // namespace banger
