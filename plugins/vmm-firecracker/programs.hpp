#pragma once

#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/base/firecracker_program.hpp"

namespace banger::firecracker {

/// The newest that banger was tried with. A newer one is used, and doctor says so.
inline constexpr Version newest_tried{1, 12};

struct Programs {
    Program firecracker;
    /// Nothing when there is none, or none of the same version; `why_no_jailer` says which.
    std::optional<Program> jailer;
    std::string why_no_jailer;
};

/// Finds the programs that the settings name, and asks them for their version. What a file said is
/// kept as long as it is the same file, so only the first call runs programs. Safe from any thread.
class ProgramFinder {
public:
    /// `trusted_uid`: for tests. In the helper it is root's.
    explicit ProgramFinder(std::uint32_t trusted_uid = 0) : trusted_uid_(trusted_uid) {}
    /// Errc::unavailable with the remedy when there is no usable firecracker.
    Result<Programs> find(const Settings& settings, std::stop_token stop);

private:
    struct Known {
        std::string path;
        std::string stamp;
        Version version;
    };
    Result<Program> ask(const std::string& path, std::optional<Known>& known, std::stop_token stop);
    void add_jailer(const Settings& settings, Programs& programs, std::stop_token stop);

    const std::uint32_t trusted_uid_;
    std::mutex mutex_;
    std::optional<Known> firecracker_;
    std::optional<Known> jailer_;
};

}  // namespace banger::firecracker
