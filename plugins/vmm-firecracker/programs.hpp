#pragma once

#include <compare>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/result.hpp"

namespace banger::firecracker {

struct Version {
    unsigned major = 0;
    unsigned minor = 0;
    [[nodiscard]] std::string text() const;  ///< "1.12"
    friend auto operator<=>(const Version&, const Version&) = default;
};

/// The first that describes its devices to the guest by ACPI, which is how Debian's kernels find
/// them (docs/decisions/0015-firecracker.md).
inline constexpr Version oldest_version{1, 8};
/// The newest that banger was tried with. A newer one is used, and doctor says so.
inline constexpr Version newest_tried{1, 12};

/// Of the first line of `firecracker --version` or `jailer --version`: "Firecracker v1.12.0".
std::optional<Version> parse_version(std::string_view output);

/// A program that root may run: absolute, without links, and no one but root can change it or any
/// folder above.
struct Program {
    std::string path;
    Version version;
    [[nodiscard]] std::string name() const { return path.substr(path.rfind('/') + 1); }
};

struct Programs {
    Program firecracker;
    /// Nothing when there is none, or none of the same version; `why_no_jailer` says which.
    std::optional<Program> jailer;
    std::string why_no_jailer;
};

/// Where `path` really is, when it is a regular file that is executable, and it and every folder
/// above belong to root (or `trusted_uid`) and are writable by no one else. Errc::not_found,
/// permission_denied with the sentence that says which.
Result<std::string> trusted_program(const std::string& path, std::uint32_t trusted_uid);

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
    Result<Program> find_firecracker(const Settings& settings, std::stop_token stop);
    void add_jailer(const Settings& settings, Programs& programs, std::stop_token stop);

    const std::uint32_t trusted_uid_;
    std::mutex mutex_;
    std::optional<Known> firecracker_;
    std::optional<Known> jailer_;
};

}  // namespace banger::firecracker
