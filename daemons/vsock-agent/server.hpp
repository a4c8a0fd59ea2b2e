#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "banger/unique_fd.hpp"
#include "core/guest/agent_protocol.hpp"
#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/channel.hpp"
#include "daemons/vsock-agent/exec_session.hpp"

namespace banger::agent {

/// Serves the agent protocol in a process of its own, one thread, never blocking but in poll(2).
/// What takes long (sync) happens in a child.
///
/// The process is forked by init before the hand-over and keeps the initramfs as its root: the
/// image's init finds it as a process outside of every service, and its '@' name keeps systemd from
/// ending it before the disks are quiet (systemd's "Storage Daemons for the Root File System").
class AgentServer {
public:
    /// `shut_down` (begin_shutdown() but in tests) is called when a host asked for it and was
    /// answered.
    /// `image_root` is where commands run: see ExecSession::start().
    using ShutDown = void (*)(const BootState& state);
    AgentServer(HostChannel channel, BootState& state, ShutDown shut_down,
                std::string image_root = "/proc/1/root");
    /// Returns when nothing can be served any more.
    void run();

private:
    /// One stream to a host.
    struct Peer {
        UniqueFd fd;
        bool is_serial = false;
        bool is_there =
            true;  ///< serial: false from a hang-up until the port says something happens
        bool is_seen = false;  ///< that host is known to be connected
        guest::FrameReader reader;
        std::string out;
        std::map<std::uint64_t, guest::Readiness>
            waits;                     ///< Health that is not answered yet, by id
        std::uint64_t generation = 0;  ///< counts hosts on this stream
    };
    using Peers = std::list<Peer>;

    /// A command, and who wants to hear of it: nobody when `generation` is over.
    struct Session {
        Peer* peer = nullptr;
        std::uint64_t generation = 0;
        std::unique_ptr<ExecSession> command;
    };

    /// A child that syncs, and who wants to know.
    struct SyncJob {
        Peer* peer = nullptr;
        std::uint64_t generation = 0;
        std::uint64_t id = 0;
        bool then_shut_down = false;
    };

    void on_signal();
    void accept_hosts();
    void read_from(Peer& peer);
    void write_to(Peer& peer);
    void hang_up(Peer& peer);
    void answer(Peer& peer, const guest::AgentRequest& request);
    void start_sync(Peer& peer, std::uint64_t id, bool then_shut_down);
    void on_child_exit();
    void start_session(Peer& peer, const guest::AgentRequest& request);
    void take_session_frame(Peer& peer, const std::string& frame);
    void pump_sessions();
    void end_session(int pid, int wait_status);
    [[nodiscard]] static bool has_room(const Session& session);
    [[nodiscard]] int patience() const;
    void answer_waits();
    void remove_gone_peers();
    [[nodiscard]] guest::GuestHealth health();
    [[nodiscard]] bool is_watching_sshd() const;
    void watch_run_folder();
    void look_for_sshd(bool was_woken);
    void shut_down_when_told();

    HostChannel channel_;
    BootState& state_;
    UniqueFd signals_;
    Peers peers_;
    std::map<int, SyncJob> syncs_;  ///< by pid
    std::list<Session> sessions_;
    std::string image_root_;
    UniqueFd run_watch_;  ///< inotify on /run of the image, while sshd is awaited
    std::uint64_t next_look_ms_ = 0;
    bool sshd_listens_ = false;
    bool is_shutdown_asked_ = false;
    ShutDown shut_down_;
};

}  // namespace banger::agent
