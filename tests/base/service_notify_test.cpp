#include "core/base/service_notify.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

/// The service manager's end.
class NotifyServer {
public:
    explicit NotifyServer(const std::string& path)
        : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            std::abort();
    }
    std::string receive() {
        char buffer[512];
        const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
        return count < 0 ? "" : std::string(buffer, static_cast<std::size_t>(count));
    }

private:
    UniqueFd socket_;
};

TEST(ServiceNotifyTest, SaysWhatTheProtocolHas) {
    TempFolder folder;
    NotifyServer manager(folder / "notify");
    ::setenv("NOTIFY_SOCKET", (folder / "notify").c_str(), 1);
    ::setenv("WATCHDOG_USEC", "3000000", 1);
    ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
    const ServiceNotify notify = ServiceNotify::from_environment();
    EXPECT_EQ(notify.watchdog(), std::chrono::milliseconds(3000));
    notify.ready();
    EXPECT_EQ(manager.receive(), "READY=1");
    notify.status("3 machines run\nMAINPID=1");
    EXPECT_EQ(manager.receive(), "STATUS=3 machines run MAINPID=1");
    notify.alive();
    EXPECT_EQ(manager.receive(), "WATCHDOG=1");
    notify.stopping();
    EXPECT_EQ(manager.receive(), "STOPPING=1");
    // Children must not speak in our name.
    EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);
    EXPECT_EQ(std::getenv("WATCHDOG_USEC"), nullptr);
}

TEST(ServiceNotifyTest, TalksToNobodyWhereNobodyAsked) {
    ::unsetenv("NOTIFY_SOCKET");
    ::setenv("WATCHDOG_USEC", "3000000", 1);
    const ServiceNotify notify = ServiceNotify::from_environment();
    EXPECT_FALSE(notify.watchdog());
    notify.ready();
}

TEST(ServiceNotifyTest, AWatchdogOfAnotherProcessIsNotOurs) {
    ::setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
    ::setenv("WATCHDOG_USEC", "3000000", 1);
    ::setenv("WATCHDOG_PID", "1", 1);
    EXPECT_FALSE(ServiceNotify::from_environment().watchdog());
}

TEST(ServiceNotifyTest, NonsenseInTheEnvironmentIsIgnored) {
    for (const char* address : {"relative", "", "vsock:2:1"}) {
        ::setenv("NOTIFY_SOCKET", address, 1);
        ::setenv("WATCHDOG_USEC", "-1", 1);
        const ServiceNotify notify = ServiceNotify::from_environment();
        EXPECT_FALSE(notify.watchdog());
        notify.ready();
    }
    ::setenv("NOTIFY_SOCKET", ("/" + std::string(200, 'x')).c_str(), 1);
    ServiceNotify::from_environment().ready();
}

}  // namespace
}  // namespace banger
