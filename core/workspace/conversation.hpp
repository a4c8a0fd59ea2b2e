#pragma once

#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "core/base/child.hpp"

namespace banger::workspace {

/// A child that is written to and read from at once, such as a shell in a guest behind ssh. What
/// comes back is hostile: lines and complaints have a limit. Used from one thread; every call ends
/// with Errc::cancelled soon after a stop is asked for, and destroying it ends the child. The
/// process has to ignore SIGPIPE.
class Conversation {
public:
    static Result<Conversation> start(Command command, std::stop_token stop);

    /// All of it. Errc::unreachable when the other side has left.
    Result<void> write(std::string_view bytes);
    /// There is nothing more to write.
    void close_input() { input_.reset(); }
    /// Without its newline, at most 4 KiB (Errc::corrupt past that). Errc::unreachable at the end.
    Result<std::string> read_line();
    /// What is there next, into `buffer`; 0 at the end.
    Result<std::size_t> read(char* buffer, std::size_t size);
    /// Drops what is still to come, and waits.
    Result<ExitStatus> finish();
    /// The end of what came on standard error, as one printable line.
    [[nodiscard]] std::string complaint() const;

private:
    Conversation(Child child, UniqueFd input, UniqueFd output, UniqueFd errors,
                 std::stop_token stop)
        : child_(std::move(child)),
          input_(std::move(input)),
          output_(std::move(output)),
          errors_(std::move(errors)),
          stop_(std::move(stop)) {}
    enum class Wish { write, read };
    Result<void> wait(Wish wish);
    void take_errors();

    Child child_;
    UniqueFd input_;
    UniqueFd output_;
    UniqueFd errors_;
    std::stop_token stop_;
    std::string pending_;
    std::string complaint_;
};

}  // namespace banger::workspace
