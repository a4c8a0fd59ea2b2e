#include "cli/session.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace banger::cli {

namespace {

/// More at once would not be faster: starting and stopping is the host's work.
constexpr std::size_t most_at_once = 16;

/// Results that come in any order and are taken in the order of the names.
class InOrder {
public:
    explicit InOrder(std::size_t count) : results_(count) {}
    void put(std::size_t index, Result<std::string> result) {
        const std::lock_guard lock(mutex_);
        results_[index].emplace(std::move(result));
        came_.notify_all();
    }
    Result<std::string> take(std::size_t index) {
        std::unique_lock lock(mutex_);
        came_.wait(lock, [&] { return results_[index].has_value(); });
        return std::move(*results_[index]);
    }

private:
    std::mutex mutex_;
    std::condition_variable came_;
    std::vector<std::optional<Result<std::string>>> results_;
};

/// Threads that take one index after the other; the end of this waits for theirs.
class Workers {
public:
    Workers(std::size_t count, Session& session, IndexedWork work)
        : count_(count), work_(std::move(work)) {
        for (std::size_t i = 0; i < std::min(count, most_at_once); ++i)
            threads_.emplace_back([this, daemon = session.daemon.another()]() mutable {
                for (std::size_t index = 0; (index = next_++) < count_;)
                    work_(daemon, index);
            });
    }

private:
    std::size_t count_;
    IndexedWork work_;
    std::atomic<std::size_t> next_ = 0;
    std::vector<std::jthread> threads_;
};

}  // namespace

Result<client::DaemonPlace> daemon_place(const Context& context) {
    const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    return client::find_daemon(environment, context.program);
}

Result<Session> open_session(Context& context) {
    PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    Paths user_paths = BANGER_TRY(find_paths(RunMode::user, environment));
    client::DaemonPlace place = BANGER_TRY(client::find_daemon(environment, context.program));
    const auto warn = [&terminal = context.terminal](const std::string& text) {
        terminal.note("note: " + text + "\n");
    };
    return Session{std::move(environment), std::move(user_paths),
                   client::Daemon(std::move(place), warn)};
}

Option format_option() {
    return {"--format", "FORMAT", "how to print it: table or json", "table", {"table", "json"}};
}

Option quiet_option(const std::string& help) { return {"-q,--quiet", "", help, "", {}}; }

bool wants_json(const Arguments& arguments) { return arguments.value("format") == "json"; }

Result<int> for_each(const std::vector<std::string>& names, Session& session, Context& context,
                     const Work& work) {
    // One start of the daemon and one message when it fails.
    BANGER_TRY(session.daemon.connect());
    InOrder results(names.size());
    Workers workers(names.size(), session, [&](client::Daemon& daemon, std::size_t index) {
        results.put(index, work(daemon, names[index]));
    });

    int status = 0;
    for (std::size_t index = 0; index < names.size(); ++index) {
        const Result<std::string> result = results.take(index);
        if (result) {
            context.terminal.out(*result + "\n");
        } else {
            context.terminal.error(result.error());
            status = exit_failed;
        }
    }
    return status;
}

Result<void> run_each(std::size_t count, Session& session, const IndexedWork& work) {
    BANGER_TRY(session.daemon.connect());
    const Workers workers(count, session, work);
    return ok();
}

Result<std::vector<std::string>> named_or_running(const Arguments& arguments, Session& session) {
    if (!arguments.words.empty()) return arguments.words;
    const protocol::ListVmsReply all = BANGER_TRY(
        session.daemon.call<protocol::ListVmsReply>("io.banger.Vm.List", protocol::ListVms{}));
    std::vector<std::string> names;
    for (const protocol::Vm& vm : all.vms)
        if (vm.state == "running" || vm.state == "paused") names.push_back(vm.name);
    return names;
}

int report_failure(const Error& error, Context& context, Interrupts& interrupts,
                   std::string_view cancelled, int status) {
    if (error.code == Errc::cancelled && interrupts.take() != 0) {
        context.terminal.note("banger: " + std::string(cancelled) + "\n");
        return interrupts.exit_status();
    }
    context.terminal.error(error);
    return status;
}

}  // namespace banger::cli
