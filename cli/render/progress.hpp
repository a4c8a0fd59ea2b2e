#pragma once

#include <chrono>
#include <string>

#include "banger/host.hpp"
#include "cli/render/terminal.hpp"

namespace banger::cli {

/// Shows how far a call is, on standard error. On a terminal one line that redraws itself, with
/// bar, size and speed; a stage that took over a second leaves a line behind. Elsewhere one plain
/// line a stage.
class ProgressView {
public:
    using Clock = std::chrono::steady_clock;

    ProgressView(Terminal& terminal, bool is_quiet) : terminal_(terminal), is_quiet_(is_quiet) {}
    ~ProgressView() { finish(); }
    ProgressView(const ProgressView&) = delete;
    ProgressView& operator=(const ProgressView&) = delete;

    void show(const Progress& progress);
    /// Takes the line away. Call it before anything else is printed.
    void finish();

private:
    void begin_stage(const std::string& stage);
    void end_stage();

    Terminal& terminal_;
    bool is_quiet_;
    bool has_line_ = false;
    std::string stage_;
    Clock::time_point stage_began_;
    std::uint64_t first_done_ = 0;
    Progress last_;
};

/// The redrawn line, without what takes the old one away. Pure: `elapsed` is since the stage began,
/// `done_before` what was done by then (a download that resumes is not fast).
std::string progress_line(const Progress& progress, std::chrono::milliseconds elapsed,
                          std::uint64_t done_before, const Style& style, unsigned width);

}  // namespace banger::cli
