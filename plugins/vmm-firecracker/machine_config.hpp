#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/vm_backend.hpp"

/// The one file that Firecracker is started with (--config-file). Pure: text out of values.
namespace banger::firecracker {

inline constexpr std::uint32_t max_vcpus = 32;  ///< swagger: MachineConfiguration.vcpu_count

/// Names inside the jail, where Firecracker's root is.
inline constexpr std::string_view config_name = "config.json";
inline constexpr std::string_view kernel_name = "vmlinux";
inline constexpr std::string_view initramfs_name = "initramfs";
inline constexpr std::string_view log_name = "firecracker.log";
inline constexpr std::string_view sockets_folder = "run";
inline constexpr std::string_view api_socket = "run/api.sock";
inline constexpr std::string_view vsock_socket = "run/vsock.sock";
/// Where Firecracker writes a snapshot: the one folder in which it may.
inline constexpr std::string_view saved_state = "run/saved.state";
inline constexpr std::string_view saved_memory = "run/saved.memory";
/// What it is restored from; made before it starts.
inline constexpr std::string_view restored_state = "restored.state";
inline constexpr std::string_view restored_memory = "restored.memory";

/// The node of the disk with this serial: "disk-root".
std::string disk_name(std::string_view serial);

/// Limits from the plugin's settings; 0 is none.
struct Bandwidth {
    std::uint64_t disk_mib = 0;
    std::uint64_t network_mib = 0;
};

/// Errc::invalid_argument, unsupported for a machine that Firecracker cannot run, or whose words
/// could not be told apart on the kernel's command line.
Result<void> check_spec(const MachineSpec& spec);

/// What the guest's kernel is told beside the spec's own words: how to end (the VMM ends when the
/// guest reboots, and knows no power-off), that there is no PCI, one serial port and hardly a
/// keyboard, and which disk is which, because Firecracker's disks have no serial that anybody could
/// choose.
std::string command_line(const MachineSpec& spec);

/// The file's text. The spec went through check_spec().
std::string machine_config(const MachineSpec& spec, const Bandwidth& bandwidth);

}  // namespace banger::firecracker
