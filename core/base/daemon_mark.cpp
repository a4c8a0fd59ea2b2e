#include "core/base/daemon_mark.hpp"

#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger {

namespace {

template <class Number>
std::optional<Number> cut_number(std::string_view& text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end == text.data() + text.size() || *end != ' ')
        return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
    return value;
}

}  // namespace

// "PID START_TIME SOCKET\n"
std::optional<DaemonMark> parse_daemon_mark(std::string_view text) {
    const std::optional<std::int64_t> pid = cut_number<std::int64_t>(text);
    if (!pid || *pid <= 0) return std::nullopt;
    const std::optional<std::uint64_t> start = cut_number<std::uint64_t>(text);
    if (!start || !text.starts_with('/') || !text.ends_with('\n')) return std::nullopt;
    text.remove_suffix(1);
    if (text.find_first_of(std::string_view("\n\0", 2)) != text.npos) return std::nullopt;
    return DaemonMark{{*pid, *start}, std::string(text)};
}

Result<void> write_daemon_mark(int lock, const DaemonMark& mark) {
    if (::ftruncate(lock, 0) != 0 || ::lseek(lock, 0, SEEK_SET) != 0)
        return Error::from_errno(errno, "writing into the lock of bangerd");
    return write_all(lock, std::to_string(mark.process.pid) + " " +
                               std::to_string(mark.process.start_time) + " " + mark.socket + "\n");
}

std::optional<DaemonMark> read_daemon_mark(const std::string& lock_path) {
    const Result<std::string> text = read_file(lock_path, ByteCount::kib(16));
    std::optional<DaemonMark> mark = text ? parse_daemon_mark(*text) : std::nullopt;
    if (mark && !is_running(mark->process)) return std::nullopt;
    return mark;
}

}  // namespace banger
