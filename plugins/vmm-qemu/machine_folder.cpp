#include "plugins/vmm-qemu/machine_folder.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

#include "core/base/file.hpp"

namespace banger::qemu {

namespace {

/// The next word up to `end_mark`, taken off the front.
std::optional<std::string_view> take_until(std::string_view& text, char end_mark) {
    const std::size_t end = text.find(end_mark);
    if (end == text.npos) return std::nullopt;
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end + 1);
    return word;
}

template <class Number>
std::optional<Number> take_number(std::string_view& text, char end_mark) {
    const std::optional<std::string_view> word = take_until(text, end_mark);
    if (!word) return std::nullopt;
    Number number{};
    const auto [at, error] = std::from_chars(word->data(), word->data() + word->size(), number);
    if (error != std::errc() || at != word->data() + word->size()) return std::nullopt;
    return number;
}

Error corrupt_record() {
    return {Errc::corrupt, "a machine's record in the run folder is damaged",
            "Kill the machine with `banger vm kill`."};
}

}  // namespace

MachinePaths::MachinePaths(const Host& host, const VmId& vm)
    : run_folder(host.run_folder() + "/" + vm.str()),
      record(run_folder + "/record"),
      qmp_socket(run_folder + "/qmp"),
      agent_socket(run_folder + "/agent"),
      state_folder(host.state_folder() + "/" + vm.str()),
      console(state_folder + "/console.log"),
      complaints(state_folder + "/qemu.log") {}

std::string format_record(const MachineRecord& record) {
    std::string text = "vm " + record.vm.str() + "\nconsole_limit " +
                       std::to_string(record.console_limit.count()) + "\n";
    if (record.process)
        text += "process " + std::to_string(record.process->pid) + " " +
                std::to_string(record.process->start_time) + "\n";
    return text;
}

Result<MachineRecord> parse_record(std::string_view text) {
    if (take_until(text, ' ') != "vm") return corrupt_record();
    const std::optional<std::string_view> id = take_until(text, '\n');
    if (!id) return corrupt_record();
    const Result<VmId> vm = VmId::parse(*id);
    if (!vm || take_until(text, ' ') != "console_limit") return corrupt_record();
    const std::optional<std::uint64_t> limit = take_number<std::uint64_t>(text, '\n');
    if (!limit) return corrupt_record();
    MachineRecord record{*vm, std::nullopt, ByteCount::bytes(*limit)};
    if (text.empty()) return record;
    if (take_until(text, ' ') != "process") return corrupt_record();
    const std::optional<std::int64_t> pid = take_number<std::int64_t>(text, ' ');
    const std::optional<std::uint64_t> start = take_number<std::uint64_t>(text, '\n');
    if (!pid || *pid <= 0 || !start || !text.empty()) return corrupt_record();
    record.process = ProcessId{*pid, *start};
    return record;
}

Result<void> write_record(const MachinePaths& paths, const MachineRecord& record) {
    // No fsync: after a power cut there is no process that the record could tell of.
    const std::string temporary = paths.record + ".new";
    {
        const UniqueFd fd(
            ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) return Error::from_errno(errno, "open " + temporary);
        BANGER_TRY(write_all(fd.get(), format_record(record)).context("writing " + temporary));
    }
    if (::rename(temporary.c_str(), paths.record.c_str()) != 0)
        return Error::from_errno(errno, "rename to " + paths.record);
    return ok();
}

Result<MachineRecord> read_record(const MachinePaths& paths) {
    const std::string text = BANGER_TRY(read_file(paths.record, ByteCount::kib(4)));
    return parse_record(text);
}

Result<std::vector<VmId>> machines_in(const std::string& folder) {
    std::vector<VmId> machines;
    const Result<std::vector<std::string>> names = list_folder(folder);
    if (!names) {
        if (names.error().code == Errc::not_found) return machines;
        return names.error();
    }
    for (const std::string& name : *names)
        if (Result<VmId> vm = VmId::parse(name)) machines.push_back(*std::move(vm));
    return machines;
}

}  // namespace banger::qemu
