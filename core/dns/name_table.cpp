#include "core/dns/name_table.hpp"

#include <mutex>

namespace banger::dns {

Result<void> NameTable::publish(const DnsRecord& record) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    const auto holder = by_name_.find(record.name.str());
    if (holder != by_name_.end() && holder->second.vm != record.vm)
        return Error(
            Errc::already_exists,
            "the name " + record.name.str() + " belongs to machine " + holder->second.vm.str(),
            "Choose another name.");
    erase(record.vm);
    records_.insert_or_assign(record.vm, record);
    by_name_.insert_or_assign(record.name.str(), record);
    return ok();
}

void NameTable::withdraw(const VmId& vm) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    erase(vm);
}

void NameTable::replace(std::span<const DnsRecord> records) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    records_.clear();
    by_name_.clear();
    for (const DnsRecord& record : records)
        if (by_name_.emplace(record.name.str(), record).second)
            records_.insert_or_assign(record.vm, record);
}

std::optional<DnsRecord> NameTable::record(const VmId& vm) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = records_.find(vm);
    return found == records_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<Ipv4Address> NameTable::find(std::string_view label) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = by_name_.find(label);
    return found == by_name_.end() ? std::nullopt : std::optional(found->second.address);
}

std::size_t NameTable::size() const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    return records_.size();
}

void NameTable::erase(const VmId& vm) {
    const auto found = records_.find(vm);
    if (found == records_.end()) return;
    by_name_.erase(found->second.name.str());
    records_.erase(found);
}

}  // namespace banger::dns
