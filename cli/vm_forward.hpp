#pragma once

#include <functional>
#include <vector>

#include "cli/command.hpp"
#include "cli/interrupts.hpp"
#include "cli/ssh.hpp"

namespace banger::cli {

struct Session;

/// Keeps these ports of the guest at 127.0.0.1 until interrupted or the connection ends; calls
/// `on_connected` once they answer. The exit status. Says what went wrong. In guest_session.cpp.
int forward_ports(Session& session, Context& context, const protocol::Vm& vm,
                  const std::vector<ForwardedPort>& ports,
                  const std::function<void()>& on_connected, Interrupts& interrupts);

void add_vm_forward_command(CommandTable& table);

}  // namespace banger::cli
