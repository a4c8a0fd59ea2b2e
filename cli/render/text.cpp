#include "cli/render/text.hpp"

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "banger/values.hpp"

namespace banger::cli {

namespace {

/// The length of the character that begins with this byte; 0 for one that none begins with.
std::size_t length_from(unsigned char first) {
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first < 0xe0) return 2;
    if (first >= 0xe0 && first < 0xf0) return 3;
    if (first >= 0xf0 && first < 0xf5) return 4;
    return 0;
}

bool is_continuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

/// Whole, well-formed (no surrogates, nothing overlong, RFC 3629), and not a C1 control.
bool is_showable(std::string_view character) {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
    if (character.size() == 1) return at(0) >= 0x20 && at(0) != 0x7f && at(0) < 0x80;
    for (std::size_t i = 1; i < character.size(); ++i)
        if (!is_continuation(at(i))) return false;
    if (at(0) == 0xc2 && at(1) < 0xa0) return false;
    if (at(0) == 0xe0 && at(1) < 0xa0) return false;
    if (at(0) == 0xed && at(1) >= 0xa0) return false;
    if (at(0) == 0xf0 && at(1) < 0x90) return false;
    if (at(0) == 0xf4 && at(1) >= 0x90) return false;
    // Marks that reorder text: they can make a line read as something else.
    return character < "\u202a" || character > "\u202e";
}

std::string number_text(const char* format, double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

}  // namespace

std::string printable(std::string_view text, Newlines newlines) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] == '\n' && newlines == Newlines::kept) {
            out += text[i++];
            continue;
        }
        const std::size_t length = length_from(static_cast<unsigned char>(text[i]));
        const std::string_view character = text.substr(i, length);
        if (length != 0 && character.size() == length && is_showable(character)) {
            out += character;
            i += length;
        } else {
            out += '?';
            ++i;
        }
    }
    return out;
}

std::string TerminalFilter::operator()(std::string_view piece) {
    std::string out;
    out.reserve(piece.size());
    for (const char c : piece)
        take(static_cast<unsigned char>(c), out);
    return out;
}

/// ECMA-48: ESC [ … final byte; ESC with intermediate bytes … final byte; the strings ESC ] P X ^ _
/// up to BEL or ESC backslash.
void TerminalFilter::take(unsigned char byte, std::string& out) {
    switch (state_) {
        case State::text:
            if (byte == 0x1b) {
                partial_.clear();
                missing_ = 0;
                state_ = State::escape;
            } else {
                take_text(byte, out);
            }
            return;
        case State::escape:
            if (byte == '[')
                state_ = State::sequence;
            else if (byte == ']' || byte == 'P' || byte == 'X' || byte == '^' || byte == '_')
                state_ = State::string;
            else if (byte >= 0x20 && byte < 0x30)
                state_ = State::nf;
            else
                state_ = byte == 0x1b ? State::escape : State::text;
            return;
        case State::nf:
        case State::sequence:
            if (byte == 0x1b)
                state_ = State::escape;
            else if ((byte >= (state_ == State::nf ? 0x30 : 0x40) && byte < 0x7f) || byte == '\n')
                state_ = State::text;
            return;
        case State::string:
            if (byte == 0x07 || byte == '\n')
                state_ = State::text;
            else if (byte == 0x1b)
                state_ = State::string_escape;
            return;
        case State::string_escape:
            state_ = byte == '\\' ? State::text : State::string;
            return;
    }
}

void TerminalFilter::take_text(unsigned char byte, std::string& out) {
    if (missing_ > 0 && is_continuation(byte)) {
        partial_ += static_cast<char>(byte);
        if (--missing_ > 0) return;
        if (is_showable(partial_)) out += partial_;
        partial_.clear();
        return;
    }
    partial_.clear();
    missing_ = 0;
    const std::size_t length = length_from(byte);
    if (length > 1) {
        partial_ = static_cast<char>(byte);
        missing_ = length - 1;
    } else if (length == 1 && ((byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t')) {
        out += static_cast<char>(byte);
    }
}

std::size_t width_of(std::string_view text) {
    std::size_t width = 0;
    for (const char c : text)
        if (!is_continuation(static_cast<unsigned char>(c))) ++width;
    return width;
}

std::string shortened(std::string_view text, std::size_t columns) {
    if (width_of(text) <= columns) return std::string(text);
    if (columns == 0) return {};
    std::size_t end = 0;
    for (std::size_t taken = 0; end < text.size(); ++end) {
        if (is_continuation(static_cast<unsigned char>(text[end]))) continue;
        if (taken++ == columns - 1) break;
    }
    return std::string(text.substr(0, end)) + "…";
}

std::string size_text(std::uint64_t bytes) {
    static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    double value = static_cast<double>(bytes);
    while (value >= 1024 && unit + 1 < std::size(units)) {
        value /= 1024;
        ++unit;
    }
    const bool is_whole = unit == 0 || value >= 100 || value == static_cast<double>(int(value));
    return number_text(is_whole ? "%.0f " : "%.1f ", value) + units[unit];
}

std::string counted(std::uint64_t count, std::string_view thing) {
    return std::to_string(count) + " " + std::string(thing) + (count == 1 ? "" : "s");
}

std::string joined(const std::vector<std::string>& words, std::string_view if_none) {
    if (words.empty()) return std::string(if_none);
    std::string text = words.front();
    for (std::size_t i = 1; i < words.size(); ++i)
        text += ", " + words[i];
    return text;
}

std::string ago_text(std::int64_t seconds) {
    if (seconds < 5) return "just now";
    const auto count = static_cast<std::uint64_t>(seconds);
    if (count < 90) return counted(count, "second") + " ago";
    if (count < 90 * 60) return counted(count / 60, "minute") + " ago";
    if (count < 36 * 3600) return counted(count / 3600, "hour") + " ago";
    if (count < 60 * 86400) return counted(count / 86400, "day") + " ago";
    if (count < 730 * std::uint64_t{86400}) return counted(count / (30 * 86400), "month") + " ago";
    return counted(count / (365 * std::uint64_t{86400}), "year") + " ago";
}

std::string duration_text(std::chrono::milliseconds duration) {
    const double seconds = static_cast<double>(duration.count()) / 1000;
    if (duration.count() < 1000) return std::to_string(duration.count()) + " ms";
    if (duration.count() < 60'000) return number_text("%.1f s", seconds);
    const std::int64_t whole = duration.count() / 1000;
    return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
}

std::string time_text(std::int64_t seconds_since_1970) {
    const std::time_t time = seconds_since_1970;
    std::tm parts{};
    if (::gmtime_r(&time, &parts) == nullptr) return std::to_string(seconds_since_1970);
    char buffer[64];
    const std::size_t length =
        std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S UTC", &parts);
    return {buffer, length};
}

std::int64_t now_seconds() {
    if (const char* fixed = std::getenv("BANGER_NOW")) return std::atoll(fixed);
    return std::time(nullptr);
}

}  // namespace banger::cli
