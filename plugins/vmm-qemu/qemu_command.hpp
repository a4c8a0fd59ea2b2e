#pragma once

#include <optional>
#include <string>
#include <vector>

#include "banger/vm_backend.hpp"
#include "core/base/child.hpp"

/// QEMU's command line as a value: built and tested without QEMU.
namespace banger::qemu {

/// Everything of the host that goes into the command line beside the MachineSpec.
struct HostPart {
    std::string program;
    bool use_kvm = false;
    /// No memory of ours may be writable and executable at once: the translator maps its code
    /// twice.
    bool split_code = false;
    /// Listening unix sockets that QEMU inherits; it accepts on them. Because we listen before
    /// QEMU exists, connecting needs no waiting for a file to appear.
    int qmp_listener = -1;
    int agent_listener = -1;
    std::string console_path;
    /// Open for appending; QEMU's own complaints.
    int standard_error = -1;
};

/// The name of the agent's virtio-serial port: /dev/virtio-ports/banger.agent in a guest with udev.
inline constexpr char agent_port_name[] = "banger.agent";
/// Virtio-blk serial numbers are at most this long (virtio 1.2, section 5.2.6).
inline constexpr std::size_t max_serial = 20;
/// Without an interrupt remapping unit the q35 machine addresses this many.
inline constexpr std::uint32_t max_vcpus = 255;

/// Refuses a spec that QEMU would misunderstand or that could smuggle an option into its command
/// line. Errc::invalid_argument or unsupported, with the remedy. Looks at nothing but the spec.
Result<void> check_spec(const MachineSpec& spec);

/// The command that runs the machine. The spec has passed check_spec().
Command build_command(const MachineSpec& spec, const HostPart& host);

/// Whether what `qemu --version` says is 7.2 or later, the first that has every option used here.
bool is_recent_enough(std::string_view version_line);

/// What the last lines that QEMU wrote mean for the caller. Foreign text; the message carries the
/// lines themselves.
Error explain_failure(std::string_view standard_error, std::string_view what);

}  // namespace banger::qemu
