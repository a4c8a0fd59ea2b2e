#include "plugins/net-bridge/link_table.hpp"

namespace banger {

void LinkTable::insert_known(const LinkRecord& record) {
    const std::lock_guard lock(mutex_);
    links_.insert({record.vm, Link{record}});
}

Result<void> LinkTable::reserve(const LinkRecord& record) {
    const std::lock_guard lock(mutex_);
    if (links_.contains(record.vm))
        return Error(Errc::already_exists, "machine " + record.vm.str() + " has a link already",
                     "Stop the machine first.");
    for (const auto& [vm, link] : links_)
        if (link.record.state != LinkRecord::State::leaving &&
            (link.record.address == record.address || link.record.mac == record.mac))
            return Error(Errc::in_use,
                         record.address.text() + " or " + record.mac.text() +
                             " belongs to machine " + vm.str(),
                         "Stop that machine first.");
    BANGER_TRY(ledger_.write(key_of(record.vm), format_link(record)));
    links_.insert({record.vm, Link{record}});
    return ok();
}

Result<void> LinkTable::update(const LinkRecord& record) {
    const std::lock_guard lock(mutex_);
    const auto found = links_.find(record.vm);
    if (found == links_.end())
        return Error(Errc::internal, "machine " + record.vm.str() + " has no link");
    BANGER_TRY(ledger_.write(key_of(record.vm), format_link(record)));
    found->second.record = record;
    return ok();
}

bool LinkTable::leave(const VmId& vm) {
    const std::lock_guard lock(mutex_);
    const auto found = links_.find(vm);
    if (found == links_.end()) return false;
    if (!found->second.is_leaving) found->second.is_in_force = false;
    found->second.is_leaving = true;
    return true;
}

Result<void> LinkTable::erase(const VmId& vm) {
    const std::lock_guard lock(mutex_);
    BANGER_TRY(ledger_.erase(key_of(vm)));
    links_.erase(vm);
    return ok();
}

std::optional<LinkTable::Link> LinkTable::find(const VmId& vm) const {
    const std::lock_guard lock(mutex_);
    const auto found = links_.find(vm);
    return found == links_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<LinkTable::Link> LinkTable::all() const {
    const std::lock_guard lock(mutex_);
    std::vector<Link> all;
    for (const auto& [vm, link] : links_)
        all.push_back(link);
    return all;
}

void LinkTable::note_in_force(const std::vector<Link>& links) {
    const std::lock_guard lock(mutex_);
    for (const Link& then : links) {
        const auto now = links_.find(then.record.vm);
        if (now != links_.end() && now->second.is_leaving == then.is_leaving)
            now->second.is_in_force = true;
    }
}

}  // namespace banger
