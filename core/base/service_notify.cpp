#include "core/base/service_notify.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace banger {

namespace {

/// The variable, which is then gone.
std::string take_variable(const char* name) {
    const char* value = std::getenv(name);  // NOLINT: no threads yet, as the header says
    std::string text = value ? value : "";
    ::unsetenv(name);
    return text;
}

std::optional<std::uint64_t> number_of(const std::string& text) {
    std::uint64_t number = 0;
    const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status != std::errc() || stop != text.data() + text.size()) return std::nullopt;
    return number;
}

}  // namespace

ServiceNotify ServiceNotify::from_environment() {
    ServiceNotify notify;
    std::string address = take_variable("NOTIFY_SOCKET");
    const std::optional<std::uint64_t> microseconds = number_of(take_variable("WATCHDOG_USEC"));
    const std::string pid = take_variable("WATCHDOG_PID");
    const bool is_path = address.starts_with('/') || address.starts_with('@');
    if (!is_path || address.size() >= sizeof(sockaddr_un::sun_path)) return notify;
    if (address.front() == '@') address.front() = '\0';
    notify.address_ = std::move(address);
    notify.socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    // The manager's queue is never full for long; one that hangs must not hang us.
    const timeval patience{1, 0};
    if (notify.socket_)
        (void)::setsockopt(notify.socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience,
                           sizeof patience);
    const bool is_for_us = pid.empty() || number_of(pid) == static_cast<std::uint64_t>(::getpid());
    if (microseconds && *microseconds > 0 && is_for_us)
        notify.watchdog_ =
            std::chrono::milliseconds(std::max<std::uint64_t>(*microseconds / 1000, 1));
    return notify;
}

void ServiceNotify::status(std::string_view text) const {
    std::string message = "STATUS=" + std::string(text);
    std::ranges::replace(message, '\n', ' ');
    send(message);
}

void ServiceNotify::send(std::string_view message) const {
    if (!socket_) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, address_.data(), address_.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
    (void)::sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&address), length);
}

}  // namespace banger
