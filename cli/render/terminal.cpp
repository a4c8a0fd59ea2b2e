#include "cli/render/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

std::string_view variable(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

bool wants_colours(bool is_terminal) {
    if (!variable("NO_COLOR").empty() || variable("CLICOLOR") == "0") return false;
    const std::string_view force = variable("CLICOLOR_FORCE");
    if (!force.empty() && force != "0") return true;
    return is_terminal && !variable("TERM").empty() && variable("TERM") != "dumb";
}

unsigned width_of(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

/// 0 or errno.
int write_everything(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return 0;
}

}  // namespace

std::string Style::operator()(Colour colour, std::string_view text) const {
    if (!has_colours_ || colour == Colour::none) return std::string(text);
    static constexpr std::string_view codes[] = {"", "1", "2", "31", "32", "33", "36"};
    return "\x1b[" + std::string(codes[static_cast<std::size_t>(colour)]) + "m" +
           std::string(text) + "\x1b[0m";
}

Terminal Terminal::of_process() {
    Terminal terminal;
    terminal.in_is_terminal_ = ::isatty(0) == 1;
    terminal.out_is_terminal_ = ::isatty(1) == 1;
    terminal.note_is_terminal_ = ::isatty(2) == 1;
    terminal.out_style_ = Style(wants_colours(terminal.out_is_terminal_));
    terminal.note_style_ = Style(wants_colours(terminal.note_is_terminal_));
    return terminal;
}

void Terminal::out(std::string_view text) {
    if (output_error_ == 0) output_error_ = write_everything(1, text);
}

void Terminal::note(std::string_view text) { write_everything(2, text); }

void Terminal::error(const Error& error) {
    // What a daemon or a plugin says may quote foreign text.
    std::string text = note_style_(Style::Colour::red, "banger:") + " " +
                       printable(error.message, Newlines::kept) + "\n";
    if (!error.remedy.empty()) text += "  " + printable(error.remedy, Newlines::kept) + "\n";
    note(text);
}

Result<void> Terminal::check_output() const {
    if (output_error_ == 0) return ok();
    if (output_error_ == EPIPE) return Error(Errc::unreachable, "");
    return Error::from_errno(output_error_, "writing to standard output");
}

unsigned Terminal::out_width() const { return out_is_terminal_ ? width_of(1) : 0; }
unsigned Terminal::note_width() const { return note_is_terminal_ ? width_of(2) : 0; }

}  // namespace banger::cli
