#pragma once

#include <functional>
#include <memory>

#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace boost::asio {
class io_context;
}

namespace banger {

/// Notices at once, and without waking up in between, that a VMM has ended.
///
/// watch() may be called from any thread; `on_exit` runs on one worker thread of this object, one
/// call at a time. Destroy it after the io_context has stopped.
class MachineWatch {
public:
    using OnExit = std::function<void(const VmId&, const ProcessId&)>;
    /// Told on the I/O thread how many machines are being watched, whenever that changes.
    using OnCount = std::function<void(std::size_t)>;

    MachineWatch(boost::asio::io_context& io, OnExit on_exit, OnCount on_count);
    ~MachineWatch();

    void watch(const VmId& vm, const ProcessId& process, UniqueFd pidfd);

private:
    struct Inside;
    std::shared_ptr<Inside> inside_;
};

}  // namespace banger
