#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Text for people. Pure.
namespace banger::cli {

enum class Newlines { kept, replaced };

/// Foreign text that cannot command a terminal: control characters (C0, DEL and C1) and bytes that
/// are no UTF-8 become '?'.
std::string printable(std::string_view text, Newlines newlines = Newlines::replaced);

/// The same for a stream that arrives in pieces, such as a guest's console: keeps newlines, tabs
/// and well-formed UTF-8, drops escape sequences whole and other control characters.
class TerminalFilter {
public:
    std::string operator()(std::string_view piece);

private:
    enum class State { text, escape, sequence, string, string_escape, nf } state_ = State::text;
    std::string partial_;      ///< the first bytes of a character whose rest has not come yet
    std::size_t missing_ = 0;  ///< how many bytes that is

    void take(unsigned char byte, std::string& out);
    void take_text(unsigned char byte, std::string& out);
};

/// Columns on a terminal: characters of well-formed UTF-8 (wide ones count as one).
std::size_t width_of(std::string_view text);
/// At most `columns`, with '…' for what was cut.
std::string shortened(std::string_view text, std::size_t columns);

/// "1.5 GiB"; 0 is "0 B".
std::string size_text(std::uint64_t bytes);
/// "just now", "3 minutes ago"; `seconds` are those since then.
std::string ago_text(std::int64_t seconds);
/// "140 ms", "1.4 s", "2 min 5 s".
std::string duration_text(std::chrono::milliseconds duration);
/// "2026-11-23 18:40:07 UTC".
std::string time_text(std::int64_t seconds_since_1970);
/// "1 machine", "2 machines".
std::string counted(std::uint64_t count, std::string_view thing);

/// "one, two"; `if_none` where there are none.
std::string joined(const std::vector<std::string>& words, std::string_view if_none);

/// Now, in seconds since 1970. BANGER_NOW overrides it, so that golden tests stand still.
std::int64_t now_seconds();

}  // namespace banger::cli
