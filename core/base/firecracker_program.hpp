#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"

/// Firecracker's programs on this host: bangerd looks whether there is a usable one, which decides
/// the default back end, and the root helper runs it.
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

inline constexpr char install_remedy[] =
    "Install firecracker and jailer of one release from "
    "https://github.com/firecracker-microvm/firecracker/releases to /usr/local/bin, root's, or set "
    "[plugins] vm_backend = \"vmm-qemu\".";

/// Of the first line of `firecracker --version` or `jailer --version`: "Firecracker v1.12.0".
std::optional<Version> parse_version(std::string_view output);

/// A program that root may run: absolute, without links, and no one but root can change it or any
/// folder above.
struct Program {
    std::string path;
    Version version;
    [[nodiscard]] std::string name() const { return path.substr(path.rfind('/') + 1); }
};

/// Where `path` really is, when it is a regular file that is executable, and it and every folder
/// above belong to root (or `trusted_uid`) and are writable by no one else. Errc::not_found,
/// permission_denied with the sentence that says which.
Result<std::string> trusted_program(const std::string& path, std::uint32_t trusted_uid);

/// Runs `REAL --version`; REAL is what trusted_program() said. Errc::unavailable.
Result<Version> version_of(const std::string& real, std::stop_token stop);

/// trusted_program() and version_of().
Result<Program> ask_program(const std::string& path, std::uint32_t trusted_uid,
                            std::stop_token stop);

/// A file name that is safe in a path and that jailer takes: `firecracker` and more of
/// `[A-Za-z0-9._-]`, at most 64.
[[nodiscard]] bool is_program_name(std::string_view name);

/// Asks for the place that is wanted, or, without one, for those where a firecracker lies by
/// custom, and returns the first that is there. Errc::unavailable, with the remedy, when there is
/// none, or when that one is too old or not to be trusted.
Result<Program> find_firecracker(const std::string& wanted,
                                 const std::function<Result<Program>(const std::string&)>& ask);

}  // namespace banger::firecracker
