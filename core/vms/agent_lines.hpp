#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "banger/vm_backend.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/guest/agent_client.hpp"

namespace banger {

/// The one stream to each running guest's agent, shared by everybody who talks to that guest: a
/// serial port has one end. Opened when first needed, kept until the machine ends or the stream
/// breaks. Safe from any thread.
class AgentLines {
public:
    /// The line to this process' guest. Errc::busy when somebody is still opening it at `deadline`,
    /// or the back end's channel is taken; Errc::cancelled.
    Result<std::shared_ptr<guest::AgentClient>> get(VmBackend& backend, const VmProcess& process,
                                                    guest::AgentClient::Deadline deadline,
                                                    const std::stop_token& stop);
    /// Whether a command runs over the line to this process' guest. Opens none.
    bool has_sessions(const VmProcess& process);
    /// The machine has ended.
    void drop(const VmId& vm);

private:
    struct Line {
        ProcessId process;
        std::shared_ptr<guest::AgentClient> agent;
    };
    std::shared_ptr<guest::AgentClient> find(const VmProcess& process);

    KeyedLock opening_;
    std::mutex mutex_;
    std::map<std::string, Line> lines_;  ///< by machine
};

}  // namespace banger
