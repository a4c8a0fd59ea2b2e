#pragma once

#include <chrono>
#include <optional>
#include <stop_token>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// Processes that are not our children: found again by pid and start time, held by a pidfd.
namespace banger {

/// The identity of a process that runs now. Errc::not_found when there is none (a zombie counts as
/// gone: it runs nothing).
Result<ProcessId> process_id_of(std::int64_t pid);

/// A pidfd on exactly this process (pidfd_open(2)); Errc::not_found when it is gone or the number
/// belongs to another process by now. The descriptor becomes readable when the process ends.
Result<UniqueFd> open_pidfd(const ProcessId& process);

/// What a process takes of the host.
struct ProcessUsage {
    ByteCount resident;                ///< memory, shared pages included
    std::chrono::milliseconds cpu{0};  ///< of all its threads since it began
};
/// Errc::not_found when it is gone.
Result<ProcessUsage> usage_of(const ProcessId& process);

[[nodiscard]] bool is_running(const ProcessId& process);

/// Sends the signal through the pidfd. Errc::not_found when the process is gone.
Result<void> send_signal(const UniqueFd& pidfd, int signal);

/// Waits until the process ends: true; false when the deadline passed; Errc::cancelled.
Result<bool> wait_for_exit(const UniqueFd& pidfd, std::chrono::milliseconds deadline,
                           std::stop_token stop);

/// Takes an ended process off the process table when it happens to be our child (a VMM that this
/// very daemon started); otherwise does nothing. Call it after its pidfd became readable.
void reap_if_child(const UniqueFd& pidfd);

/// SIGKILL, then waits until it is gone. "Already gone" is success. Errc::timed_out after 10 s (a
/// process stuck in the kernel).
Result<void> kill_and_wait(const ProcessId& process);

/// poll(2) on one descriptor for `events` that a stop request ends at once, without a timer: >0 the
/// revents, 0 timed out, Errc::cancelled. A negative deadline waits for ever.
Result<int> poll_fd(int fd, short events, std::chrono::milliseconds deadline, std::stop_token stop);

}  // namespace banger
