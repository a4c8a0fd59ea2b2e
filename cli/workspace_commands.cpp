#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/commands.hpp"
#include "cli/guest_session.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/workspace.hpp"
#include "core/base/file.hpp"
#include "core/workspace/export_patch.hpp"

namespace banger::cli {

namespace {

using protocol::Vm;

Result<Vm> find_vm(Session& session, const std::string& name, const Interrupts& interrupts) {
    return BANGER_TRY(session.daemon.call<protocol::VmReply>("io.banger.Vm.Show",
                                                             protocol::NamedVm{name},
                                                             {.stop_fd = interrupts.fd()}))
        .vm;
}

Error nothing_prepared(const Vm& vm) {
    return {Errc::wrong_state, vm.name + " has no workspace",
            "Copy a repository in: banger vm workspace prepare " + vm.name + " PATH"};
}

// ---- prepare ----

Result<void> prepare_one(const Arguments& arguments, Context& context, Interrupts& interrupts,
                         const CopyWish& wish) {
    Session session = BANGER_TRY(open_session(context));
    const Vm vm = BANGER_TRY(find_vm(session, arguments.words[0], interrupts));
    return copy_workspace(session, context, vm, wish, arguments.has("quiet"), interrupts);
}

/// The repository to copy: as named, else the one that was copied before, else where we are.
Result<std::string> source_of(const Arguments& arguments, Context& context,
                              const Interrupts& interrupts) {
    if (arguments.words.size() > 1) return arguments.words[1];
    Session session = BANGER_TRY(open_session(context));
    const Vm vm = BANGER_TRY(find_vm(session, arguments.words[0], interrupts));
    return vm.workspace ? vm.workspace->source : std::string(".");
}

Result<int> prepare(const Arguments& arguments, Context& context) {
    Interrupts interrupts;
    const StopOnInterrupt stop(interrupts);
    const Result<std::string> source = source_of(arguments, context, interrupts);
    if (!source)
        return report_failure(source.error(), context, interrupts, "cancelled", exit_failed);
    const Result<CopyWish> wish = copy_wish(arguments, *source, stop.token());
    if (!wish && wish.error().code == Errc::invalid_argument)
        return usage_error(context, wish.error());
    if (!wish) return report_failure(wish.error(), context, interrupts, "cancelled", exit_failed);
    say_left_out(*wish, context, arguments.has("quiet"));
    if (arguments.has("dry-run")) return print_files(*wish, context);
    const Result<void> done = prepare_one(arguments, context, interrupts, *wish);
    if (!done) return report_failure(done.error(), context, interrupts, "cancelled", exit_failed);
    return 0;
}

// ---- export ----

/// A file beside the one that is wanted, renamed when it is whole.
class PatchFile {
public:
    static Result<PatchFile> make(const std::string& path) {
        std::string name = path + ".XXXXXX";
        UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
        if (!fd) return Error::from_errno(errno, "writing " + printable(path));
        const mode_t mask = ::umask(0);
        ::umask(mask);
        ::fchmod(fd.get(), 0666 & ~mask);
        return PatchFile(std::move(name), path, std::move(fd));
    }
    PatchFile(PatchFile&& other) noexcept
        : name_(std::exchange(other.name_, {})),
          path_(std::move(other.path_)),
          fd_(std::move(other.fd_)) {}
    PatchFile& operator=(PatchFile&&) = delete;
    PatchFile(const PatchFile&) = delete;
    PatchFile& operator=(const PatchFile&) = delete;
    ~PatchFile() {
        if (!name_.empty()) ::unlink(name_.c_str());
    }
    Result<void> write(std::string_view bytes) { return write_all(fd_.get(), bytes); }
    Result<void> keep() {
        if (::fsync(fd_.get()) != 0 || ::rename(name_.c_str(), path_.c_str()) != 0)
            return Error::from_errno(errno, "writing " + printable(path_));
        name_.clear();
        return ok();
    }

private:
    PatchFile(std::string name, std::string path, UniqueFd fd)
        : name_(std::move(name)), path_(std::move(path)), fd_(std::move(fd)) {}
    std::string name_;
    std::string path_;
    UniqueFd fd_;
};

Result<workspace::ExportRequest> export_request(const Arguments& arguments, const Vm& vm) {
    if (!vm.workspace) return nothing_prepared(vm);
    workspace::ExportRequest request;
    request.guest_path = vm.workspace->guest_path;
    request.base = arguments.value("base-commit").value_or(vm.workspace->base);
    return request;
}

bool is_commit(const std::string& text) {
    return text.size() >= 7 && text.size() <= 64 &&
           text.find_first_not_of("0123456789abcdef") == text.npos;
}

/// The machine runs for this export alone: stopped again whatever came of it, also when a signal
/// ended it.
class StartedForThis {
public:
    static Result<StartedForThis> start(Session& session, Context& context, const Vm& vm,
                                        bool is_quiet, const Interrupts& interrupts) {
        ProgressView progress(context.terminal, is_quiet);
        const protocol::CreateVmReply started =
            BANGER_TRY(session.daemon.call<protocol::CreateVmReply>(
                "io.banger.Vm.Start", protocol::NamedVm{vm.id},
                {.on_progress = [&](const Progress& now) { progress.show(now); },
                 .stop_fd = interrupts.fd()}));
        progress.finish();
        if (!started.vm) return Error(Errc::corrupt, "bangerd did not say what it started");
        return StartedForThis(session, *started.vm);
    }
    [[nodiscard]] const Vm& vm() const { return vm_; }
    Result<void> stop() {
        drop_kept_connections(session_->user_paths.run, vm_.id);
        return to_void(session_->daemon.call<protocol::StopVmReply>("io.banger.Vm.Stop",
                                                                    protocol::NamedVm{vm_.id}));
    }

private:
    StartedForThis(Session& session, Vm vm) : session_(&session), vm_(std::move(vm)) {}
    template <class T>
    static Result<void> to_void(const Result<T>& result) {
        return result ? ok() : Result<void>(result.error());
    }
    Session* session_;
    Vm vm_;
};

Result<void> export_from_running(const Arguments& arguments, Context& context, Session& session,
                                 const Vm& vm, Interrupts& interrupts) {
    const workspace::ExportRequest request = BANGER_TRY(export_request(arguments, vm));
    const ScriptCommand script_command = BANGER_TRY(connect_scripts(
        session, context, vm, session.user_paths.run /* ssh's complaints, for whoever looks */,
        interrupts));
    const StopOnInterrupt stop(interrupts);
    const std::optional<std::string> path = arguments.value("output");
    std::optional<PatchFile> file;
    if (path) file.emplace(BANGER_TRY(PatchFile::make(*path)));
    Terminal& terminal = context.terminal;
    TerminalFilter filter;
    const auto take = [&](std::string_view bytes) -> Result<void> {
        if (file) return file->write(bytes);
        // Foreign text stays away from a terminal's commands.
        terminal.out(terminal.out_is_terminal() ? filter(bytes) : std::string(bytes));
        return terminal.check_output();
    };
    const Result<std::uint64_t> size =
        workspace::export_patch(request, script_command, take, stop.token());
    if (!size)
        return Error(size.error()).context("exporting " + request.guest_path + " of " + vm.name);
    if (file) BANGER_TRY(file->keep());
    if (*size == 0) {
        terminal.note("Nothing differs from " + request.base.substr(0, 10) + " in " +
                      request.guest_path + " of " + vm.name + ": the patch is empty\n");
    } else if (path && !arguments.has("quiet")) {
        terminal.note(printable(*path) + ": " + size_text(*size) + ". Apply it to a checkout of " +
                      request.base.substr(0, 10) + ": git apply " + printable(*path) + "\n");
    }
    return ok();
}

Result<void> export_from(const Arguments& arguments, Context& context, Interrupts& interrupts) {
    Session session = BANGER_TRY(open_session(context));
    const Vm vm = BANGER_TRY(find_vm(session, arguments.words[0], interrupts));
    if (!vm.workspace) return nothing_prepared(vm);
    if (vm.state != "stopped")
        return export_from_running(arguments, context, session, vm, interrupts);
    if (!arguments.has("start"))
        return Error(Errc::wrong_state, vm.name + " is stopped",
                     "To start it for this and stop it again: banger vm workspace export " +
                         vm.name + " --start");
    const bool is_quiet = arguments.has("quiet");
    StartedForThis started =
        BANGER_TRY(StartedForThis::start(session, context, vm, is_quiet, interrupts));
    Result<void> done = export_from_running(arguments, context, session, started.vm(), interrupts);
    Result<void> stopped = started.stop().context("stopping " + vm.name + " again");
    if (stopped && !is_quiet) context.terminal.note(vm.name + " is stopped again\n");
    if (done) return stopped;
    if (!stopped) context.terminal.error(stopped.error());
    return done;
}

Result<int> export_workspace(const Arguments& arguments, Context& context) {
    const std::optional<std::string> base = arguments.value("base-commit");
    if (base && !is_commit(*base))
        return usage_error(context, {Errc::invalid_argument,
                                     "--base-commit cannot be \"" + printable(*base) + "\"",
                                     "Give the id of a commit, or at least 7 digits of it."});
    Interrupts interrupts;
    const Result<void> done = export_from(arguments, context, interrupts);
    if (!done) return report_failure(done.error(), context, interrupts, "cancelled", exit_failed);
    return 0;
}

// ---- exec ----

/// Before a command runs in a workspace: is that still what the host has?
Result<void> look_for_drift(const Arguments& arguments, Session& session, Context& context,
                            const Vm& vm, Interrupts& interrupts) {
    const StopOnInterrupt stop(interrupts);
    const Result<std::string> drift = drift_of(*vm.workspace, stop.token());
    if (!drift && drift.error().code == Errc::cancelled) return drift.error();
    const bool is_wanted = arguments.has("auto-prepare");
    if (!drift && is_wanted) return drift.error();
    if (!drift) {
        context.terminal.note("note: whether the workspace is up to date is not known: " +
                              printable(drift.error().message) + "\n");
        return ok();
    }
    if (drift->empty()) return ok();
    if (!is_wanted) {
        context.terminal.note("note: " + printable(*drift) +
                              ". Copy it again: banger vm workspace prepare " + vm.name +
                              ", or exec --auto-prepare\n");
        return ok();
    }
    const CopyWish wish = BANGER_TRY(copy_wish_again(*vm.workspace, stop.token()));
    return copy_workspace(session, context, vm, wish, true, interrupts);
}

Result<int> exec(const Arguments& arguments, Context& context) {
    if (!arguments.guest_command || arguments.guest_command->empty())
        return usage_error(context, {Errc::invalid_argument, "exec needs a command after --",
                                     "For a shell: banger vm ssh " + arguments.words[0]});
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<Vm> vm = find_vm(session, arguments.words[0], interrupts);
    if (!vm) return report_failure(vm.error(), context, interrupts, "cancelled", exit_not_run);
    if (arguments.has("auto-prepare") && !vm->workspace) {
        context.terminal.error(nothing_prepared(*vm));
        return exit_not_run;
    }
    if (vm->workspace && vm->ssh) {
        const Result<void> looked = look_for_drift(arguments, session, context, *vm, interrupts);
        if (!looked)
            return report_failure(looked.error(), context, interrupts, "cancelled", exit_not_run);
    }
    StayWish wish{.command = arguments.guest_command,
                  .folder = vm->workspace ? vm->workspace->guest_path : std::string(),
                  .forwards_agent = arguments.has("forward-agent"),
                  .entrypoint = {},
                  .user = {}};
    add_flags(wish, arguments);
    return stay_in(session, context, *vm, wish, interrupts).status;
}

CommandSpec prepare_command() {
    CommandSpec command{
        "vm workspace",
        "prepare",
        {},
        "copy a git repository into a machine",
        "Copies the repository that PATH lies in: tracked files as they are now, over one commit "
        "of "
        "history, so that `git status` in the guest says what it says here. Untracked files are "
        "left out unless asked for, ignored ones always. Done again, it brings the copy up to "
        "date; what was changed in the guest is not overwritten unless forced.\n\n"
        "Without PATH: the repository that was copied before, else the one you are in.",
        {"VM [PATH]", 1, 2},
        false,
        {{"--guest-path", "FOLDER", "where to in the guest", "/root/repo", {}}},
        {{"banger vm workspace prepare sandbox .", "this repository"},
         {"banger vm workspace prepare sandbox . --branch fix --from HEAD~1", "on a branch"},
         {"banger vm workspace prepare sandbox . --dry-run", "what would be copied?"}},
        prepare,
        nullptr};
    for (const Option& option : copy_options())
        command.options.push_back(option);
    for (const Option& option : std::vector<Option>{
             {"--mode",
              "MODE",
              "overlay: one commit and the files over it; full-copy: everything, .git and "
              "submodules too",
              "overlay",
              {"overlay", "full-copy"}},
             {"--readonly", "", "against mistakes: mounted read-only, which root can undo", "", {}},
             {"-f,--force", "", "overwrite what was changed in the guest", "", {}},
             quiet_option("print nothing but errors")})
        command.options.push_back(option);
    return command;
}

}  // namespace

void add_workspace_commands(CommandTable& table) {
    table.groups.push_back(
        {"vm workspace",
         "copy a repository in, and get the changes out",
         "A workspace is a git repository of yours, copied into a machine. The machine remembers\n"
         "what it was copied from; `banger vm exec` runs commands in it.",
         {{"banger vm workspace prepare sandbox .", "copy this repository in"},
          {"banger vm exec sandbox -- make test", "run something in it"},
          {"banger vm workspace export sandbox -o fix.patch", "what was changed there"},
          {"git apply fix.patch", "have it here"}}});
    table.commands.push_back(prepare_command());
    table.commands.push_back(
        {"vm workspace",
         "export",
         {},
         "get the changes out of a machine as a patch",
         "Writes one binary patch of everything that differs from the commit the guest began with: "
         "commits, edits, new files that are not ignored. `git apply` takes it in a clean checkout "
         "of that commit. The guest's own index and files stay as they are. The guest's git writes "
         "it, so a machine that is stopped has to be started: --start does, for as long as it "
         "takes.",
         {"VM", 1, 1},
         false,
         {{"--base-commit", "SHA", "what the patch is to apply to", "what was copied in", {}},
          {"--start", "", "start a machine that is stopped for this, and stop it again", "", {}},
          {"-o,--output", "FILE", "where to; at once or not at all", "standard output", {}},
          quiet_option("say nothing about the file")},
         {{"banger vm workspace export sandbox -o fix.patch", "into a file"},
          {"banger vm workspace export sandbox | git apply --stat", "what is in it?"}},
         export_workspace,
         nullptr});
    table.commands.push_back(
        {"vm",
         "exec",
         {},
         "run a command in a machine's workspace",
         "Runs the command in the repository that was copied in, else in /root or, through the "
         "guest's agent, where the image says. Says so when that "
         "repository has moved on since. Calls that follow each other share a connection.\n\n"
         "The exit status is the command's own; 125 when banger failed before the command could "
         "run, 126 and 127 as a shell has them, 128 and the signal's number when one ended it.",
         {"VM", 1, 1},
         true,
         {{"--auto-prepare", "", "copy the repository again first, if it has changed", "", {}},
          forward_agent_option(),
          user_option()},
         {{"banger vm exec sandbox -- make test", "run the tests there"},
          {"banger vm exec --auto-prepare sandbox -- make test", "with what is here now"}},
         exec,
         nullptr});
}

}  // namespace banger::cli
