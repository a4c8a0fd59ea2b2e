#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// Files that a guest may write without end, kept small.
///
/// A VMM appends to a plain file and knows no limit, and nobody sits between the two, because the
/// machine outlives the daemon. So the old part of the file is given back to the file system behind
/// the VMM's back (fallocate(2), FALLOC_FL_PUNCH_HOLE): the length goes on growing, the blocks do
/// not. Who reads from the start jumps over the hole (lseek(2), SEEK_DATA); open_bounded() does.
///
/// What holds: while a daemon lives, the file takes at most its limit plus what the guest writes
/// between two looks of the watcher. While none lives, nobody trims: then RLIMIT_FSIZE of the VMM,
/// which its back end chooses, is the cap, and the next daemon trims first.
namespace banger {

/// Opens for reading, at the oldest line that is kept. Errc::not_found when there is no such file.
Result<UniqueFd> open_bounded(const std::string& path);

/// Gives the blocks in front of the last `limit` bytes back. On a file system that cannot punch
/// holes, a file over the limit is emptied. "No such file" is success.
Result<void> trim_to(const std::string& path, ByteCount limit);

/// As trim_to(), but for a file that nobody has open: what is left starts at offset 0 again.
Result<void> compact_to(const std::string& path, ByteCount limit);

/// The last `limit` bytes as text, from a line's start; empty when the file cannot be read.
std::string tail_of(const std::string& path, std::size_t limit);

/// Trims the files of running machines from time to time, on a thread of its own that exists only
/// while there is one to watch. It looks each 15 s while a file grows and ever less often (up to
/// 8 min) while none does. Every method is safe from any thread and does not block.
class ConsoleWatcher {
public:
    ConsoleWatcher() = default;
    ~ConsoleWatcher();
    ConsoleWatcher(const ConsoleWatcher&) = delete;
    ConsoleWatcher& operator=(const ConsoleWatcher&) = delete;
    void watch(const std::string& path, ByteCount limit);
    void forget(const std::string& path);

private:
    struct Watched {
        ByteCount limit;
        std::int64_t length = 0;  ///< at the last look
    };
    void run();
    bool look();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, Watched> files_;
    bool is_ending_ = false;
    std::thread thread_;
};

}  // namespace banger
