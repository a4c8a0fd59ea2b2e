#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

/// What the host and banger-vsock-agent say to each other.
///
/// A frame is one JSON object and a NUL. The host asks {"id": N, "method": "…", "parameters": {…}};
/// the agent answers {"id": N, "parameters": {…}} or {"id": N, "error": {"code": "…", "message":
/// "…"}}, where the code is an Errc's word. Ids are the host's choice; answers may come in any
/// order.
///
/// Over vsock (port 1024) each connection is a stream of its own. Over virtio-serial (the port
/// named "banger.agent") there is one stream for the life of the machine, and the host's end comes
/// and goes in the middle of frames. So the host begins with a NUL, which ends whatever half frame
/// its predecessor left, and skips answers that are not its own; the agent drops empty frames, and
/// frames that are no request, without a word.
///
/// Methods
///   Health   {"wait": "none"|"booted"|"ready"} → GuestHealth. With a wait it is answered when that
///            state is reached or can no longer be reached (a required probe failed for good), so
///            the host learns it within milliseconds and never polls. The host gives up by going
///            away.
///   Ports    {} → {"ports": [GuestPort…]}: at most max_ports of them
///   Stats    {} → GuestStats
///   Sync     {} → {}: answered when everything written so far is on the disks
///   Shutdown {} → {}: answered after a sync, just before the power goes down
///   Exec     starts a command: core/guest/exec_protocol.hpp
///
/// Everything the agent says is hostile to the host, and everything is bounded.
namespace banger::guest {

inline constexpr std::uint32_t agent_vsock_port = 1024;
inline constexpr std::string_view agent_serial_port = "banger.agent";
/// Longest frame without its NUL, either way.
inline constexpr std::size_t max_frame = 64U << 10;
/// Deepest nesting of objects and arrays in a frame.
inline constexpr int max_depth = 8;
inline constexpr std::size_t max_ports = 256;

enum class Readiness {
    none,    ///< answer with what is known now
    booted,  ///< disks mounted, network up, handed over to the image's init
    ready,   ///< booted, and sshd listens if the image has one
};
std::string_view to_string(Readiness readiness);
std::optional<Readiness> parse_readiness(std::string_view word);

/// One thing that has to be true.
struct Probe {
    std::string
        name;  ///< "root-mounted", "work-mounted", "network", "handed-over", "sshd-listening"
    bool ok = false;
    std::string reason;  ///< why not; empty when ok
    friend bool operator==(const Probe&, const Probe&) = default;
};

struct GuestHealth {
    bool booted = false;
    bool ready = false;
    /// Something went wrong for good: the sentence; no need to wait any longer.
    std::string failure;
    std::string boot_id;          ///< /proc/sys/kernel/random/boot_id
    std::uint64_t uptime_ms = 0;  ///< since the kernel started
    std::string agent_version;
    std::vector<Probe> probes;
    friend bool operator==(const GuestHealth&, const GuestHealth&) = default;
};

enum class PortProtocol { tcp, udp };
std::string_view to_string(PortProtocol protocol);
std::optional<PortProtocol> parse_port_protocol(std::string_view word);

/// Something that listens.
struct GuestPort {
    PortProtocol protocol = PortProtocol::tcp;
    std::string address;  ///< "0.0.0.0", "127.0.0.1", "::"
    std::uint16_t port = 0;
    std::string process;    ///< the command's short name, or empty
    std::uint32_t pid = 0;  ///< 0 when unknown
    friend bool operator==(const GuestPort&, const GuestPort&) = default;
};

struct FileSystemUsage {
    std::uint64_t size_bytes = 0;
    std::uint64_t used_bytes = 0;
    friend bool operator==(const FileSystemUsage&, const FileSystemUsage&) = default;
};

struct GuestStats {
    std::uint32_t cpus = 0;
    /// Since boot, over all CPUs: the host takes the difference of two answers.
    std::uint64_t cpu_busy_ms = 0;
    std::uint64_t cpu_idle_ms = 0;
    double load_1 = 0;
    double load_5 = 0;
    double load_15 = 0;
    std::uint64_t memory_total_bytes = 0;
    std::uint64_t memory_available_bytes = 0;
    FileSystemUsage root;  ///< /
    FileSystemUsage work;  ///< /root
    friend bool operator==(const GuestStats&, const GuestStats&) = default;
};

/// A request as the agent sees it.
struct AgentRequest {
    std::uint64_t id = 0;
    std::string method;
    Readiness wait = Readiness::none;  ///< of Health
    std::string parameters = {};       ///< of Exec, for decode_exec()
};

/// An answer as the host sees it: either `error`, or the text of the parameters object, to be given
/// to the decoder of the method that was called.
struct AgentReply {
    std::uint64_t id = 0;
    std::optional<Error> error;
    std::string parameters;
};

/// Cuts a byte stream into frames. A frame that grows past max_frame is skipped up to its NUL and
/// counted, so that one bad frame costs no memory and not the connection.
class FrameReader {
public:
    void append(std::string_view bytes);
    /// The next whole, non-empty frame, without its NUL.
    std::optional<std::string> next();
    /// Bytes of frames that were too long.
    [[nodiscard]] std::uint64_t skipped() const { return skipped_; }
    /// Forgets a half frame.
    void clear();

private:
    std::string pending_;
    std::size_t start_ = 0;    ///< of the first byte that was not taken
    std::size_t scanned_ = 0;  ///< no NUL between there and here
    bool skipping_ = false;
    std::uint64_t skipped_ = 0;
};

// Each encoder returns a frame with its NUL; each decoder takes one without. Decoders of what the
// agent says keep printable text only (sanitised()) and are Errc::corrupt for wrong types, missing
// fields, too deep nesting, and numbers out of range. Unknown fields are ignored by the host, so
// that a daemon understands the agent of a machine that a newer banger started.

std::string encode_request(std::uint64_t id, std::string_view method,
                           Readiness wait = Readiness::none);
Result<AgentRequest> decode_request(std::string_view frame);

std::string encode_reply(std::uint64_t id, const GuestHealth& health);
std::string encode_reply(std::uint64_t id, const std::vector<GuestPort>& ports);
std::string encode_reply(std::uint64_t id, const GuestStats& stats);
std::string encode_reply(std::uint64_t id);
std::string encode_error(std::uint64_t id, const Error& error);

Result<AgentReply> decode_reply(std::string_view frame);
Result<GuestHealth> decode_health(std::string_view parameters);
Result<std::vector<GuestPort>> decode_ports(std::string_view parameters);
Result<GuestStats> decode_stats(std::string_view parameters);

/// Guest text that is safe to print: valid UTF-8 without control characters (each becomes "?"), cut
/// to `limit` bytes.
std::string sanitised(std::string_view text, std::size_t limit = 256);

}  // namespace banger::guest
