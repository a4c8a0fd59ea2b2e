#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// What a daemon writes into the file that it holds locked: who it is and where it listens. So that
/// a command finds it also where the two do not mean the same folder, and an error can name it.
struct DaemonMark {
    ProcessId process;
    std::string socket;
    friend bool operator==(const DaemonMark&, const DaemonMark&) = default;
};

/// Replaces what stood in the file, whose descriptor holds the lock.
Result<void> write_daemon_mark(int lock, const DaemonMark& mark);

/// Of a daemon that runs. Nothing when the file has none, or that of one which is gone.
std::optional<DaemonMark> read_daemon_mark(const std::string& lock_path);
std::optional<DaemonMark> parse_daemon_mark(std::string_view text);

}  // namespace banger
