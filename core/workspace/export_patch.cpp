#include "core/workspace/export_patch.hpp"

#include <algorithm>
#include <string>

#include "core/workspace/conversation.hpp"
#include "core/workspace/scripts.hpp"

namespace banger::workspace {

namespace {

constexpr std::string_view beginning = "diff --git ";

std::string printable(std::string text) {
    text.resize(std::min<std::size_t>(text.size(), 500));
    for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
    return text;
}

Error not_understood(const Conversation& guest, const std::string& line) {
    const std::string why = line.empty() ? guest.complaint() : printable(line);
    return {Errc::corrupt,
            "the guest's answer is not understood" + (why.empty() ? std::string() : ": " + why)};
}

}  // namespace

Result<std::uint64_t> export_patch(const ExportRequest& request, const GuestShell& shell,
                                   const std::function<Result<void>(std::string_view)>& sink,
                                   std::stop_token stop) {
    Conversation guest = BANGER_TRY(
        Conversation::start(shell(export_script(request.guest_path, request.base)), stop));
    guest.close_input();
    Result<std::string> line = guest.read_line();
    if (!line && line.error().code == Errc::unreachable) return not_understood(guest, "");
    if (!line) return line.error();
    if (line->starts_with("banger failed "))
        return Error(Errc::wrong_state, printable(line->substr(14)));
    if (*line != "banger patch") return not_understood(guest, *line);

    std::string buffer(256 << 10, '\0');
    std::string head;
    std::uint64_t total = 0;
    for (;;) {
        const std::size_t count = BANGER_TRY(guest.read(buffer.data(), buffer.size()));
        if (count == 0) break;
        total += count;
        const std::string_view part = std::string_view(buffer).substr(0, count);
        if (head.size() < beginning.size()) {
            head += part.substr(0, beginning.size() - head.size());
            if (!beginning.starts_with(head))
                return Error(Errc::corrupt, "what the guest sent is not a patch");
        }
        if (total > request.limit.count())
            return Error(Errc::no_space, "the patch is larger than " + request.limit.text(),
                         "Commit or ignore what should not be in it, in the guest.");
        BANGER_TRY(sink(part));
    }
    const ExitStatus status = BANGER_TRY(guest.finish());
    if (!status.is_success())
        return Error(Errc::corrupt,
                     "the guest did not finish the patch: " +
                         (guest.complaint().empty() ? status.text() : guest.complaint()));
    if (total > 0 && head != beginning)
        return Error(Errc::corrupt, "what the guest sent is not a patch");
    return total;
}

}  // namespace banger::workspace
