#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "cli/render/terminal.hpp"
#include "core/protocol/vm.hpp"

/// Machines as text. Pure.
namespace banger::cli {

std::string vm_table(const std::vector<protocol::Vm>& vms, std::int64_t now, const Style& style,
                     unsigned width);
std::string vm_sheet(const protocol::Vm& vm, std::int64_t now, const Style& style);

/// "spec: 2 vCPU (default), 2 GiB RAM (host), 8 GiB disk (flag)" and a line for each note.
std::string spec_text(const protocol::Plan& plan, const Style& style);

/// What `--timings` prints: a line a stage, what of `total` none of them accounts for, and the
/// total.
std::string timings_text(const std::vector<protocol::Timing>& timings,
                         std::chrono::milliseconds total, const Style& style);

}  // namespace banger::cli
