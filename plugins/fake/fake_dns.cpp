#include "fake_dns.hpp"

#include <algorithm>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {
constexpr const char* route_file = "route";
constexpr ByteCount max_record = ByteCount::kib(1);
}  // namespace

std::optional<FakeDns::Published> FakeDns::find(const VmName& name) const {
    const Result<std::vector<std::string>> files = list_folder(folder_);
    if (!files) return std::nullopt;
    for (const std::string& vm : *files) {
        const Result<std::string> text = read_file(folder_ + "/" + vm, max_record);
        if (!text || vm == route_file) continue;
        const std::size_t space = text->find(' ');
        if (space == text->npos || text->substr(0, space) != name.str()) continue;
        if (const Result<Ipv4Address> address = Ipv4Address::parse(text->substr(space + 1)))
            return Published{vm, *address};
    }
    return std::nullopt;
}

std::optional<Ipv4Address> FakeDns::lookup(const VmName& name) const {
    const std::optional<Published> found = find(name);
    return found ? std::optional(found->address) : std::nullopt;
}

Result<void> FakeDns::route(const DnsZone& zone, std::stop_token stop) {
    BANGER_TRY(failpoints_.pass("dns.route", stop));
    return write_file_atomic(folder_ + "/" + route_file,
                             zone.zone + " " + zone.server.text() + ":" + std::to_string(zone.port),
                             0600);
}

Result<void> FakeDns::unroute() {
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(folder_)))
        errors.add(remove_file(folder_ + "/" + name));
    return errors.result();
}

Result<void> FakeDns::publish(const DnsRecord& record, std::stop_token stop) {
    if (const std::optional<Published> holder = find(record.name);
        holder && holder->vm != record.vm.str())
        return Error(Errc::already_exists,
                     "the name " + record.name.str() + " belongs to machine " + holder->vm,
                     "Choose another name.");
    BANGER_TRY(failpoints_.pass("dns.publish", stop));
    return write_file_atomic(file_of(record.vm), record.name.str() + " " + record.address.text(),
                             0600);
}

Result<void> FakeDns::withdraw(const VmId& vm) { return remove_file(file_of(vm)); }

Result<void> FakeDns::recover(std::span<const DnsRecord> remembered) {
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(folder_)))
        if (name != route_file) errors.add(remove_file(folder_ + "/" + name));
    for (const DnsRecord& record : remembered)
        errors.add(publish(record, {}));
    return errors.result();
}

std::vector<Check> FakeDns::checks(std::stop_token) {
    return {{"fake dns", CheckStatus::pass, "records are files in " + folder_, ""}};
}

}  // namespace banger
