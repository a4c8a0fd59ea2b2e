#include "cli/vm_forward.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <set>

#include "banger/unique_fd.hpp"
#include "cli/commands.hpp"
#include "cli/guest_session.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"

namespace banger::cli {

namespace {

std::optional<std::uint16_t> port_number(std::string_view text) {
    std::uint16_t port = 0;
    const char* const end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, port);
    if (error != std::errc() || at != end || port == 0) return std::nullopt;
    return port;
}

/// "3000", or "8080:3000" for a port of another number on this host.
std::optional<ForwardedPort> forwarded_port(std::string_view word) {
    const std::size_t colon = word.find(':');
    const std::optional<std::uint16_t> host = port_number(word.substr(0, colon));
    const std::optional<std::uint16_t> guest =
        colon == word.npos ? host : port_number(word.substr(colon + 1));
    if (!host || !guest) return std::nullopt;
    return ForwardedPort{*host, *guest};
}

Result<std::vector<ForwardedPort>> forwarded_ports(const Arguments& arguments) {
    std::vector<ForwardedPort> ports;
    std::set<std::uint16_t> taken;
    for (std::size_t i = 1; i < arguments.words.size(); ++i) {
        const std::string& word = arguments.words[i];
        const std::optional<ForwardedPort> port = forwarded_port(word);
        if (!port)
            return Error(Errc::invalid_argument, "\"" + printable(word) + "\" is not a port",
                         "Give that of the guest, or HOST:GUEST, as in 8080:80.");
        if (!taken.insert(port->host).second)
            return Error(Errc::invalid_argument,
                         "port " + std::to_string(port->host) + " of this host is given twice",
                         "Give one of them another, as in 8080:80.");
        ports.push_back(*port);
    }
    return ports;
}

/// Asked before ssh is, whose own answer is three lines that name no way out.
Result<void> check_is_free(const ForwardedPort& port, const std::string& vm) {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port.host);
    if (!socket) return Error::from_errno(errno, "making a socket");
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return ok();
    const int number = errno;
    const std::string name = "port " + std::to_string(port.host);
    const std::string other =
        std::to_string(port.host < 1024 ? port.host + 8000 : port.host % 65535 + 1);
    const std::string remedy =
        "Take another: banger vm forward " + vm + " " + other + ":" + std::to_string(port.guest);
    if (number == EADDRINUSE) return Error(Errc::in_use, name + " of this host is taken", remedy);
    if (number == EACCES)
        return Error(Errc::permission_denied, name + " of this host is root's to take", remedy);
    return Error::from_errno(number, "taking " + name);
}

Result<int> forward(const Arguments& arguments, Context& context) {
    const Result<std::vector<ForwardedPort>> ports = forwarded_ports(arguments);
    if (!ports) return usage_error(context, ports.error());
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<protocol::VmReply> found = session.daemon.call<protocol::VmReply>(
        "io.banger.Vm.Show", protocol::NamedVm{arguments.words[0]}, {.stop_fd = interrupts.fd()});
    if (!found) return report_failure(found.error(), context, interrupts, "cancelled", exit_failed);
    const protocol::Vm& vm = found->vm;
    for (const ForwardedPort& port : *ports)
        BANGER_TRY(check_is_free(port, vm.name));
    Terminal& terminal = context.terminal;
    const auto tell = [&] {
        for (const ForwardedPort& port : *ports)
            terminal.out("127.0.0.1:" + std::to_string(port.host) + " -> " + vm.name + ":" +
                         std::to_string(port.guest) + "\n");
        if (!arguments.has("quiet")) terminal.note("Until Ctrl-C.\n");
    };
    return forward_ports(session, context, vm, *ports, tell, interrupts);
}

}  // namespace

void add_vm_forward_command(CommandTable& table) {
    table.commands.push_back(
        {"vm",
         "forward",
         {},
         "reach ports of a machine at 127.0.0.1",
         "Until Ctrl-C, connections to PORT of this host's 127.0.0.1 arrive at that TCP port in "
         "the "
         "guest, over ssh; HOST:GUEST when the two numbers differ. Also reaches what listens on "
         "the "
         "guest's loopback alone. `banger vm ports` shows what listens.",
         {"VM PORT...", 2, Words::many},
         false,
         {quiet_option("print nothing but the ports")},
         {{"banger vm forward sandbox 3000", "then open http://127.0.0.1:3000"},
          {"banger vm forward sandbox 8080:80 5432", "two ports, one by another number"}},
         forward,
         nullptr});
}

}  // namespace banger::cli
