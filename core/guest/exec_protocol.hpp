#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "core/base/exec_frames.hpp"

/// Commands through the agent: the part of the agent protocol (core/guest/agent_protocol.hpp) that
/// is about them.
///
///   Exec {ExecRequest} → {"window": N}: the command has been started, and N bytes of input may be
///   sent. An error: it has not been.
///
/// The request's id is the session's number. What follows goes in frames of another kind on the
/// same stream, so that bytes need not become JSON: a byte 1, and then number of the session (8
/// bytes, most significant first), kind and data of an ExecFrame, all of it stuffed (COBS: Cheshire
/// & Baker 1999) so that there is no NUL in it; and the NUL that ends every frame. One stream
/// carries many sessions beside other requests.
///
/// A session ends with the agent's `exit`. A host that hangs up says so and drops what still comes
/// until then. Sessions of a host that went away are hung up; should the agent not have noticed
/// (serial port), it does when an Exec comes with another `stream`, or when it is told to hang up a
/// session that the new host does not know.
namespace banger::guest {

/// At most this many at once on one machine.
inline constexpr std::size_t max_sessions = 32;

struct ExecRequest {
    /// Program and arguments. Empty: a shell of the image's.
    std::vector<std::string> words;
    std::vector<std::string> environment;  ///< NAME=value; the last one of a name counts
    std::string folder;                    ///< where it begins; empty: the user's home
    bool makes_folder = false;             ///< a folder that is not there is made
    std::string user;  ///< as in an image: name or number, with or without :group; empty: root
    std::optional<TerminalSize> terminal;
    std::uint64_t stream = 0;  ///< names the host's end of the stream
    friend bool operator==(const ExecRequest&, const ExecRequest&) = default;
};

/// A frame with its NUL. Errc::invalid_argument: too long for one, or text that has a NUL in it or
/// is not UTF-8.
Result<std::string> encode_exec(std::uint64_t id, const ExecRequest& request);
/// From the text of the request's parameters.
Result<ExecRequest> decode_exec(std::string_view parameters);
std::string encode_started(std::uint64_t id, std::uint32_t window);
Result<std::uint32_t> decode_started(std::string_view parameters);

struct SessionFrame {
    std::uint64_t session = 0;
    ExecFrame frame;
    friend bool operator==(const SessionFrame&, const SessionFrame&) = default;
};
/// Whether a frame (without its NUL) is of a session.
[[nodiscard]] bool is_session_frame(std::string_view frame);
std::string encode_session_frame(std::uint64_t session, ExecKind kind, std::string_view data = {});
/// Without its NUL. Errc::corrupt.
Result<SessionFrame> decode_session_frame(std::string_view frame);

}  // namespace banger::guest
