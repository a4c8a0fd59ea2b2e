#include "daemons/vsock-agent/server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/guest/agent_protocol.hpp"
#include "daemons/vsock-agent/proc_net.hpp"
#include "daemons/vsock-agent/stats.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

using guest::AgentRequest;
using guest::GuestHealth;
using guest::Readiness;

namespace {

constexpr std::size_t max_peers = 16;
constexpr std::size_t max_waits = 16;
constexpr std::size_t max_syncs = 8;
/// A host that asks and does not read.
constexpr std::size_t max_unread = 1U << 20;
/// sshd writes its pid file once it listens, and that wakes us. Looking now and then is for an sshd
/// that systemd starts on demand, which writes none; only until it listens.
constexpr std::string_view sshd_pid_file = "sshd.pid";
constexpr int sshd_poll_ms = 250;
constexpr std::uint16_t ssh_port = 22;

struct StepName {
    BootState::Step step;
    const char* name;
    const char* pending;
};
constexpr std::array<StepName, 4> step_names{{
    {BootState::root_mounted, "root-mounted", "the root disk is not mounted yet"},
    {BootState::work_mounted, "work-mounted", "the work disk is not mounted yet"},
    {BootState::network_up, "network", "the network is not configured yet"},
    {BootState::handed_over, "handed-over", "the image's init does not run yet"},
}};

UniqueFd open_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    // Whoever shuts the machine down ends us last; until then we tell how commands ended.
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    return UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

AgentServer::AgentServer(HostChannel channel, BootState& state, ShutDown shut_down,
                         std::string image_root)
    : channel_(std::move(channel)),
      state_(state),
      signals_(open_signals()),
      image_root_(std::move(image_root)),
      shut_down_(shut_down) {
    if (!channel_.serial) return;
    // A port without a host is always "readable", so it is polled only while there is one; the
    // driver sends SIGIO when a host comes.
    const int fd = channel_.serial.get();
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
    Peer& peer = peers_.emplace_back();
    peer.fd = std::move(channel_.serial);
    peer.is_serial = true;
}

void AgentServer::run() {
    while (true) {
        std::vector<pollfd> fds{{signals_.get(), POLLIN, 0},
                                {state_.wake_fd(), POLLIN, 0},
                                {channel_.listener.get(), POLLIN, 0},
                                {run_watch_.get(), POLLIN, 0}};
        const std::size_t first_peer = fds.size();
        std::vector<Peer*> polled;
        for (Peer& peer : peers_) {
            if (!peer.is_there) continue;
            const short events = static_cast<short>(POLLIN | (peer.out.empty() ? 0 : POLLOUT));
            fds.push_back({peer.fd.get(), events, 0});
            polled.push_back(&peer);
        }
        for (const Session& session : sessions_)
            session.command->add_polls(fds, has_room(session));
        const int count = poll(fds.data(), fds.size(), patience());
        if (count < 0 && errno != EINTR) return;
        if (fds[0].revents != 0) on_signal();
        eventfd_t ignored = 0;
        if (fds[1].revents != 0) eventfd_read(state_.wake_fd(), &ignored);
        if (fds[2].revents != 0) accept_hosts();
        for (std::size_t at = 0; at < polled.size(); ++at) {
            const short events = fds[first_peer + at].revents;
            if ((events & POLLHUP) == 0) polled[at]->is_seen = true;
            if ((events & POLLOUT) != 0) write_to(*polled[at]);
            if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read_from(*polled[at]);
        }
        look_for_sshd(fds[3].revents != 0);
        pump_sessions();
        answer_waits();
        remove_gone_peers();
        shut_down_when_told();
    }
}

void AgentServer::on_signal() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD) on_child_exit();
        if (info.ssi_signo != SIGIO) continue;
        for (Peer& peer : peers_)
            peer.is_there = true;
    }
}

void AgentServer::accept_hosts() {
    sockaddr_vm address{};
    socklen_t size = sizeof address;
    UniqueFd fd(accept4(channel_.listener.get(), reinterpret_cast<sockaddr*>(&address), &size,
                        SOCK_CLOEXEC | SOCK_NONBLOCK));
    // The host only: programs in the guest can reach this port through the loopback transport.
    if (!fd || address.svm_cid != VMADDR_CID_HOST || peers_.size() >= max_peers) return;
    peers_.emplace_back().fd = std::move(fd);
}

void AgentServer::hang_up(Peer& peer) {
    peer.reader.clear();
    peer.out.clear();
    peer.waits.clear();
    peer.is_there = false;
    peer.is_seen = false;
    ++peer.generation;
    for (Session& session : sessions_)
        if (session.peer == &peer) session.command->hang_up();
}

void AgentServer::read_from(Peer& peer) {
    std::array<char, 16384> buffer{};
    const ssize_t count = read(peer.fd.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    // The driver may hand us a new host's first bytes before it notes that there is one. What they
    // asked for is answered when it has; it tells with a signal.
    if (count == 0 && peer.is_serial && !peer.is_seen) {
        peer.is_there = false;
        return;
    }
    if (count <= 0) return hang_up(peer);
    peer.reader.append({buffer.data(), static_cast<std::size_t>(count)});
    while (const std::optional<std::string> frame = peer.reader.next()) {
        if (guest::is_session_frame(*frame)) {
            take_session_frame(peer, *frame);
            continue;
        }
        const Result<AgentRequest> request = guest::decode_request(*frame);
        if (request) answer(peer, *request);
    }
    if (peer.out.size() > max_unread) return hang_up(peer);
    write_to(peer);
}

void AgentServer::write_to(Peer& peer) {
    while (!peer.out.empty()) {
        const ssize_t count = write(peer.fd.get(), peer.out.data(), peer.out.size());
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count <= 0) return hang_up(peer);
        peer.out.erase(0, static_cast<std::size_t>(count));
    }
}

void AgentServer::answer(Peer& peer, const AgentRequest& request) {
    if (request.method == "Health") {
        if (peer.waits.size() >= max_waits)
            peer.out += guest::encode_error(request.id, {Errc::busy, "too many requests wait"});
        else
            peer.waits[request.id] = request.wait;
        return;
    }
    if (request.method == "Ports")
        peer.out += guest::encode_reply(request.id, listening_ports());
    else if (request.method == "Stats")
        peer.out += guest::encode_reply(request.id, machine_stats());
    else if (request.method == "Sync")
        start_sync(peer, request.id, false);
    else if (request.method == "Shutdown")
        start_sync(peer, request.id, true);
    else if (request.method == "Exec")
        start_session(peer, request);
    else
        peer.out += guest::encode_error(request.id, {Errc::unsupported, "no such method"});
}

void AgentServer::start_sync(Peer& peer, std::uint64_t id, bool then_shut_down) {
    const int pid = syncs_.size() < max_syncs ? fork() : -1;
    if (pid == 0) {
        ::sync();
        _exit(0);
    }
    if (pid > 0)
        syncs_[pid] = {&peer, peer.generation, id, then_shut_down};
    else
        peer.out += guest::encode_error(id, {Errc::busy, "too many syncs at once"});
}

void AgentServer::start_session(Peer& peer, const AgentRequest& request) {
    const Result<guest::ExecRequest> wanted = guest::decode_exec(request.parameters);
    if (!wanted) {
        peer.out += guest::encode_error(request.id, wanted.error());
        return;
    }
    // Another host than the one before, whose going was not seen.
    bool is_known = false;
    for (Session& session : sessions_) {
        if (session.peer != &peer) continue;
        if (session.command->stream() != wanted->stream) session.command->hang_up();
        is_known = is_known || session.command->id() == request.id;
    }
    Error refusal(Errc::wrong_state, "the machine is still booting");
    if (sessions_.size() >= guest::max_sessions || is_known)
        refusal = {Errc::busy, "too many commands run through the agent at once"};
    else if (state_.is_reached(BootState::handed_over)) {
        Result<std::unique_ptr<ExecSession>> command =
            ExecSession::start(request.id, image_root_, *wanted);
        if (command) {
            peer.out += guest::encode_started(request.id, exec_window);
            sessions_.push_back({&peer, peer.generation, *std::move(command)});
            return;
        }
        refusal = command.error();
    }
    peer.out += guest::encode_error(request.id, refusal);
}

void AgentServer::take_session_frame(Peer& peer, const std::string& text) {
    const Result<guest::SessionFrame> frame = guest::decode_session_frame(text);
    if (!frame) return;
    for (Session& session : sessions_) {
        if (session.peer != &peer || session.command->id() != frame->session) continue;
        if (frame->frame.kind == ExecKind::hang_up)
            session.command->hang_up();
        else
            session.command->take(frame->frame);
    }
}

bool AgentServer::has_room(const Session& session) {
    return session.peer != nullptr && session.peer->out.size() < max_waiting_output;
}

void AgentServer::pump_sessions() {
    // Another one is first each time, or one that floods the stream would starve the others.
    if (sessions_.size() > 1) sessions_.splice(sessions_.end(), sessions_, sessions_.begin());
    for (Session& session : sessions_) {
        std::string nowhere;
        Peer* const peer = session.peer;
        const bool is_heard = peer != nullptr && peer->generation == session.generation;
        session.command->pump(is_heard ? peer->out : nowhere);
        if (is_heard && !peer->out.empty()) write_to(*peer);
    }
    std::erase_if(sessions_, [](const Session& session) { return session.command->is_over(); });
}

void AgentServer::end_session(int pid, int wait_status) {
    for (Session& session : sessions_)
        if (session.command->pid() == pid) session.command->on_exit(wait_status);
}

/// Until what has to be done without being woken for it.
int AgentServer::patience() const {
    std::int64_t patience = is_watching_sshd() ? sshd_poll_ms : -1;
    for (const Session& session : sessions_) {
        const std::uint64_t due = session.command->due_ms();
        if (due == 0) continue;
        const std::int64_t left =
            std::max<std::int64_t>(static_cast<std::int64_t>(due - uptime_ms()), 0);
        patience = patience < 0 ? left : std::min(patience, left);
    }
    return static_cast<int>(patience);
}

void AgentServer::on_child_exit() {
    // Looked at before it is reaped: until then its number is nobody else's.
    for (siginfo_t info{};
         waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0; info = {}) {
        const pid_t pid = info.si_pid;
        end_session(pid, info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
                                                    : W_EXITCODE(0, info.si_status));
        waitpid(pid, nullptr, 0);
        const auto found = syncs_.find(pid);
        if (found == syncs_.end()) continue;
        const SyncJob job = found->second;
        syncs_.erase(found);
        is_shutdown_asked_ = is_shutdown_asked_ || job.then_shut_down;
        if (job.peer->generation != job.generation) continue;
        job.peer->out += guest::encode_reply(job.id);
        write_to(*job.peer);
    }
}

GuestHealth AgentServer::health() {
    GuestHealth health;
    health.booted = true;
    for (const StepName& step : step_names) {
        if (!state_.is_expected(step.step)) continue;
        guest::Probe probe{step.name, state_.is_reached(step.step), {}};
        if (!probe.ok) probe.reason = state_.trouble(step.step);
        if (!probe.ok && probe.reason.empty()) probe.reason = step.pending;
        health.booted = health.booted && probe.ok;
        health.probes.push_back(std::move(probe));
    }
    health.ready = health.booted;
    if (state_.has_sshd()) {
        health.ready = health.ready && sshd_listens_;
        health.probes.push_back(
            {"sshd-listening", sshd_listens_, sshd_listens_ ? "" : "nothing listens on port 22"});
    }
    health.failure = state_.failure();
    health.boot_id = read_line("/proc/sys/kernel/random/boot_id");
    health.uptime_ms = uptime_ms();
    health.agent_version = BANGER_AGENT_VERSION;
    return health;
}

void AgentServer::answer_waits() {
    const bool any = std::ranges::any_of(peers_, [](const Peer& p) { return !p.waits.empty(); });
    if (!any) return;
    const GuestHealth now = health();
    for (Peer& peer : peers_) {
        const std::size_t answered = std::erase_if(peer.waits, [&](const auto& wait) {
            const auto& [id, readiness] = wait;
            const bool is_due = readiness == Readiness::none || !now.failure.empty() ||
                                (readiness == Readiness::booted ? now.booted : now.ready);
            if (is_due) peer.out += guest::encode_reply(id, now);
            return is_due;
        });
        if (!peer.out.empty()) write_to(peer);
        if (answered > 0 && peer.out.empty() && !now.failure.empty()) state_.set_failure_told();
    }
}

bool AgentServer::is_watching_sshd() const {
    return state_.has_sshd() && !sshd_listens_ && state_.is_reached(BootState::handed_over);
}

void AgentServer::watch_run_folder() {
    run_watch_.reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    inotify_add_watch(run_watch_.get(), "/proc/1/root/run", IN_CLOSE_WRITE | IN_MOVED_TO);
}

void AgentServer::look_for_sshd(bool was_woken) {
    if (!is_watching_sshd()) return run_watch_.reset();
    if (!run_watch_) watch_run_folder();
    bool is_due = uptime_ms() >= next_look_ms_;
    if (was_woken) {
        std::array<char, 8192> events{};
        const ssize_t size = read(run_watch_.get(), events.data(), events.size());
        const std::string_view text(events.data(),
                                    static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        is_due = is_due || text.find(sshd_pid_file) != std::string_view::npos;
    }
    if (!is_due) return;
    sshd_listens_ = is_listening(ssh_port);
    next_look_ms_ = uptime_ms() + sshd_poll_ms;
}

void AgentServer::remove_gone_peers() {
    std::erase_if(peers_, [&](const Peer& peer) {
        const bool is_wanted =
            std::ranges::any_of(syncs_,
                                [&](const auto& job) { return job.second.peer == &peer; }) ||
            std::ranges::any_of(sessions_, [&](const Session& s) { return s.peer == &peer; });
        return !peer.is_serial && !peer.is_there && !is_wanted;
    });
}

void AgentServer::shut_down_when_told() {
    if (!is_shutdown_asked_) return;
    const bool is_told =
        std::ranges::all_of(peers_, [](const Peer& p) { return p.out.empty() || !p.is_there; });
    if (!is_told) return;
    is_shutdown_asked_ = false;
    shut_down_(state_);
}

}  // namespace banger::agent
