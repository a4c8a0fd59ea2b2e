#include "core/guest/exec_protocol.hpp"

#include <algorithm>

#include "core/guest/agent_protocol.hpp"
#include "core/guest/json_reader.hpp"

namespace banger::guest {

using nlohmann::json;

namespace {

constexpr char session_mark = 1;
constexpr std::size_t number_bytes = 8;
constexpr std::size_t max_words = 4096;
constexpr std::uint64_t max_window = std::uint64_t{16} << 20;

/// No byte of the result is NUL. Blocks of up to 254 bytes without one; before each its length and
/// one.
std::string stuffed(std::string_view bytes) {
    constexpr std::size_t longest = 254;
    std::string out;
    out.reserve(bytes.size() + bytes.size() / longest + 2);
    bool is_more = true;
    while (is_more) {
        const std::size_t nul = bytes.find('\0');
        const std::size_t run = std::min(nul, bytes.size());
        const std::size_t block = std::min(run, longest);
        out += static_cast<char>(block + 1);
        out.append(bytes.substr(0, block));
        // A full block stands for itself; a shorter one for the NUL after it too, or for the end.
        const bool has_nul = block < longest && nul == block;
        is_more = has_nul || block < bytes.size();
        bytes.remove_prefix(block + (has_nul ? 1 : 0));
    }
    return out;
}

Result<std::string> unstuffed(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    while (!bytes.empty()) {
        const std::size_t length = static_cast<unsigned char>(bytes[0]);
        if (length == 0 || length > bytes.size())
            return Error(Errc::corrupt, "a session's frame is cut off");
        out.append(bytes.substr(1, length - 1));
        bytes.remove_prefix(length);
        if (length != 255 && !bytes.empty()) out += '\0';
    }
    return out;
}

/// UTF-8 without NUL: what JSON brings over as it is.
bool is_text(const std::string& text) {
    const json value(text);
    return text.find('\0') == text.npos &&
           value.dump(-1, ' ', false, json::error_handler_t::replace) ==
               value.dump(-1, ' ', false, json::error_handler_t::ignore);
}

Result<std::vector<std::string>> texts(const json& list, const char* what) {
    std::vector<std::string> out;
    for (const json& each : list) {
        const std::string* text = each.get_ptr<const std::string*>();
        if (text == nullptr || text->find('\0') != text->npos)
            return Error(Errc::corrupt, std::string(what) + " is not text");
        out.push_back(*text);
    }
    return out;
}

}  // namespace

Result<std::string> encode_exec(std::uint64_t id, const ExecRequest& request) {
    bool is_all_text = is_text(request.folder) && is_text(request.user);
    for (const std::vector<std::string>* list : {&request.words, &request.environment})
        for (const std::string& text : *list)
            is_all_text = is_all_text && is_text(text);
    if (!is_all_text)
        return Error(Errc::invalid_argument, "a word of the command is not UTF-8 text",
                     "Pass such bytes through standard input or a file.");
    json parameters = {{"words", request.words},   {"environment", request.environment},
                       {"folder", request.folder}, {"makes_folder", request.makes_folder},
                       {"user", request.user},     {"stream", request.stream}};
    if (request.terminal)
        parameters["terminal"] = {{"rows", request.terminal->rows},
                                  {"columns", request.terminal->columns}};
    std::string frame =
        dump_json({{"id", id}, {"method", "Exec"}, {"parameters", std::move(parameters)}});
    if (frame.size() > max_frame || request.words.size() > max_words ||
        request.environment.size() > max_words)
        return Error(Errc::invalid_argument, "the command and its environment are too long",
                     "Keep them below 64 KiB together; pass more through standard input.");
    return frame + '\0';
}

Result<ExecRequest> decode_exec(std::string_view parameters) {
    const json value = BANGER_TRY(parse_json(parameters, max_depth));
    ObjectReader reader(value, "Exec");
    ExecRequest request;
    const json& words = reader.array("words", max_words);
    const json& environment = reader.array("environment", max_words);
    request.folder = reader.string("folder");
    request.makes_folder = reader.boolean("makes_folder");
    request.user = reader.string("user");
    request.stream = reader.integer("stream");
    const json* terminal = reader.optional("terminal");
    BANGER_TRY(reader.finish(true));
    request.words = BANGER_TRY(texts(words, "a word"));
    request.environment = BANGER_TRY(texts(environment, "a variable"));
    if (request.folder.find('\0') != std::string::npos ||
        request.user.find('\0') != std::string::npos)
        return Error(Errc::corrupt, "a folder or user is not text");
    if (terminal == nullptr) return request;
    ObjectReader size(*terminal, "terminal");
    request.terminal = TerminalSize{static_cast<std::uint16_t>(size.integer("rows", 65535)),
                                    static_cast<std::uint16_t>(size.integer("columns", 65535))};
    BANGER_TRY(size.finish(true));
    return request;
}

std::string encode_started(std::uint64_t id, std::uint32_t window) {
    return dump_json({{"id", id}, {"parameters", {{"window", window}}}}) + '\0';
}

Result<std::uint32_t> decode_started(std::string_view parameters) {
    const json value = BANGER_TRY(parse_json(parameters, max_depth));
    ObjectReader reader(value, "Exec");
    const std::uint64_t window = reader.integer("window", max_window);
    BANGER_TRY(reader.finish(false));
    return static_cast<std::uint32_t>(window);
}

bool is_session_frame(std::string_view frame) {
    return !frame.empty() && frame.front() == session_mark;
}

std::string encode_session_frame(std::uint64_t session, ExecKind kind, std::string_view data) {
    std::string body;
    body.reserve(number_bytes + 1 + data.size());
    for (int shift = 56; shift >= 0; shift -= 8)
        body += static_cast<char>((session >> shift) & 0xff);
    body += static_cast<char>(kind);
    body += data;
    return session_mark + stuffed(body) + '\0';
}

Result<SessionFrame> decode_session_frame(std::string_view frame) {
    if (!is_session_frame(frame)) return Error(Errc::corrupt, "this is no frame of a session");
    const std::string body = BANGER_TRY(unstuffed(frame.substr(1)));
    if (body.size() <= number_bytes) return Error(Errc::corrupt, "a session's frame is cut off");
    SessionFrame out;
    for (std::size_t at = 0; at < number_bytes; ++at)
        out.session = out.session << 8 | static_cast<unsigned char>(body[at]);
    out.frame = BANGER_TRY(checked_exec_frame(static_cast<std::uint8_t>(body[number_bytes]),
                                              std::string_view(body).substr(number_bytes + 1)));
    return out;
}

}  // namespace banger::guest
