#include "core/store/store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"
#include "core/store/database.hpp"
#include "core/store/schema.hpp"

namespace banger {

namespace {

/// Takes the others' rights away from a file or folder of ours, by descriptor.
Result<void> make_private(const std::string& path, mode_t type) {
    // O_PATH: closing any other descriptor of the database would drop the locks that a connection
    // of this process holds on it (fcntl(2), "Record locks").
    const UniqueFd fd(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "open " + path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if ((status.st_mode & S_IFMT) != type || status.st_uid != ::geteuid())
        return Error(Errc::permission_denied,
                     path + " is a link, of another kind, or belongs to another user",
                     "Move it away, or run banger as its owner.");
    if ((status.st_mode & 077) == 0) return ok();
    const std::string name = "/proc/self/fd/" + std::to_string(fd.get());
    if (::chmod(name.c_str(), status.st_mode & 07700) != 0)
        return Error::from_errno(errno, "chmod " + path);
    return ok();
}

Result<void> ensure_private_file(const std::string& path) {
    const UniqueFd made(
        ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (made) return ok();
    if (errno != EEXIST) return Error::from_errno(errno, "making " + path);
    return make_private(path, S_IFREG);
}

Result<void> check_content(sqlite::Connection& connection) {
    sqlite::Statement check = BANGER_TRY(connection.prepare("PRAGMA quick_check(1)"));
    if (!BANGER_TRY(check.step())) return ok();
    const std::string answer = check.text();
    if (answer == "ok") return ok();
    return Error(Errc::corrupt, "the database is damaged: " + answer,
                 "Stop bangerd, then restore a copy of the file or move it away together with the "
                 "-wal and -shm files beside it; banger starts anew then and does not know the "
                 "machines made before.");
}

Result<std::unique_ptr<sqlite::Connection>> open_database(const std::string& path) {
    const std::string folder = parent_path(path);
    BANGER_TRY(ensure_folder(folder, 0700));
    BANGER_TRY(make_private(folder, S_IFDIR));
    BANGER_TRY(ensure_private_file(path));
    std::unique_ptr<sqlite::Connection> connection = BANGER_TRY(sqlite::Connection::open(path));
    BANGER_TRY(check_content(*connection));
    BANGER_TRY(sqlite::migrate(*connection, sqlite::migrations()));
    // Last, because a migration runs without them.
    BANGER_TRY(connection->script("PRAGMA foreign_keys = ON"));
    return connection;
}

}  // namespace

Store::Store(std::unique_ptr<Database> database) : database_(std::move(database)) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::open(const std::string& path, StoreOptions options) {
    std::unique_ptr<sqlite::Connection> connection =
        BANGER_TRY(open_database(path).context("opening the database " + path));
    return std::unique_ptr<Store>(
        new Store(std::make_unique<Database>(std::move(connection), path, std::move(options))));
}

}  // namespace banger
