#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/layout.hpp"

namespace banger::system {

/// /etc/banger/install.toml: what an installation did, so that the next one and `uninstall` know.
/// Written before the things that it names are made; erased last.
struct InstallRecord {
    uid_t owner_uid = 0;
    gid_t owner_gid = 0;
    std::string version;
    std::string commit;
    /// Lingering of the owner was off before, and is ours to switch off again.
    bool enabled_linger = false;
    std::vector<std::string> plugins;  ///< names of those that came with this version

    friend bool operator==(const InstallRecord&, const InstallRecord&) = default;
    [[nodiscard]] std::string text() const;
    /// Errc::corrupt, with the line. Unknown keys are ignored: a newer version may have written it.
    static Result<InstallRecord> parse(std::string_view text, const std::string& file);
};

/// Nothing where there is no installation.
Result<std::optional<InstallRecord>> read_install_record(const Layout& layout);

}  // namespace banger::system
