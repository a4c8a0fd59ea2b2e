#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "core/base/ledger.hpp"
#include "plugins/net-bridge/link_record.hpp"

namespace banger {

/// The links, as the ledger has them: what changes here is written there first.
///
/// Its lock is held for a moment only. So links are reserved, or named as leaving, while another's
/// change of the host is under way, and the rules of whoever comes next count for all of them: with
/// twenty machines at once the rules are not written forty times. Safe from any thread.
class LinkTable {
public:
    struct Link {
        LinkRecord record;
        bool is_leaving = false;   ///< detach() is at work: no rules for it any more
        bool is_in_force = false;  ///< the packet filter has what this entry asks for
    };

    explicit LinkTable(Ledger& ledger) : ledger_(ledger) {}

    /// From the ledger: nothing is written.
    void insert_known(const LinkRecord& record);
    /// Errc::already_exists for the machine, Errc::in_use for an address that another one has and
    /// can still use.
    Result<void> reserve(const LinkRecord& record);
    /// Of a link that is there.
    Result<void> update(const LinkRecord& record);
    /// False: there is no such link.
    bool leave(const VmId& vm);
    /// "Already gone" is success.
    Result<void> erase(const VmId& vm);

    [[nodiscard]] std::optional<Link> find(const VmId& vm) const;
    [[nodiscard]] std::vector<Link> all() const;
    /// The rules of these, as they were then, are in force.
    void note_in_force(const std::vector<Link>& links);

private:
    Ledger& ledger_;
    mutable std::mutex mutex_;
    std::map<VmId, Link> links_;
};

}  // namespace banger
