#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"

/// What is said about one command that runs elsewhere: its three streams, signals, the window of
/// its terminal, its end. Between banger and bangerd it goes over the upgraded connection of
/// io.banger.Vm.Exec, framed by length; between bangerd and the guest's agent it goes in the
/// frames of core/guest/exec_protocol.hpp, with the number of the session. Pure.
///
/// Flow: whoever sends data has a credit in bytes, which begins as exec_window (for input: what the
/// answer to Exec says) and grows by what the other side has passed on. So neither side ever holds
/// more than one window of a session, and a reader that is slow stops its own session alone.
namespace banger {

enum class ExecKind : std::uint8_t {
    // to the command
    input = 1,      ///< bytes of its standard input
    input_end = 2,  ///< there are no more
    signal = 3,     ///< one byte, the number: for its process group
    window = 4,     ///< rows and columns, two bytes each, most significant first
    credit = 5,     ///< both ways: four bytes, most significant first: that much more may be sent
    hang_up = 6,    ///< nobody listens any more: SIGHUP, and SIGKILL to what stays
    // from the command
    output = 17,        ///< bytes of its standard output
    error_output = 18,  ///< bytes of its standard error
    exit = 19,          ///< one byte: exit status, or 128 and the signal; nothing follows
    failed = 20,        ///< instead of exit: code, message and remedy of an Error, NUL between them
};

/// Data of one frame at most.
inline constexpr std::size_t max_exec_data = std::size_t{32} << 10;
/// What may be under way one way.
inline constexpr std::uint32_t exec_window = std::uint32_t{256} << 10;

struct TerminalSize {
    std::uint16_t rows = 24;
    std::uint16_t columns = 80;
    friend bool operator==(const TerminalSize&, const TerminalSize&) = default;
};

struct ExecFrame {
    ExecKind kind = ExecKind::input;
    std::string data;
    friend bool operator==(const ExecFrame&, const ExecFrame&) = default;
};

/// Whether these bytes are a frame's kind and data as they have to be.
Result<ExecFrame> checked_exec_frame(std::uint8_t kind, std::string_view data);

// What the frames with a fixed shape carry.
std::string window_data(const TerminalSize& size);
std::string credit_data(std::uint32_t bytes);
std::string failure_data(const Error& error);
TerminalSize window_of(const ExecFrame& frame);
std::uint32_t credit_of(const ExecFrame& frame);
Error failure_of(const ExecFrame& frame);

/// One byte kind, four bytes length of the data, most significant first, data.
std::string framed_exec(ExecKind kind, std::string_view data = {});

/// Cuts a stream of those.
class ExecFrameReader {
public:
    void append(std::string_view bytes) { pending_ += bytes; }
    /// The next whole frame, or nothing yet. Errc::corrupt: the stream is of no use any more.
    Result<std::optional<ExecFrame>> next();

private:
    std::string pending_;
    std::size_t taken_ = 0;
};

}  // namespace banger
