#include "plugins/vmm-firecracker/record.hpp"

#include <charconv>

#include "core/base/firecracker_program.hpp"

namespace banger::firecracker {

namespace {

Error corrupt() {
    return {Errc::corrupt, "a machine's entry in the ledger is damaged",
            "End the machine with `banger vm kill`."};
}

/// The value of the next line, when that is its name.
std::optional<std::string_view> take(std::string_view& text, std::string_view name) {
    const std::size_t end = text.find('\n');
    if (end == text.npos || !text.starts_with(name) || text.size() <= name.size() ||
        text[name.size()] != ' ')
        return {};
    const std::string_view value = text.substr(name.size() + 1, end - name.size() - 1);
    text.remove_prefix(end + 1);
    return value;
}

template <class Number>
std::optional<Number> number_in(std::optional<std::string_view> text) {
    Number number{};
    if (!text) return {};
    const auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), number);
    if (status != std::errc() || end != text->data() + text->size()) return {};
    return number;
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
    const auto uid = number_in<std::uint32_t>(take(text, "uid"));
    const auto program = take(text, "program");
    const auto limit = number_in<std::uint64_t>(take(text, "console_limit"));
    if (!uid || !program || !is_program_name(*program) || !limit) return corrupt();
    Record record{*uid, std::string(*program), ByteCount::bytes(*limit), {}};
    if (text.empty()) return record;
    const auto pid = number_in<std::int64_t>(take(text, "pid"));
    const auto start = number_in<std::uint64_t>(take(text, "start_time"));
    if (!pid || *pid <= 1 || !start || !text.empty()) return corrupt();
    record.process = ProcessId{*pid, *start};
    return record;
}

}  // namespace banger::firecracker
