#include "core/vms/agent_lines.hpp"

namespace banger {

using guest::AgentClient;

std::shared_ptr<AgentClient> AgentLines::find(const VmProcess& process) {
    std::shared_ptr<AgentClient> old;  // ends outside the lock
    const std::lock_guard lock(mutex_);
    const auto found = lines_.find(process.vm.str());
    if (found == lines_.end()) return nullptr;
    if (found->second.process == process.process && !found->second.agent->is_broken())
        return found->second.agent;
    old = std::move(found->second.agent);
    lines_.erase(found);
    return nullptr;
}

Result<std::shared_ptr<AgentClient>> AgentLines::get(VmBackend& backend, const VmProcess& process,
                                                     AgentClient::Deadline deadline,
                                                     const std::stop_token& stop) {
    if (std::shared_ptr<AgentClient> agent = find(process)) return agent;
    const KeyedLock::Guard turn =
        BANGER_TRY(opening_.acquire_until(process.vm.str(), deadline, stop));
    // Whoever had the turn before may have opened it.
    if (std::shared_ptr<AgentClient> agent = find(process)) return agent;
    UniqueFd stream = BANGER_TRY(backend.connect_agent(process));
    const auto agent = std::make_shared<AgentClient>(std::move(stream));
    const std::lock_guard lock(mutex_);
    lines_[process.vm.str()] = {process.process, agent};
    return agent;
}

bool AgentLines::has_sessions(const VmProcess& process) {
    const std::shared_ptr<AgentClient> agent = find(process);
    return agent && agent->sessions() > 0;
}

void AgentLines::drop(const VmId& vm) {
    std::shared_ptr<AgentClient> old;
    const std::lock_guard lock(mutex_);
    const auto found = lines_.find(vm.str());
    if (found == lines_.end()) return;
    old = std::move(found->second.agent);
    lines_.erase(found);
}

}  // namespace banger
