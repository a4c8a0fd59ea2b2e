#include "plugins/vmm-firecracker/http_reply.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace banger::firecracker {

namespace {

Error corrupt(std::string_view what) {
    return {Errc::corrupt, "Firecracker's API answered " + std::string(what),
            "End the machine with `banger vm kill`."};
}

/// Nothing for what is no plain decimal number or does not fit.
std::optional<std::size_t> number_in(std::string_view text) {
    std::size_t number = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || status != std::errc() || end != text.data() + text.size()) return {};
    return number;
}

bool is_same_name(std::string_view name, std::string_view lower_case) {
    return std::ranges::equal(name, lower_case, {},
                              [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
        text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
        text.remove_suffix(1);
    return text;
}

/// "HTTP/1.1 204 No Content"
std::optional<int> status_in(std::string_view line) {
    if (!line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.0 ")) return {};
    line.remove_prefix(9);
    if (line.size() > 3 && line[3] != ' ') return {};
    const std::optional<std::size_t> number = number_in(line.substr(0, 3));
    if (!number || *number < 200 || *number > 599) return {};
    return static_cast<int>(*number);
}

}  // namespace

Result<void> HttpReplyReader::read_head(std::string_view head) {
    bool is_first = true;
    bool has_length = false;
    while (!head.empty()) {
        const std::size_t end = head.find("\r\n");
        const std::string_view line = head.substr(0, end);
        head.remove_prefix(end + 2);
        if (line.find('\n') != line.npos || line.find('\r') != line.npos ||
            line.find('\0') != line.npos)
            return corrupt("with a line that is not one");
        if (is_first) {
            is_first = false;
            const std::optional<int> status = status_in(line);
            if (!status) return corrupt("with something else than HTTP");
            reply_.status = *status;
            continue;
        }
        const std::size_t colon = line.find(':');
        if (colon == line.npos || colon == 0) return corrupt("with a header that is none");
        const std::string_view name = line.substr(0, colon);
        if (is_same_name(name, "transfer-encoding")) return corrupt("in pieces");
        if (!is_same_name(name, "content-length")) continue;
        const std::optional<std::size_t> length = number_in(trimmed(line.substr(colon + 1)));
        if (!length || has_length) return corrupt("with a length that is none");
        if (*length > max_body) return corrupt("with too much");
        has_length = true;
        body_size_ = *length;
    }
    if (reply_.status == 204 && body_size_ != 0) return corrupt("204 with content");
    return ok();
}

Result<bool> HttpReplyReader::feed(std::string_view bytes) {
    buffered_ += bytes;
    if (!has_head_) {
        const std::size_t end = buffered_.find("\r\n\r\n");
        if (end == buffered_.npos) {
            // Three bytes of the end may be here already.
            if (buffered_.size() > max_head + 3) return corrupt("with too many headers");
            return false;
        }
        if (end > max_head) return corrupt("with too many headers");
        BANGER_TRY(read_head(std::string_view(buffered_).substr(0, end + 2)));
        buffered_.erase(0, end + 4);
        has_head_ = true;
    }
    if (buffered_.size() > body_size_) return corrupt("with more than it announced");
    if (buffered_.size() < body_size_) return false;
    reply_.body = std::move(buffered_);
    return true;
}

}  // namespace banger::firecracker
