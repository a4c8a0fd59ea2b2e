#include "cli/console.hpp"

#include <optional>
#include <string_view>

#include "cli/render/text.hpp"
#include "core/protocol/vm_fields.hpp"

namespace banger::cli {

namespace {

/// RFC 4648, section 4. Nothing for what is no base64.
std::optional<std::string> decode_base64(std::string_view text) {
    static constexpr std::string_view alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    unsigned bits = 0;
    unsigned value = 0;
    for (const char c : text) {
        if (c == '=') break;
        const std::size_t digit = alphabet.find(c);
        if (digit == alphabet.npos) return std::nullopt;
        value = (value << 6 | static_cast<unsigned>(digit)) & 0xffffff;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        out += static_cast<char>(value >> bits & 0xff);
    }
    return out;
}

}  // namespace

Result<void> read_console(client::Daemon& daemon, const std::string& vm, bool is_followed,
                          const std::function<Result<void>(const std::string&)>& on_bytes) {
    return daemon.stream<protocol::LogsOfVmReply>(
        "io.banger.Vm.Logs", protocol::LogsOfVm{vm, is_followed},
        [&](const protocol::LogsOfVmReply& part) -> Result<void> {
            const std::optional<std::string> bytes = decode_base64(part.data);
            if (!bytes) return Error(Errc::corrupt, "bangerd sent a console that is no base64");
            return on_bytes(*bytes);
        });
}

std::string last_console_lines(client::Daemon& daemon, const std::string& vm, std::size_t lines) {
    constexpr std::size_t most = std::size_t{64} << 10;
    std::string tail;
    const Result<void> done = read_console(daemon, vm, false, [&](const std::string& bytes) {
        tail += bytes;
        if (tail.size() > most) tail.erase(0, tail.size() - most);
        return ok();
    });
    if (!done) return {};
    TerminalFilter filter;
    std::string text = filter(tail);
    while (text.ends_with('\n'))
        text.pop_back();
    std::size_t begin = text.size();
    for (std::size_t i = 0; i < lines && begin != text.npos && begin > 0; ++i)
        begin = text.rfind('\n', begin - 1);
    return begin == text.npos || begin == 0 ? text : text.substr(begin + 1);
}

}  // namespace banger::cli
