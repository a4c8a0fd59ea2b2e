#include "core/rpc/listener.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/base/file.hpp"

namespace banger::rpc {

namespace {

constexpr int first_inherited = 3;  // SD_LISTEN_FDS_START, sd_listen_fds(3)
constexpr int most_inherited = 16;

int type_of(SocketKind kind) { return kind == SocketKind::stream ? SOCK_STREAM : SOCK_SEQPACKET; }

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return Error(Errc::invalid_argument, path + " is too long for a socket",
                     "Choose a folder with a shorter path.");
    std::memcpy(static_cast<void*>(address.sun_path), path.c_str(), path.size() + 1);
    return address;
}

const sockaddr* generic(const sockaddr_un& address) {
    return reinterpret_cast<const sockaddr*>(&address);  // NOLINT: the sockets API is like that
}

Result<void> check_folder(const std::string& folder) {
    struct stat status {};
    if (::stat(folder.c_str(), &status) != 0)
        return Error::from_errno(errno, "looking at the folder " + folder);
    const bool is_ours = status.st_uid == ::geteuid() || status.st_uid == 0;
    if (is_ours && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
    return Error(Errc::permission_denied, "other users may write to the folder " + folder,
                 "Make it yours with mode 0700.");
}

/// Nothing there, or a socket whose daemon died.
Result<void> check_name_is_free(const std::string& path, const sockaddr_un& address,
                                SocketKind kind) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return {};
        return Error::from_errno(errno, "looking at " + path);
    }
    if (!S_ISSOCK(status.st_mode))
        return Error(Errc::already_exists, path + " exists and is not a socket", "Move it away.");
    const UniqueFd probe(::socket(AF_UNIX, type_of(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return Error::from_errno(errno, "making a socket");
    if (::connect(probe.get(), generic(address), sizeof address) != 0 &&
        (errno == ECONNREFUSED || errno == ENOENT))
        return {};
    return Error(Errc::in_use, "somebody listens at " + path + " already");
}

std::string random_suffix() {
    unsigned char bytes[6] = {};
    if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) std::abort();
    std::string text;
    for (const unsigned char byte : bytes)
        text += "0123456789abcdefghijklmnopqrstuv"[byte & 31U];
    return text;
}

/// Bound to `name` with mode 0600 and listening; the file is removed again on failure.
Result<void> bind_and_listen(int socket, const std::string& name) {
    const sockaddr_un address = BANGER_TRY(address_of(name));
    // The new file gets the socket's own mode (unix(7)), so there is no moment with a wider one.
    if (::fchmod(socket, S_IRUSR | S_IWUSR) != 0)
        return Error::from_errno(errno, "setting the mode of a socket");
    if (::bind(socket, generic(address), sizeof address) != 0)
        return Error::from_errno(errno, "making the socket " + name);
    if (::listen(socket, SOMAXCONN) == 0) return {};
    const int number = errno;
    ::unlink(name.c_str());
    return Error::from_errno(number, "listening at " + name);
}

Result<void> check_inherited(int fd, SocketKind kind) {
    const auto option = [&](int name) {
        int value = -1;
        socklen_t length = sizeof value;
        return ::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
    };
    if (option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == type_of(kind) &&
        option(SO_ACCEPTCONN) == 1)
        return {};
    return Error(Errc::invalid_argument,
                 "descriptor " + std::to_string(fd) + " is not a socket of the kind wanted",
                 "Check ListenStream= or ListenSequentialPacket= in the socket unit.");
}

std::optional<int> number_of(const char* variable) {
    const char* text = std::getenv(variable);  // NOLINT: no threads yet, as the header says
    if (text == nullptr) return std::nullopt;
    int number = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, status] = std::from_chars(text, end, number);
    if (status != std::errc() || stop != end) return std::nullopt;
    return number;
}

}  // namespace

Result<UniqueFd> listen_at(const std::string& path, SocketKind kind) {
    const sockaddr_un address = BANGER_TRY(address_of(path));
    const std::string folder = parent_path(path);
    BANGER_TRY(check_folder(folder));
    BANGER_TRY(check_name_is_free(path, address, kind));
    UniqueFd socket(::socket(AF_UNIX, type_of(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return Error::from_errno(errno, "making a socket");
    const std::string before = folder + "/." + random_suffix();
    BANGER_TRY(bind_and_listen(socket.get(), before));
    if (::rename(before.c_str(), path.c_str()) == 0) return socket;
    const int number = errno;
    ::unlink(before.c_str());
    return Error::from_errno(number, "making the socket " + path);
}

Result<std::vector<UniqueFd>> inherited_listeners(SocketKind kind) {
    const std::optional<int> pid = number_of("LISTEN_PID");
    const int count = number_of("LISTEN_FDS").value_or(0);
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    ::unsetenv("LISTEN_FDNAMES");
    std::vector<UniqueFd> listeners;
    if (pid != ::getpid() || count <= 0) return listeners;
    if (count > most_inherited)
        return Error(Errc::invalid_argument, std::to_string(count) + " sockets were passed",
                     "Check LISTEN_FDS.");
    for (int fd = first_inherited; fd < first_inherited + count; ++fd) {
        BANGER_TRY(check_inherited(fd, kind));
        if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
            return Error::from_errno(errno, "preparing a socket that was passed");
        listeners.emplace_back(fd);
    }
    return listeners;
}

}  // namespace banger::rpc
