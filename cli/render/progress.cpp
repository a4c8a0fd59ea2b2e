#include "cli/render/progress.hpp"

#include <algorithm>

#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;

std::string bar(double part, std::size_t columns, const Style& style) {
    const auto full = static_cast<std::size_t>(part * static_cast<double>(columns));
    std::string done;
    std::string rest;
    for (std::size_t i = 0; i < columns; ++i)
        (i < full ? done : rest) += i < full ? "━" : "─";
    return style(Colour::cyan, done) + style(Colour::dim, rest);
}

std::string amount(std::uint64_t value, Progress::Unit unit) {
    return unit == Progress::Unit::bytes ? size_text(value) : std::to_string(value);
}

}  // namespace

std::string progress_line(const Progress& progress, std::chrono::milliseconds elapsed,
                          std::uint64_t done_before, const Style& style, unsigned width) {
    std::string numbers;
    double part = -1;
    if (progress.unit != Progress::Unit::none && (progress.done > 0 || progress.total > 0)) {
        numbers = amount(progress.done, progress.unit);
        if (progress.total > 0) {
            part = std::min(
                1.0, static_cast<double>(progress.done) / static_cast<double>(progress.total));
            numbers = std::to_string(static_cast<int>(part * 100)) + "%  " + numbers + " of " +
                      amount(progress.total, progress.unit);
        }
        const std::uint64_t moved = progress.done - std::min(progress.done, done_before);
        if (progress.unit == Progress::Unit::bytes && elapsed.count() >= 500 && moved > 0)
            numbers +=
                "  " + size_text(moved * 1000 / static_cast<std::uint64_t>(elapsed.count())) + "/s";
    }
    if (elapsed.count() >= 1000)
        numbers += (numbers.empty() ? "" : "  ") + std::to_string(elapsed.count() / 1000) + " s";

    constexpr std::size_t bar_columns = 20;
    const std::size_t bar_room = part >= 0 ? bar_columns + 2 : 0;
    const std::size_t fixed = 2 + width_of(numbers) + 2 + bar_room;
    const std::size_t room = width > fixed + 10 ? width - fixed - 1 : 10;
    std::string line = "  " + shortened(printable(progress.stage), room);
    if (part >= 0) line += "  " + bar(part, bar_columns, style);
    if (!numbers.empty()) line += "  " + style(Colour::dim, numbers);
    return line;
}

void ProgressView::show(const Progress& progress) {
    if (is_quiet_) return;
    if (progress.stage != stage_) {
        end_stage();
        begin_stage(progress.stage);
        first_done_ = progress.done;
    }
    last_ = progress;
    if (!terminal_.note_is_terminal()) return;
    const auto elapsed =
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - stage_began_);
    terminal_.note("\r\x1b[K" + progress_line(progress, elapsed, first_done_,
                                              terminal_.note_style(), terminal_.note_width()));
    has_line_ = true;
}

void ProgressView::begin_stage(const std::string& stage) {
    stage_ = stage;
    stage_began_ = Clock::now();
    if (!terminal_.note_is_terminal() && !stage.empty()) terminal_.note(printable(stage) + "\n");
}

void ProgressView::end_stage() {
    if (!has_line_) return;
    terminal_.note("\r\x1b[K");
    has_line_ = false;
    const auto elapsed =
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - stage_began_);
    if (elapsed < std::chrono::seconds(1)) return;
    const Style& style = terminal_.note_style();
    std::string line = "  " + printable(stage_) + "  ";
    std::string detail = duration_text(elapsed);
    if (last_.unit == Progress::Unit::bytes && last_.done > 0)
        detail = size_text(last_.done) + ", " + detail;
    terminal_.note(line + style(Colour::dim, detail) + "\n");
}

void ProgressView::finish() {
    if (is_quiet_) return;
    end_stage();
    stage_.clear();
}

}  // namespace banger::cli
