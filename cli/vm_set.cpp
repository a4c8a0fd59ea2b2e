#include "banger/values.hpp"
#include "cli/commands.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/vm_flags.hpp"

namespace banger::cli {

namespace {

/// "4 vCPU, 8 GiB RAM, 20 GiB disk, NAT": what was asked for, as it now stands.
std::string changed_text(const protocol::SetVm& asked, const protocol::Vm& vm) {
    std::string text;
    const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
    if (asked.vcpus) add(std::to_string(vm.vcpus) + " vCPU");
    if (asked.memory) add(size_text(vm.memory) + " RAM");
    if (asked.disk) add(size_text(vm.disk) + " disk");
    if (asked.nat) add(vm.nat ? "NAT" : "no NAT");
    return text;
}

/// When it holds. A stopped machine has no "now".
std::string when_text(const protocol::SetVmReply& done) {
    if (done.vm.state != "running" && done.vm.state != "paused") return ", from its next start on";
    if (done.pending.empty()) return ", in effect now";
    return ", in effect after: banger vm restart " + done.vm.name;
}

Result<int> set(const Arguments& arguments, Context& context) {
    protocol::SetVm wanted;
    const auto read_flags = [&]() -> Result<void> {
        wanted.vcpus = BANGER_TRY(count_flag(arguments, "vcpu"));
        wanted.memory = BANGER_TRY(size_flag(arguments, "memory"));
        wanted.disk = BANGER_TRY(size_flag(arguments, "disk-size"));
        if (arguments.has("nat") && arguments.has("no-nat"))
            return Error(Errc::invalid_argument, "--nat and --no-nat are opposites",
                         "Give one of them.");
        if (arguments.has("nat")) wanted.nat = true;
        if (arguments.has("no-nat")) wanted.nat = false;
        if (!wanted.vcpus && !wanted.memory && !wanted.disk && !wanted.nat)
            return Error(Errc::invalid_argument, "nothing to change",
                         "Say what, as in: banger vm set " + arguments.words[0] + " --memory 4G");
        return ok();
    };
    const Result<void> read = read_flags();
    if (!read) return usage_error(context, read.error());

    Session session = BANGER_TRY(open_session(context));
    return for_each(
        arguments.words, session, context,
        [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
            protocol::SetVm request = wanted;
            request.vm = name;
            const protocol::SetVmReply done =
                BANGER_TRY(daemon.call<protocol::SetVmReply>("io.banger.Vm.Set", request));
            return done.vm.name + ": " + changed_text(wanted, done.vm) + when_text(done);
        });
}

}  // namespace

void add_vm_set_command(CommandTable& table) {
    table.commands.push_back(
        {"vm",
         "set",
         {},
         "change the size of machines",
         "VM is a name, an id, or the beginning of an id that only one machine has. What is not "
         "given stays. vCPUs, memory and NAT of a running machine change at its next start, and "
         "that "
         "is said. A disk only grows, and only while the machine is stopped; the guest grows its "
         "file "
         "system when it boots. All of it is done, or nothing.",
         {"VM...", 1, Words::many},
         false,
         {{"--vcpu", "N", "virtual CPUs", "", {}},
          {"--memory", "SIZE", "memory: 16G, 512M, 4GiB; a bare number is MiB", "", {}},
          {"--disk-size", "SIZE", "work disk, mounted at /root", "", {}},
          {"--nat", "", "a way out to the Internet", "", {}},
          {"--no-nat", "", "no way out", "", {}}},
         {{"banger vm set sandbox --memory 4G --vcpu 4", "more to work with, after a restart"},
          {"banger vm set sandbox --disk-size 20G", "a larger disk, while it is stopped"}},
         set,
         nullptr});
}

}  // namespace banger::cli
