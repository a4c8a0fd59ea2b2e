#include "daemons/bangerd/socket_watch.hpp"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"

namespace banger {

namespace asio = boost::asio;

struct SocketWatch::Inside : std::enable_shared_from_this<Inside> {
    Inside(asio::io_context& io, int fd, std::string name, struct stat seen,
           std::function<void()> gone)
        : events(io, fd), path(std::move(name)), status(seen), on_gone(std::move(gone)) {}
    asio::posix::stream_descriptor events;
    std::string path;
    struct stat status;
    std::function<void()> on_gone;

    [[nodiscard]] bool is_there() const {
        struct stat now {};
        return ::lstat(path.c_str(), &now) == 0 && now.st_dev == status.st_dev &&
               now.st_ino == status.st_ino;
    }
    void wait() {
        events.async_wait(asio::posix::stream_descriptor::wait_read,
                          [self = weak_from_this()](const boost::system::error_code& error) {
                              const std::shared_ptr<Inside> inside = self.lock();
                              if (!error && inside) inside->look();
                          });
    }
    void look() {
        char buffer[4096];
        while (::read(events.native_handle(), buffer, sizeof buffer) > 0) {
        }
        if (is_there()) return wait();
        on_gone();
    }
};

Result<std::unique_ptr<SocketWatch>> SocketWatch::make(asio::io_context& io,
                                                       const std::string& path,
                                                       std::function<void()> on_gone) {
    UniqueFd events(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!events) return Error::from_errno(errno, "inotify_init1");
    if (::inotify_add_watch(events.get(), parent_path(path).c_str(),
                            IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF |
                                IN_MOVE_SELF | IN_ONLYDIR) < 0)
        return Error::from_errno(errno, "watching " + parent_path(path));
    // After the watch began: what happened before is seen here, what comes is told.
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return Error::from_errno(errno, "looking at " + path);
    std::shared_ptr<Inside> inside =
        std::make_shared<Inside>(io, events.release(), path, status, std::move(on_gone));
    inside->wait();
    return std::unique_ptr<SocketWatch>(new SocketWatch(std::move(inside)));
}

SocketWatch::SocketWatch(std::shared_ptr<Inside> inside) : inside_(std::move(inside)) {}

SocketWatch::~SocketWatch() = default;

bool SocketWatch::is_there() const { return inside_->is_there(); }

}  // namespace banger
