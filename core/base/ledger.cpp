#include "core/base/ledger.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {

/// No key begins like this.
constexpr std::string_view temporary_prefix = ".new-";

Result<void> check_key(std::string_view key) {
    if (Ledger::is_key(key)) return ok();
    return Error(Errc::invalid_argument, banger::quoted(key) + " is not the key of an entry");
}

}  // namespace

bool Ledger::is_key(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    });
}

Result<Ledger> Ledger::open(const std::string& folder) {
    BANGER_TRY(ensure_folder(folder, 0700));
    UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "open " + folder);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat " + folder);
    if (status.st_uid != ::geteuid() || (status.st_mode & 022) != 0)
        return Error(Errc::permission_denied,
                     folder + " belongs to somebody else or can be written by others",
                     "Remove it, or make it yours with mode 0700.");
    Ledger ledger(std::move(fd));
    for (const std::string& name : BANGER_TRY(ledger.names()))
        if (name.starts_with(temporary_prefix) &&
            ::unlinkat(ledger.folder_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
            return Error::from_errno(errno, "removing " + folder + "/" + name);
    return ledger;
}

Result<std::vector<std::string>> Ledger::names() const {
    // A descriptor of its own: the position in the folder belongs to the open file.
    UniqueFd fd(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "opening the ledger's folder");
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::fdopendir(fd.get()), ::closedir);
    if (!folder) return Error::from_errno(errno, "reading the ledger's folder");
    (void)fd.release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return Error::from_errno(errno, "reading the ledger's folder");
    std::ranges::sort(names);
    return names;
}

Result<void> Ledger::write(std::string_view key, std::string_view text) {
    BANGER_TRY(check_key(key));
    if (text.size() > max_text)
        return Error(Errc::invalid_argument, "an entry of the ledger is too large");
    const std::string name(key);
    const std::string temporary =
        std::string(temporary_prefix) + std::to_string(next_->fetch_add(1));
    const UniqueFd fd(::openat(folder_.get(), temporary.c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return Error::from_errno(errno, "making the ledger entry " + name);
    Rollback rollback({});
    rollback.add("removing " + temporary, [&]() -> Result<void> {
        ::unlinkat(folder_.get(), temporary.c_str(), 0);
        return ok();
    });
    BANGER_TRY(write_all(fd.get(), text).context("writing the ledger entry " + name));
    if (::renameat(folder_.get(), temporary.c_str(), folder_.get(), name.c_str()) != 0)
        return Error::from_errno(errno, "renaming the ledger entry " + name);
    rollback.commit();
    return ok();
}

Result<std::string> Ledger::read(std::string_view key) const {
    BANGER_TRY(check_key(key));
    const std::string name(key);
    // Without O_NONBLOCK a FIFO would keep us waiting for its writer.
    const UniqueFd fd(
        ::openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) {
        Error error = Error::from_errno(errno, "opening the ledger entry " + name);
        if (error.code != Errc::not_found) error.code = Errc::corrupt;
        return error;
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat " + name);
    if (!S_ISREG(status.st_mode))
        return Error(Errc::corrupt, "the ledger entry " + name + " is not a plain file");
    return read_all(fd.get(), ByteCount::bytes(max_text))
        .context("reading the ledger entry " + name);
}

Result<void> Ledger::erase(std::string_view key) {
    BANGER_TRY(check_key(key));
    const std::string name(key);
    if (::unlinkat(folder_.get(), name.c_str(), 0) == 0 || errno == ENOENT) return ok();
    return Error::from_errno(errno, "removing the ledger entry " + name);
}

Result<Ledger::Contents> Ledger::entries() const {
    Contents contents;
    for (const std::string& name : BANGER_TRY(names())) {
        if (name.starts_with(temporary_prefix)) continue;
        if (!is_key(name)) {
            contents.damaged.emplace_back(
                Errc::corrupt, banger::quoted(name) + " in the ledger's folder is no entry");
            continue;
        }
        Result<std::string> text = read(name);
        if (text)
            contents.entries.push_back({name, std::move(*text)});
        else if (text.error().code != Errc::not_found)  // erased just now
            contents.damaged.push_back(std::move(text).error());
    }
    return contents;
}

}  // namespace banger
