#include "cli/workspace.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "cli/guest_session.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/base/blocked_signals.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"

namespace banger::cli {

using namespace std::chrono_literals;
using protocol::Vm;
using workspace::CopyPlan;
using workspace::CopyRequest;

namespace {

Result<std::string> absolute_path(const std::string& path) {
    char* const real = ::realpath(path.c_str(), nullptr);
    if (real == nullptr) {
        const int problem = errno;
        if (problem == ENOENT)
            return Error(Errc::invalid_argument, "there is no folder " + printable(path),
                         "Give a folder of a git repository. Put `--` before a command.");
        return Error::from_errno(problem, "looking at " + printable(path));
    }
    std::string out = real;
    std::free(real);
    return out;
}

protocol::Workspace record_of(const CopyPlan& plan) {
    return {.guest_path = plan.request.guest_path,
            .source = plan.repository.root,
            .head = plan.repository.head,
            .base = plan.base,
            .branch = plan.request.branch.value_or(""),
            .mode = workspace::to_string(plan.request.mode),
            .has_untracked = plan.request.with_untracked,
            .is_readonly = plan.request.is_readonly,
            .fingerprint = plan.fingerprint()};
}

/// The file that ssh complains in, gone with the copy.
class SshLog {
public:
    static Result<SshLog> make(const std::string& run_folder) {
        BANGER_TRY(ensure_private_folder(run_folder));
        std::string path = run_folder + "/ssh-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) return Error::from_errno(errno, "making " + path);
        return SshLog(path);
    }
    SshLog(SshLog&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
    SshLog& operator=(SshLog&&) = delete;
    SshLog(const SshLog&) = delete;
    SshLog& operator=(const SshLog&) = delete;
    ~SshLog() {
        if (!folder_.empty()) static_cast<void>(remove_tree(folder_));
    }
    [[nodiscard]] const std::string& folder() const { return folder_; }
    [[nodiscard]] std::string text() const {
        std::string text = read_file(folder_ + "/log", ByteCount::kib(64)).value_or("");
        while (text.ends_with('\n') || text.ends_with('\r'))
            text.pop_back();
        return printable(text.substr(text.rfind('\n') + 1));
    }

private:
    explicit SshLog(std::string folder) : folder_(std::move(folder)) {}
    std::string folder_;
};

std::string bootstrap_script(const CopyPlan& plan, bool is_awaited) {
    const std::string& root = plan.repository.root;
    std::string name = root.substr(root.rfind('/') + 1);
    for (char& c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-' && c != '_')
            c = '-';
    const std::string log = "/root/.cache/banger/vm-run-tooling-" + name + ".log";
    const std::string install =
        "if command -v mise; then mise trust && mise install --yes; else "
        "echo 'mise is not in this image: the tools that the repository asks for are not "
        "installed'; fi";
    std::string script = "cd " + shell_quote(plan.request.guest_path) +
                         " || exit 1\nmkdir -p /root/.cache/banger || exit 1\n";
    script += is_awaited ? "command -v mise >/dev/null 2>&1 || echo missing\n(" + install +
                               ") </dev/null >" + log + " 2>&1"
                         : "(trap '' HUP; " + install + ") </dev/null >" + log + " 2>&1 &";
    return script + "\n";
}

}  // namespace

StopOnInterrupt::StopOnInterrupt(const Interrupts& interrupts)
    : end_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const BlockedSignals blocked;
    watcher_ = std::jthread([this, fd = interrupts.fd()] {
        std::array<pollfd, 2> waits = {{{fd, POLLIN, 0}, {end_.get(), POLLIN, 0}}};
        while (::poll(waits.data(), waits.size(), -1) < 0 && errno == EINTR) {
        }
        if (waits[0].revents != 0) source_.request_stop();
    });
}

StopOnInterrupt::~StopOnInterrupt() {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(end_.get(), &one, sizeof one));
    watcher_.join();
}

std::vector<Option> copy_options() {
    return {
        {"--branch", "NAME", "branch to make in the guest", "the host's", {}},
        {"--from", "REV", "commit that --branch begins with", "HEAD", {}},
        {"--include-untracked", "", "copy untracked files too; ignored ones never", "", {}},
        {"--dry-run", "", "list the files, and make nothing", "", {}},
    };
}

Option forward_agent_option() {
    return {"--forward-agent", "", "let the guest use your ssh agent while this lasts", "", {}};
}

Result<CopyWish> copy_wish(const Arguments& arguments, const std::string& path,
                           std::stop_token stop) {
    CopyRequest request;
    request.branch = arguments.value("branch");
    request.from = arguments.value("from");
    if (request.from && !request.branch)
        return Error(Errc::invalid_argument, "--from needs --branch",
                     "Say what the branch that begins there is to be called: --branch NAME");
    request.with_untracked = arguments.has("include-untracked");
    request.is_readonly = arguments.has("readonly");
    request.is_forced = arguments.has("force");
    if (const auto place = arguments.value("guest-path")) request.guest_path = *place;
    if (const auto mode = arguments.value("mode"))
        request.mode = workspace::parse_mode(*mode).value_or(workspace::Mode::overlay);
    request.source = BANGER_TRY(absolute_path(path));
    workspace::HostGit git = BANGER_TRY(workspace::HostGit::find());
    CopyPlan plan = BANGER_TRY(workspace::plan_copy(git, request, stop));
    if (printable(plan.repository.root) != plan.repository.root)
        return Error(Errc::unsupported,
                     "the path of the repository has characters that cannot be recorded: " +
                         printable(plan.repository.root),
                     "Move it to a folder with a plain name.");
    return CopyWish{std::move(git), std::move(plan)};
}

Result<CopyWish> copy_wish_again(const protocol::Workspace& workspace, std::stop_token stop) {
    CopyRequest request;
    request.source = workspace.source;
    request.guest_path = workspace.guest_path;
    if (!workspace.branch.empty()) request.branch = workspace.branch;
    if (workspace.base != workspace.head) request.from = workspace.base;
    request.with_untracked = workspace.has_untracked;
    request.is_readonly = workspace.is_readonly;
    request.mode = workspace::parse_mode(workspace.mode).value_or(workspace::Mode::overlay);
    workspace::HostGit git = BANGER_TRY(workspace::HostGit::find());
    CopyPlan plan = BANGER_TRY(workspace::plan_copy(git, request, stop));
    return CopyWish{std::move(git), std::move(plan)};
}

void say_left_out(const CopyWish& wish, Context& context, bool is_quiet) {
    const std::size_t count = wish.plan.left_out;
    if (count == 0 || is_quiet) return;
    context.terminal.note(counted(count, "untracked file") + (count == 1 ? " was" : " were") +
                          " left out; --include-untracked copies them\n");
}

int print_files(const CopyWish& wish, Context& context) {
    Terminal& terminal = context.terminal;
    std::string text;
    for (const std::string& path : wish.plan.files)
        text += (terminal.out_is_terminal() ? printable(path) : path) + "\n";
    terminal.out(text);
    terminal.note(counted(wish.plan.files.size(), "file") + " of " + wish.plan.repository.root +
                  " would be copied to " + wish.plan.request.guest_path + "\n");
    return 0;
}

Result<void> copy_workspace(Session& session, Context& context, const Vm& vm, const CopyWish& wish,
                            bool is_quiet, Interrupts& interrupts) {
    const SshLog log = BANGER_TRY(SshLog::make(session.user_paths.run));
    const ScriptCommand script_command =
        BANGER_TRY(connect_scripts(session, context, vm, log.folder(), interrupts));
    const StopOnInterrupt stop(interrupts);
    const std::string& target = wish.plan.request.guest_path;
    const auto record = [&](std::optional<protocol::Workspace> workspace) {
        return session.daemon.call<protocol::VmReply>(
            "io.banger.Vm.SetWorkspace", protocol::SetWorkspace{vm.id, std::move(workspace)},
            {.timeout = 30s});
    };
    ProgressView progress(context.terminal, is_quiet);
    Result<workspace::CopyResult> copied = workspace::copy_in(
        wish.git, wish.plan, script_command, session.user_paths.cache + "/workspaces",
        [&](const Progress& now) { progress.show(now); }, stop.token());
    progress.finish();
    if (!copied) {
        Error error = std::move(copied).error().context("copying " + wish.plan.repository.root +
                                                        " to " + target + " of " + vm.name);
        if (!log.text().empty() && error.code != Errc::cancelled)
            error.message += ": " + log.text();
        return error;
    }
    BANGER_TRY(record(record_of(wish.plan)));
    if (is_quiet) return ok();
    Terminal& terminal = context.terminal;
    for (const std::string& note : copied->notes)
        terminal.note("note: " + printable(note) + "\n");
    terminal.note(wish.plan.repository.root + " is in " + target + " of " + vm.name + ": " +
                  counted(copied->files, "file") + "\n");
    return ok();
}

Result<void> bootstrap_tools(Session& session, Context& context, const Vm& vm, const CopyWish& wish,
                             bool is_awaited, Interrupts& interrupts) {
    const SshLog log = BANGER_TRY(SshLog::make(session.user_paths.run));
    const ScriptCommand script_command =
        BANGER_TRY(connect_scripts(session, context, vm, log.folder(), interrupts));
    const StopOnInterrupt stop(interrupts);
    const Result<CommandOutput> output =
        run_command(script_command(bootstrap_script(wish.plan, is_awaited)),
                    is_awaited ? 30min : 1min, ByteCount::kib(64), stop.token());
    if (!output && output.error().code == Errc::cancelled) return output.error();
    const bool is_missing = output && output->standard_output.starts_with("missing");
    const bool has_failed = !output || !output->status.is_success();
    if (is_missing || has_failed)
        context.terminal.note(
            std::string("note: ") +
            (is_missing ? "mise is not in this image, so that the tools of the repository are "
                          "not installed"
                        : "the tools of the repository could not be installed; see "
                          "/root/.cache/banger in the guest") +
            "\n");
    return ok();
}

Result<std::string> drift_of(const protocol::Workspace& workspace, std::stop_token stop) {
    const workspace::HostGit git = BANGER_TRY(workspace::HostGit::find());
    const workspace::Repository repository =
        BANGER_TRY(workspace::open_repository(git, workspace.source, stop));
    if (repository.head != workspace.head)
        return "HEAD of " + workspace.source + " was " + workspace.head.substr(0, 10) +
               " when it was copied, and is " + repository.head.substr(0, 10) + " now";
    const workspace::Listing listing =
        BANGER_TRY(workspace::status_of(git, repository, workspace.has_untracked, stop));
    const std::string now = workspace.has_untracked
                                ? listing.fingerprint + "-" + listing.untracked_fingerprint
                                : listing.fingerprint;
    if (now == workspace.fingerprint) return std::string();
    return "files in " + workspace.source + " have changed since it was copied";
}

}  // namespace banger::cli
