#include "plugins/vmm-firecracker/record.hpp"

#include "core/base/firecracker_program.hpp"
#include "plugins/vmm-firecracker/lines.hpp"

namespace banger::firecracker {

namespace {

Error corrupt() {
    return {Errc::corrupt, "a machine's entry in the ledger is damaged",
            "End the machine with `banger vm kill`."};
}

}  // namespace

std::string encode(const Record& record) {
    std::string text = "uid " + std::to_string(record.uid) + "\nprogram " + record.program +
                       "\nconsole_limit " + std::to_string(record.console_limit.count()) + "\n";
    if (record.process)
        text += "pid " + std::to_string(record.process->pid) + "\nstart_time " +
                std::to_string(record.process->start_time) + "\n";
    return text;
}

Result<Record> decode_record(std::string_view text) {
    const auto uid = take_number<std::uint32_t>(text, "uid");
    const auto program = take(text, "program");
    const auto limit = take_number<std::uint64_t>(text, "console_limit");
    if (!uid || !program || !is_program_name(*program) || !limit) return corrupt();
    Record record{*uid, std::string(*program), ByteCount::bytes(*limit), {}};
    if (text.empty()) return record;
    const auto pid = take_number<std::int64_t>(text, "pid");
    const auto start = take_number<std::uint64_t>(text, "start_time");
    if (!pid || *pid <= 1 || !start || !text.empty()) return corrupt();
    record.process = ProcessId{*pid, *start};
    return record;
}

}  // namespace banger::firecracker
