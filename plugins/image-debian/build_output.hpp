#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/base/child.hpp"

/// Reads what mmdebstrap --verbose, apt and dpkg print for people (in C.UTF-8): how far they are,
/// and afterwards why they failed. The wording is theirs and may change; then progress is coarser
/// and a failure shows their last lines without a better code, and nothing else breaks.
namespace banger::image_debian {

/// Takes standard error in pieces of any size. Not thread-safe.
class BuildOutput {
public:
    /// The newest progress, if these bytes said something new about it.
    std::optional<Progress> add(std::string_view bytes);

    /// Why a build with this status failed: the code that fits, the lines that say so.
    [[nodiscard]] Error explain(const ExitStatus& status) const;

    /// Whether packages themselves failed to unpack: then the cached files may be bad.
    [[nodiscard]] bool blames_packages() const;

private:
    std::optional<Progress> take(std::string_view line);
    std::optional<Progress> take_package_line(std::string_view line);

    enum class Phase { preparing, updating, downloading, installing, finishing };

    std::string partial_;
    std::deque<std::string> last_lines_;
    Phase phase_ = Phase::preparing;
    std::string install_stage_;
    std::uint64_t packages_ = 0;    // of this run of apt
    std::uint64_t steps_done_ = 0;  // two a package: unpack, set up
    std::uint64_t download_size_ = 0;
    std::uint64_t downloaded_ = 0;
};

/// "29.7 MB" as apt writes it → bytes; nothing for what is not a size.
std::optional<std::uint64_t> parse_apt_size(std::string_view text);

}  // namespace banger::image_debian
