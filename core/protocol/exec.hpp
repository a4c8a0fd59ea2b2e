#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// The structs of Exec in io.banger.Vm.varlink, name for name.
namespace banger::protocol {

struct TerminalSize {
    std::uint16_t rows = 0;
    std::uint16_t columns = 0;
};
struct ExecInVm {
    std::string vm;
    std::optional<std::vector<std::string>> command;
    bool is_run = false;
    std::optional<std::vector<std::string>> entrypoint;
    std::vector<std::string> environment;
    std::optional<std::string> folder;
    std::optional<std::string> user;
    std::optional<TerminalSize> terminal;
};
struct ExecInVmReply {
    std::uint32_t window = 0;
};

}  // namespace banger::protocol
