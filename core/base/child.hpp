#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// Child processes as values: what to run is built and tested without running it.
namespace banger {

/// A program and everything it gets. It inherits nothing else: no descriptor, no environment
/// variable, no signal mask.
struct Command {
    std::string program;                 ///< absolute; find_program() resolves a name
    std::vector<std::string> arguments;  ///< without argv[0]
    std::map<std::string, std::string> environment;
    std::string working_folder = "/";
    /// Borrowed; -1 is /dev/null.
    int standard_input = -1;
    int standard_output = -1;
    int standard_error = -1;
    /// Borrowed descriptors that the child gets under the same numbers.
    std::vector<int> inherited;
    /// A session of its own: it does not get the terminal's signals, and its process group can be
    /// ended as a whole.
    bool new_session = true;
    /// Killed when the thread that spawned it ends (PR_SET_PDEATHSIG). Not for what must outlive
    /// us.
    bool dies_with_parent = false;
    /// No file of its may grow past this (RLIMIT_FSIZE): a write then fails with EFBIG instead of a
    /// signal. Nothing: no limit but the one we have ourselves.
    std::optional<ByteCount> file_size_limit;

    friend bool operator==(const Command&, const Command&) = default;
    /// For messages and logs: shell-quoted words.
    [[nodiscard]] std::string text() const;
};

/// How a child ended.
struct ExitStatus {
    int code = 0;  ///< when signal is 0
    int signal = 0;
    [[nodiscard]] bool is_success() const { return code == 0 && signal == 0; }
    /// "exit status 3", "killed by signal 9".
    [[nodiscard]] std::string text() const;
    friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

/// A running child. Destroying it while the child runs kills its process group and reaps it, unless
/// detach() was called.
class Child {
public:
    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) noexcept;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();

    [[nodiscard]] const ProcessId& id() const { return id_; }
    [[nodiscard]] const UniqueFd& pidfd() const { return pidfd_; }
    /// Waits until it ends. On Errc::cancelled the child still runs: call terminate() or wait
    /// again.
    Result<ExitStatus> wait(std::stop_token stop);
    /// SIGTERM to its process group, after `grace` SIGKILL; reaps it.
    ExitStatus terminate(std::chrono::milliseconds grace);
    /// Lets it live on its own: whoever watches its pidfd calls reap_if_child() when it ends.
    void detach();

private:
    friend Result<Child> spawn(const Command& command);
    Child(ProcessId id, UniqueFd pidfd, bool owns_group);
    ExitStatus reap();
    void signal_group(int signal) const;

    ProcessId id_;
    UniqueFd pidfd_;
    bool owns_group_ = false;
    bool is_running_ = false;
};

/// Starts it. An exec that fails is reported here, with Errc::not_found for a missing program.
Result<Child> spawn(const Command& command);

struct CommandOutput {
    ExitStatus status;
    std::string standard_output;
    std::string standard_error;
};

/// Runs to the end and keeps what it wrote (up to `limit` each; more is read and dropped). Errc::
/// cancelled and Errc::timed_out end its whole process group first. A bad exit status is not an
/// error.
Result<CommandOutput> run_command(Command command, std::chrono::milliseconds deadline,
                                  ByteCount limit, std::stop_token stop);

/// The absolute path of an executable named in PATH, or the name itself when it has a slash and is
/// executable; Errc::not_found otherwise.
Result<std::string> find_program(const std::string& name);

/// The few variables that ordinary programs need: PATH, HOME, LANG, TMPDIR, proxies; nothing that
/// could carry a secret or change a program's behaviour unseen.
std::map<std::string, std::string> minimal_environment();

/// One word for /bin/sh, quoted when it has to be.
std::string shell_quote(const std::string& word);

}  // namespace banger
