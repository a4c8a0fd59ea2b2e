#include "cli/vm_view.hpp"

#include <algorithm>

#include "cli/render/table.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;

Colour colour_of(const std::string& state) {
    if (state == "running") return Colour::green;
    if (state == "error") return Colour::red;
    if (state == "stopped" || state == "created") return Colour::dim;
    return Colour::yellow;
}

/// A machine that is stopped has a reason only when banger stopped it by itself.
std::string state_text(const protocol::Vm& vm) {
    return vm.state + (vm.state == "stopped" && vm.reason ? " (unused)" : "");
}

std::string sized(const std::string& amount, const protocol::Sized& value, const Style& style) {
    return amount + style(Colour::dim, " (" + printable(value.source) + ")");
}

}  // namespace

std::string vm_table(const std::vector<protocol::Vm>& vms, std::int64_t now, const Style& style,
                     unsigned width) {
    // A column for those who have workspaces: the table is wide enough without.
    const bool has_workspaces =
        std::ranges::any_of(vms, [](const protocol::Vm& vm) { return vm.workspace.has_value(); });
    std::vector<std::string> titles = {"NAME", "STATE",   "IMAGE",   "VCPU", "MEMORY",
                                       "DISK", "ADDRESS", "CREATED", "ID"};
    if (has_workspaces) titles.emplace_back("WORKSPACE");
    Table table(titles);
    for (const protocol::Vm& vm : vms) {
        std::vector<Cell> row = {{vm.name, Colour::bold},
                                 {state_text(vm), colour_of(vm.state)},
                                 vm.image,
                                 std::to_string(vm.vcpus),
                                 size_text(vm.memory),
                                 size_text(vm.disk),
                                 vm.address.value_or("-"),
                                 ago_text(now - vm.created_at),
                                 {vm.id, Colour::dim}};
        if (has_workspaces) row.emplace_back(vm.workspace ? vm.workspace->source : "-");
        table.add(row);
    }
    return table.text(style, width);
}

std::string vm_sheet(const protocol::Vm& vm, std::int64_t now, const Style& style) {
    const auto since = [&](std::int64_t time) {
        return time_text(time) + " (" + ago_text(now - time) + ")";
    };
    Sheet sheet;
    sheet.add("name", {vm.name, Colour::bold});
    sheet.add("id", vm.id);
    sheet.add("state", {vm.state, colour_of(vm.state)});
    sheet.add("reason",
              {vm.reason.value_or(""), vm.state == "stopped" ? Colour::none : Colour::red});
    sheet.add("image", vm.image);
    sheet.add("kernel", vm.kernel);
    sheet.add("vcpu", std::to_string(vm.vcpus));
    sheet.add("memory", size_text(vm.memory));
    sheet.add("disk", size_text(vm.disk) + " at /root");
    sheet.add("root disk", size_text(vm.root));
    sheet.add("nat", vm.nat ? "yes" : "no");
    sheet.add("backend", vm.backend);
    sheet.add("network", vm.network);
    sheet.add("storage", vm.storage);
    sheet.add("address", vm.address.value_or(""));
    if (vm.ssh)
        sheet.add("ssh", vm.ssh->user + "@" + vm.ssh->host + ":" + std::to_string(vm.ssh->port));
    if (vm.pid) sheet.add("pid", std::to_string(*vm.pid));
    sheet.add("created", since(vm.created_at));
    if (vm.started_at) sheet.add("started", since(*vm.started_at));
    if (vm.workspace) {
        const protocol::Workspace& workspace = *vm.workspace;
        std::string from = workspace.source + " at " + workspace.head.substr(0, 10);
        if (workspace.base != workspace.head) from += ", begun at " + workspace.base.substr(0, 10);
        if (!workspace.branch.empty()) from += ", branch " + workspace.branch;
        sheet.add("workspace",
                  workspace.guest_path + (workspace.is_readonly ? " (read-only)" : ""));
        sheet.add("copied from", from + " (" + workspace.mode + ")");
        sheet.add("copied", since(workspace.prepared_at));
    }
    return sheet.text(style);
}

std::string spec_text(const protocol::Plan& plan, const Style& style) {
    std::string text = style(Colour::bold, "spec:") + " " +
                       sized(std::to_string(plan.vcpus.value) + " vCPU", plan.vcpus, style) + ", " +
                       sized(size_text(plan.memory.value) + " RAM", plan.memory, style) + ", " +
                       sized(size_text(plan.disk.value) + " disk", plan.disk, style) + "\n";
    for (const std::string& note : plan.notes)
        text += style(Colour::yellow, "note:") + " " + printable(note) + "\n";
    return text;
}

std::string timings_text(const std::vector<protocol::Timing>& timings,
                         std::chrono::milliseconds total, const Style& style) {
    std::size_t widest = 5;
    std::uint64_t sum = 0;
    for (const protocol::Timing& timing : timings) {
        widest = std::max(widest, width_of(timing.stage));
        sum += timing.milliseconds;
    }
    std::string text = style(Colour::bold, "timings:") + "\n";
    const auto add = [&](const std::string& stage, std::uint64_t milliseconds, Colour colour) {
        const std::string number = std::to_string(milliseconds);
        text += "  " + style(colour, printable(stage));
        text.append(widest - std::min(widest, width_of(stage)) + 2, ' ');
        text.append(8 - std::min<std::size_t>(8, number.size()), ' ');
        text += number + " ms\n";
    };
    for (const protocol::Timing& timing : timings)
        add(timing.stage, timing.milliseconds, Colour::none);
    const auto all = static_cast<std::uint64_t>(total.count());
    add("other", all - std::min(all, sum), Colour::dim);
    add("total", all, Colour::bold);
    return text;
}

}  // namespace banger::cli
