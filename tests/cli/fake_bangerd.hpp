#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "banger/result.hpp"
#include "core/protocol/exec.hpp"
#include "core/protocol/image.hpp"
#include "core/protocol/system.hpp"
#include "core/protocol/vm.hpp"

namespace banger::cli {

/// One machine, with every field set.
protocol::Vm sample_vm(const std::string& name);

/// A bangerd that keeps its machines in a vector. Serves the real interfaces on a socket, from a
/// thread of its own. What it does can be changed from the test's thread before a command runs.
class FakeBangerd {
public:
    explicit FakeBangerd(const std::string& socket);
    ~FakeBangerd();
    FakeBangerd(const FakeBangerd&) = delete;
    FakeBangerd& operator=(const FakeBangerd&) = delete;

    void add(protocol::Vm vm);
    [[nodiscard]] std::vector<std::string> names() const;
    /// "Create sandbox", "Delete 0123456789ab force", in the order in which they began.
    [[nodiscard]] std::vector<std::string> calls() const;
    /// Blocks until a call that begins so was made.
    void wait_for_call(const std::string& beginning) { wait_for_calls(beginning, 1); }
    void wait_for_calls(const std::string& beginning, int count);
    /// A call of this method blocks until release() or until its caller goes, which ends it with
    /// Errc::cancelled.
    void hold(const std::string& method);
    /// When the caller of a held call goes, it succeeds all the same, as one that was just done.
    void ignore_cancellation();
    void release();
    /// How many held calls ended because their caller went.
    [[nodiscard]] int cancelled() const;
    void wait_for_cancelled(int count);
    /// A call of this method on this machine fails.
    void fail(const std::string& method, const std::string& vm, Error error);
    void set_version(std::string number, std::string commit);
    void set_console(std::string bytes);
    /// Guests have no sshd from now on; their commands run on this machine, through the real agent.
    /// Without `has_shell` a shell is refused.
    void take_sshd_away(bool has_shell = true);
    /// The guest's agent dies.
    void kill_guest();
    /// What the last Exec asked for.
    [[nodiscard]] protocol::ExecInVm last_exec() const;
    /// Called on the server's thread before a call is answered; gets what calls() would. Exit
    /// succeeds once there is one, and is refused as busy before.
    void on_call(std::function<void(const std::string&)> hook);

private:
    class Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace banger::cli
