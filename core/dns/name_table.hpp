#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "banger/dns.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::dns {

/// Which name has which address now: what the responder answers from. Core's workers write, the I/O
/// thread reads. Safe from any thread; no call blocks for longer than a look into a hash table.
class NameTable {
public:
    /// Adds the machine's record or replaces it. Errc::already_exists for a name that another
    /// machine holds; the table is then as before.
    Result<void> publish(const DnsRecord& record);
    /// Removes the machine's record if there is one.
    void withdraw(const VmId& vm);
    /// Afterwards there are exactly these. Of two records with one name the first one stays.
    void replace(std::span<const DnsRecord> records);

    [[nodiscard]] std::optional<DnsRecord> record(const VmId& vm) const;
    /// By label, which is lower-case as every VmName.
    [[nodiscard]] std::optional<Ipv4Address> find(std::string_view label) const;
    [[nodiscard]] std::size_t size() const;

private:
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const {
            return std::hash<std::string_view>()(text);
        }
    };
    void erase(const VmId& vm);

    mutable std::shared_mutex mutex_;
    std::map<VmId, DnsRecord> records_;
    std::unordered_map<std::string, DnsRecord, Hash, std::equal_to<>> by_name_;
};

}  // namespace banger::dns
