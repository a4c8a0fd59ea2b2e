#include "banger/result.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace banger {

namespace {
constexpr std::string_view errc_words[] = {
    "invalid_argument", "not_found",   "already_exists",
    "in_use",           "busy",        "wrong_state",
    "unsupported",      "unavailable", "permission_denied",
    "no_space",         "unreachable", "timed_out",
    "cancelled",        "corrupt",     "internal",
};
static_assert(std::size(errc_words) == static_cast<std::size_t>(Errc::internal) + 1);
}  // namespace

std::string_view to_string(Errc code) { return errc_words[static_cast<std::size_t>(code)]; }

std::optional<Errc> parse_errc(std::string_view word) {
    for (std::size_t i = 0; i < std::size(errc_words); ++i)
        if (errc_words[i] == word) return static_cast<Errc>(i);
    return std::nullopt;
}

Errc errc_from_errno(int error_number) {
    switch (error_number) {
        case EINVAL:
        case ENAMETOOLONG:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
            return Errc::invalid_argument;
        case ENOENT:
        case ENODEV:
        case ENXIO:
        case ESRCH:
            return Errc::not_found;
        case EEXIST:
        case EADDRINUSE:
            return Errc::already_exists;
        case ENOTEMPTY:
        case ETXTBSY:
            return Errc::in_use;
        case EBUSY:
        case EAGAIN:
            return Errc::busy;
        case EACCES:
        case EPERM:
        case EROFS:
            return Errc::permission_denied;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
            return Errc::no_space;
        case ECONNREFUSED:
        case ECONNRESET:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENOTCONN:
        case EPIPE:
            return Errc::unreachable;
        case ETIMEDOUT:
            return Errc::timed_out;
        case ECANCELED:
            return Errc::cancelled;
        case EOPNOTSUPP:
        case ENOSYS:
            return Errc::unsupported;
        case EBADMSG:
        case EPROTO:
            return Errc::corrupt;
        default:
            return Errc::internal;
    }
}

namespace {
/// What to do, where the number alone tells.
const char* remedy_of(int error_number) {
    switch (error_number) {
        case ENOSPC:
            return "Free some disk space; `banger doctor` shows where it is short.";
        case EDQUOT:
            return "Free some of your disk quota.";
        case EMFILE:
        case ENFILE:
            return "Raise the limit of open files (ulimit -n).";
        default:
            return "";
    }
}
}  // namespace

Error Error::from_errno(int error_number, std::string_view what) {
    char buffer[128];
    // GNU strerror_r: thread-safe, may or may not use the buffer.
    const char* reason = ::strerror_r(error_number, buffer, sizeof buffer);
    return {errc_from_errno(error_number), std::string(what) + ": " + reason,
            remedy_of(error_number)};
}

Error Error::context(std::string_view doing) const& { return Error(*this).context(doing); }

Error Error::context(std::string_view doing) && {
    message.insert(0, "while " + std::string(doing) + ": ");
    return std::move(*this);
}

std::string Error::text() const { return remedy.empty() ? message : message + ". " + remedy; }

namespace detail {
void bad_result_access(const Error* error) {
    std::fprintf(stderr, "banger: bug: a Result was read as the other kind%s%s\n",
                 error ? ": " : "", error ? error->message.c_str() : "");
    std::abort();
}
}  // namespace detail

}  // namespace banger
