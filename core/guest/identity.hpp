#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

/// What makes a booted image this machine: name, network, keys, files.
///
/// The host encodes a GuestIdentity into a few members of a small archive
/// (core/images/initramfs.hpp writes it) that the boot loader appends to the initramfs. The init in
/// the initramfs decodes it and applies it to the mounted root before it hands over. So no host
/// process ever parses or patches a guest's file system, and no guest needs anything from its
/// image.
///
/// Both directions live here, so that one field is spelled in one place. Decoding is strict: an
/// unknown field, a missing one, a wrong type and a value out of range are errors, because host and
/// guest always come from the same build, and a difference means that they do not.
namespace banger::guest {

/// Where the members lie in the initramfs.
inline constexpr std::string_view identity_path = "banger/vm.json";
inline constexpr std::string_view files_folder = "banger/files/";
/// Larger files go through the agent: an initramfs lives in RAM.
inline constexpr std::size_t max_files_bytes = 8U << 20;

/// The one network interface. Configured by init itself, statically, before the hand-over.
struct GuestNetwork {
    MacAddress mac;
    Ipv4Prefix address;  ///< slirp's is 10.0.2.15/24
    Ipv4Address gateway;
    std::vector<Ipv4Address> name_servers;
    friend bool operator==(const GuestNetwork&, const GuestNetwork&) = default;
};

/// Written on the first boot only: what the owner changes later stays changed.
struct GuestFile {
    std::string path;           ///< absolute in the guest, no "..", no "." and no empty component
    std::uint32_t mode = 0644;  ///< permission bits, at most 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::string content;
    /// A folder, which `mode` and owner are of; `content` is empty then. Made before what follows.
    bool is_folder = false;
    friend bool operator==(const GuestFile&, const GuestFile&) = default;
};

/// See core/guest/ssh_host_key.hpp.
struct SshHostKey {
    std::string private_key;  ///< "-----BEGIN OPENSSH PRIVATE KEY-----" … with the final newline
    std::string public_key;   ///< "ssh-ed25519 AAAA… name" without newline
    friend bool operator==(const SshHostKey&, const SshHostKey&) = default;
};

/// Goes to /root/.gitconfig on the first boot, unless the image has one.
struct GitIdentity {
    std::string name;
    std::string email;
    friend bool operator==(const GitIdentity&, const GitIdentity&) = default;
};

struct GuestIdentity {
    VmId vm;
    VmName name;             ///< also the host name
    std::string machine_id;  ///< 32 lower-case hexadecimal digits: new_machine_id()
    /// Nothing: only the loopback interface comes up.
    std::optional<GuestNetwork> network;
    /// One line each. Lines that are missing from /root/.ssh/authorized_keys are added at every
    /// boot.
    std::vector<std::string> authorized_keys;
    /// Nothing: the image's own host keys stay (only for images that are nobody else's).
    std::optional<SshHostKey> ssh_host_key;
    std::vector<GuestFile> files;
    std::optional<GitIdentity> git;
    /// Grow the root and work file systems to the size of their disks.
    bool grow_disks = true;
    friend bool operator==(const GuestIdentity&, const GuestIdentity&) = default;
};

/// One regular file of the archive, root's, mode 0600.
struct ArchiveMember {
    std::string path;  ///< relative to the root of the initramfs
    std::string content;
};

/// Random, as machine-id(5) wants it: version 4, variant 1 of RFC 4122.
std::string new_machine_id();

/// vm.json first, then the content of each file as "banger/files/N". Checks the same things as
/// decoding does, so that a bad path or key is an error on the host, where somebody reads it:
/// Errc::invalid_argument. Files over max_files_bytes together are Errc::no_space.
Result<std::vector<ArchiveMember>> encode_identity(const GuestIdentity& identity);

/// The reverse, from the text of vm.json. The content of files is read by `read_member` (given
/// "banger/files/N"), which the guest answers from its initramfs. Errc::corrupt.
Result<GuestIdentity> decode_identity(
    std::string_view vm_json,
    const std::function<Result<std::string>(std::string_view member)>& read_member);

}  // namespace banger::guest
