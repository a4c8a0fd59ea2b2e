#pragma once

#include "core/protocol/exec.hpp"
#include "core/rpc/fields.hpp"

/// How they are spelled on the wire.
namespace banger::rpc {

template <>
struct Fields<protocol::TerminalSize> {
    static constexpr auto list = fields(field("rows", &protocol::TerminalSize::rows),
                                        field("columns", &protocol::TerminalSize::columns));
};

template <>
struct Fields<protocol::ExecInVm> {
    static constexpr auto list = fields(
        field("vm", &protocol::ExecInVm::vm), field("command", &protocol::ExecInVm::command),
        field("is_run", &protocol::ExecInVm::is_run),
        field("entrypoint", &protocol::ExecInVm::entrypoint),
        field("environment", &protocol::ExecInVm::environment),
        field("folder", &protocol::ExecInVm::folder), field("user", &protocol::ExecInVm::user),
        field("terminal", &protocol::ExecInVm::terminal));
};

template <>
struct Fields<protocol::ExecInVmReply> {
    static constexpr auto list = fields(field("window", &protocol::ExecInVmReply::window));
};

}  // namespace banger::rpc
