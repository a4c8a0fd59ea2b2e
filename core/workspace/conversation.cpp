#include "core/workspace/conversation.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

namespace banger::workspace {

namespace {

constexpr std::size_t line_limit = 4096;
constexpr std::size_t complaint_limit = 4096;

struct Pipe {
    UniqueFd reading;
    UniqueFd writing;
};

Result<Pipe> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "making a pipe");
    return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void make_nonblocking(const UniqueFd& fd) {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

}  // namespace

Result<Conversation> Conversation::start(Command command, std::stop_token stop) {
    Pipe input = BANGER_TRY(make_pipe());
    Pipe output = BANGER_TRY(make_pipe());
    Pipe errors = BANGER_TRY(make_pipe());
    // Fewer turns for a large stream; no matter if it is refused.
    ::fcntl(input.writing.get(), F_SETPIPE_SZ, 1 << 20);
    command.standard_input = input.reading.get();
    command.standard_output = output.writing.get();
    command.standard_error = errors.writing.get();
    // Ctrl-C reaches us, and we end it.
    command.new_session = true;
    Child child = BANGER_TRY(spawn(command));
    make_nonblocking(input.writing);
    make_nonblocking(output.reading);
    make_nonblocking(errors.reading);
    return Conversation(std::move(child), std::move(input.writing), std::move(output.reading),
                        std::move(errors.reading), std::move(stop));
}

void Conversation::take_errors() {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(errors_.get(), buffer.data(), buffer.size());
    if (count == 0) errors_.reset();
    if (count <= 0) return;
    complaint_.append(buffer.data(), static_cast<std::size_t>(count));
    if (complaint_.size() > complaint_limit)
        complaint_.erase(0, complaint_.size() - complaint_limit);
}

Result<void> Conversation::wait(Wish wish) {
    const UniqueFd woken(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!woken) return Error::from_errno(errno, "eventfd");
    const std::stop_callback wake(stop_, [&] {
        const std::uint64_t one = 1;
        static_cast<void>(!::write(woken.get(), &one, sizeof one));
    });
    for (;;) {
        if (stop_.stop_requested()) return Error(Errc::cancelled, "cancelled");
        std::array<pollfd, 3> waits = {{{woken.get(), POLLIN, 0},
                                        {errors_.get(), POLLIN, 0},
                                        wish == Wish::write ? pollfd{input_.get(), POLLOUT, 0}
                                                            : pollfd{output_.get(), POLLIN, 0}}};
        const int ready = ::poll(waits.data(), waits.size(), -1);
        if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
        if (ready <= 0) continue;
        if (waits[1].revents != 0) take_errors();
        if (waits[2].revents != 0) return ok();
    }
}

Result<void> Conversation::write(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(input_.get(), bytes.data(), bytes.size());
        if (count > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(count));
            continue;
        }
        if (count < 0 && errno == EAGAIN) {
            BANGER_TRY(wait(Wish::write));
        } else if (count < 0 && errno != EINTR) {
            return errno == EPIPE ? Error(Errc::unreachable, "the other side has left")
                                  : Error::from_errno(errno, "writing to the guest");
        }
    }
    return stop_.stop_requested() ? Result<void>(Error(Errc::cancelled, "cancelled")) : ok();
}

Result<std::size_t> Conversation::read(char* buffer, std::size_t size) {
    if (!pending_.empty()) {
        const std::size_t count = std::min(size, pending_.size());
        pending_.copy(buffer, count);
        pending_.erase(0, count);
        return count;
    }
    for (;;) {
        const ssize_t count = ::read(output_.get(), buffer, size);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno == EAGAIN)
            BANGER_TRY(wait(Wish::read));
        else if (errno != EINTR)
            return Error::from_errno(errno, "reading from the guest");
    }
}

Result<std::string> Conversation::read_line() {
    for (;;) {
        const std::size_t end = pending_.find('\n');
        if (end != pending_.npos) {
            std::string line = pending_.substr(0, end);
            pending_.erase(0, end + 1);
            return line;
        }
        if (pending_.size() > line_limit)
            return Error(Errc::corrupt, "the guest's answer has no end");
        std::string before = std::exchange(pending_, {});
        std::array<char, 4096> buffer{};
        const std::size_t count = BANGER_TRY(read(buffer.data(), buffer.size()));
        if (count == 0) return Error(Errc::unreachable, "the guest did not answer");
        pending_ = std::move(before);
        pending_.append(buffer.data(), count);
    }
}

Result<ExitStatus> Conversation::finish() {
    close_input();
    pending_.clear();
    std::array<char, 4096> buffer{};
    while (BANGER_TRY(read(buffer.data(), buffer.size())) > 0) {
    }
    const Result<ExitStatus> status = child_.wait(stop_);
    while (errors_) {
        const std::size_t before = complaint_.size();
        take_errors();
        if (errors_ && complaint_.size() == before) break;  // somebody else still holds it
    }
    return status;
}

std::string Conversation::complaint() const {
    std::string text = complaint_;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
        text.pop_back();
    text.erase(0, text.rfind('\n') + 1);
    for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
    return text;
}

}  // namespace banger::workspace
