#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "core/rpc/message.hpp"
#include "daemons/plugin-host/plugin_host.hpp"

namespace {

using namespace banger;

/// A number of a descriptor that bangerd left open to us.
int read_number(const char* text) {
    int number = -1;
    const std::string_view word = text;
    const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), number);
    return status == std::errc() && end == word.data() + word.size() && number > 2 ? number : -1;
}

/// Puts both where every plugin finds them, whatever they were.
bool place(int calls, int core) {
    const int moved_calls = ::fcntl(calls, F_DUPFD_CLOEXEC, plugin_host::core_fd + 1);
    const int moved_core = ::fcntl(core, F_DUPFD_CLOEXEC, plugin_host::core_fd + 1);
    return moved_calls >= 0 && moved_core >= 0 &&
           ::dup3(moved_calls, plugin_host::calls_fd, O_CLOEXEC) >= 0 &&
           ::dup3(moved_core, plugin_host::core_fd, O_CLOEXEC) >= 0 &&
           ::close_range(plugin_host::core_fd + 1, ~0U, 0) == 0;
}

}  // namespace

int main(int count, char** words) {
    const int calls_number = count == 3 ? read_number(words[1]) : -1;
    const int core_number = count == 3 ? read_number(words[2]) : -1;
    if (calls_number < 0 || core_number < 0 || !place(calls_number, core_number)) {
        std::fputs("banger-plugin-host: bangerd starts it for each plugin of a third party\n",
                   stderr);
        return 2;
    }
    ::umask(0077);
    std::signal(SIGPIPE, SIG_IGN);
    // Each arena reserves 64 MiB of the address space, which is limited.
    ::mallopt(M_ARENA_MAX, 2);
    rpc::PacketChannel calls{UniqueFd(plugin_host::calls_fd)};
    const Result<void> result =
        plugin_host::run_plugin(calls, rpc::PacketChannel(UniqueFd(plugin_host::core_fd)));
    if (result) return 0;
    const Result<std::string> text =
        rpc::write_message(rpc::failed_reply("banger", result.error()));
    if (text)
        static_cast<void>(
            calls.send(*text, {}, std::chrono::steady_clock::now() + std::chrono::seconds(10)));
    // bangerd ends us when it has read that. A socket that is closed with something unread in it
    // takes what it has sent along.
    while (calls.receive(std::chrono::steady_clock::now() + std::chrono::seconds(10), {})) {
    }
    // Without destructors: the plugin's library may have left threads.
    std::fflush(nullptr);
    ::_exit(0);
}
