#include "daemons/bangerd/machine_watch.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

namespace banger {

namespace asio = boost::asio;

struct MachineWatch::Inside {
    Inside(asio::io_context& context, OnExit exit, OnCount counted)
        : io(context), on_exit(std::move(exit)), on_count(std::move(counted)) {}
    asio::io_context& io;
    OnExit on_exit;
    OnCount on_count;
    std::size_t count = 0;  // of the I/O thread
    asio::thread_pool worker{1};

    void changed(std::ptrdiff_t by) {
        count += static_cast<std::size_t>(by);
        on_count(count);
    }
};

MachineWatch::MachineWatch(asio::io_context& io, OnExit on_exit, OnCount on_count)
    : inside_(std::make_shared<Inside>(io, std::move(on_exit), std::move(on_count))) {}

MachineWatch::~MachineWatch() { inside_->worker.join(); }

void MachineWatch::watch(const VmId& vm, const ProcessId& process, UniqueFd pidfd) {
    asio::post(inside_->io, [inside = inside_, vm, process, fd = pidfd.release()] {
        const std::shared_ptr<asio::posix::stream_descriptor> descriptor =
            std::make_shared<asio::posix::stream_descriptor>(inside->io, fd);
        inside->changed(+1);
        descriptor->async_wait(
            asio::posix::stream_descriptor::wait_read,
            [inside, vm, process, descriptor](const boost::system::error_code& error) {
                if (error) return;  // the daemon is leaving; the machine is not
                asio::post(inside->worker, [inside, vm, process] {
                    inside->on_exit(vm, process);
                    asio::post(inside->io, [inside] { inside->changed(-1); });
                });
            });
    });
}

}  // namespace banger
