#include "core/base/exec_frames.hpp"

#include <algorithm>

namespace banger {

namespace {

constexpr std::size_t header_bytes = 5;

std::string big_endian(std::uint32_t value, int bytes) {
    std::string out;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        out += static_cast<char>((value >> shift) & 0xff);
    return out;
}

std::uint32_t number_at(std::string_view bytes, std::size_t at, std::size_t count) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
        value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

/// The one size that data of this kind can have; nothing for any up to max_exec_data; SIZE_MAX for
/// no kind at all.
std::optional<std::size_t> size_of(std::uint8_t kind) {
    switch (static_cast<ExecKind>(kind)) {
        case ExecKind::input:
        case ExecKind::output:
        case ExecKind::error_output:
        case ExecKind::failed:
            return std::nullopt;
        case ExecKind::input_end:
        case ExecKind::hang_up:
            return 0;
        case ExecKind::signal:
        case ExecKind::exit:
            return 1;
        case ExecKind::window:
        case ExecKind::credit:
            return 4;
    }
    return SIZE_MAX;
}

}  // namespace

Result<ExecFrame> checked_exec_frame(std::uint8_t kind, std::string_view data) {
    const std::optional<std::size_t> size = size_of(kind);
    if (data.size() > max_exec_data || (size && *size != data.size()))
        return Error(Errc::corrupt, "a frame of a session is not what it should be");
    return ExecFrame{static_cast<ExecKind>(kind), std::string(data)};
}

std::string window_data(const TerminalSize& size) {
    return big_endian(size.rows, 2) + big_endian(size.columns, 2);
}

std::string credit_data(std::uint32_t bytes) { return big_endian(bytes, 4); }

std::string failure_data(const Error& error) {
    std::string data(to_string(error.code));
    const std::string message = error.message.substr(0, max_exec_data / 2 - 64);
    return data + '\0' + message + '\0' + error.remedy.substr(0, max_exec_data / 2 - 64);
}

TerminalSize window_of(const ExecFrame& frame) {
    return {static_cast<std::uint16_t>(number_at(frame.data, 0, 2)),
            static_cast<std::uint16_t>(number_at(frame.data, 2, 2))};
}

std::uint32_t credit_of(const ExecFrame& frame) { return number_at(frame.data, 0, 4); }

Error failure_of(const ExecFrame& frame) {
    const std::string_view data = frame.data;
    const std::size_t first = std::min(data.find('\0'), data.size());
    const std::size_t second = std::min(data.find('\0', first + 1), data.size());
    const auto part = [&](std::size_t from, std::size_t to) {
        return from < to ? std::string(data.substr(from, to - from)) : std::string();
    };
    return {parse_errc(data.substr(0, first)).value_or(Errc::internal), part(first + 1, second),
            part(second + 1, data.size())};
}

std::string framed_exec(ExecKind kind, std::string_view data) {
    std::string out(1, static_cast<char>(kind));
    out += big_endian(static_cast<std::uint32_t>(data.size()), 4);
    return out.append(data);
}

Result<std::optional<ExecFrame>> ExecFrameReader::next() {
    const std::string_view rest = std::string_view(pending_).substr(taken_);
    const std::size_t size = rest.size() < header_bytes ? 0 : number_at(rest, 1, 4);
    if (size > max_exec_data)
        return Error(Errc::corrupt, "a frame of a session is longer than it may be");
    if (rest.size() < header_bytes || rest.size() < header_bytes + size) {
        pending_.erase(0, taken_);
        taken_ = 0;
        return std::optional<ExecFrame>();
    }
    taken_ += header_bytes + size;
    return std::optional(BANGER_TRY(
        checked_exec_frame(static_cast<std::uint8_t>(rest[0]), rest.substr(header_bytes, size))));
}

}  // namespace banger
