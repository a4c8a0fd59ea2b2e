#pragma once

#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::cli {

/// Colours for one stream; does nothing where there are to be none.
class Style {
public:
    explicit Style(bool has_colours = false) : has_colours_(has_colours) {}
    enum class Colour { none, bold, dim, red, green, yellow, cyan };
    [[nodiscard]] std::string operator()(Colour colour, std::string_view text) const;
    [[nodiscard]] bool has_colours() const { return has_colours_; }

private:
    bool has_colours_;
};

/// The two streams of this process. Standard output is for what was asked for, standard error for
/// everything else: errors, notes, the spec line, progress.
class Terminal {
public:
    /// Looks at descriptors 0 to 2, at NO_COLOR (no-color.org), CLICOLOR and CLICOLOR_FORCE
    /// (bixense.com/clicolors), and at TERM.
    static Terminal of_process();

    /// Writes all of it. A failure is kept for check_output(): most callers have nothing better to
    /// do than to go on.
    void out(std::string_view text);
    void note(std::string_view text);
    /// "banger: MESSAGE" and, on a line of its own, the remedy.
    void error(const Error& error);
    /// What went wrong with standard output, if anything. A reader that left (EPIPE) is
    /// Errc::unreachable with an empty message: nothing to print.
    [[nodiscard]] Result<void> check_output() const;

    [[nodiscard]] bool out_is_terminal() const { return out_is_terminal_; }
    [[nodiscard]] bool note_is_terminal() const { return note_is_terminal_; }
    [[nodiscard]] bool in_is_terminal() const { return in_is_terminal_; }
    [[nodiscard]] const Style& out_style() const { return out_style_; }
    [[nodiscard]] const Style& note_style() const { return note_style_; }
    /// Columns of a terminal; 0 where there is none, and nothing is to be cut.
    [[nodiscard]] unsigned out_width() const;
    [[nodiscard]] unsigned note_width() const;

private:
    Terminal() = default;
    bool in_is_terminal_ = false;
    bool out_is_terminal_ = false;
    bool note_is_terminal_ = false;
    Style out_style_;
    Style note_style_;
    int output_error_ = 0;
};

}  // namespace banger::cli
