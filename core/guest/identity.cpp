#include "core/guest/identity.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>

#include "core/guest/json_reader.hpp"

namespace banger::guest {

using nlohmann::json;

namespace {

constexpr std::size_t max_keys = 64;
constexpr std::size_t max_files = 4096;
constexpr std::size_t max_name_servers = 3;  // MAXNS of resolv.conf(5)
constexpr int identity_depth = 6;

bool is_one_line(std::string_view text, std::size_t max) {
    return !text.empty() && text.size() <= max &&
           std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

bool is_plain_path(std::string_view path) {
    if (path.size() < 2 || path.size() > 4000 || path.front() != '/') return false;
    if (path.find('\0') != std::string_view::npos) return false;
    for (std::size_t from = 1; from <= path.size();) {
        const std::size_t to = std::min(path.find('/', from), path.size());
        const std::string_view component = path.substr(from, to - from);
        if (component.empty() || component == "." || component == ".." || component.size() > 255)
            return false;
        from = to + 1;
    }
    return true;
}

bool is_machine_id(std::string_view text) {
    return text.size() == 32 && std::ranges::all_of(text, [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

Result<void> check(const GuestIdentity& identity) {
    if (!is_machine_id(identity.machine_id))
        return Error(Errc::invalid_argument, "the machine id is not 32 hexadecimal digits");
    if (identity.network && identity.network->name_servers.size() > max_name_servers)
        return Error(Errc::invalid_argument, "a machine can have at most three name servers");
    if (identity.authorized_keys.size() > max_keys || identity.files.size() > max_files)
        return Error(Errc::invalid_argument, "too many keys or files for one machine");
    for (const std::string& key : identity.authorized_keys) {
        if (!is_one_line(key, 16384))
            return Error(Errc::invalid_argument, "an authorized key is not one line of text");
    }
    if (identity.ssh_host_key && (!is_one_line(identity.ssh_host_key->public_key, 16384) ||
                                  identity.ssh_host_key->private_key.empty()))
        return Error(Errc::invalid_argument, "the ssh host key is not a key");
    if (identity.git &&
        (!is_one_line(identity.git->name, 1024) || !is_one_line(identity.git->email, 1024)))
        return Error(Errc::invalid_argument, "the git identity is not one line of text each");
    std::size_t total = 0;
    for (const GuestFile& file : identity.files) {
        if (!is_plain_path(file.path))
            return Error(Errc::invalid_argument,
                         "\"" + file.path + "\" is not an absolute path without \"..\"");
        if (file.mode > 07777)
            return Error(Errc::invalid_argument, "the mode of " + file.path + " is out of range");
        if (file.is_folder && !file.content.empty())
            return Error(Errc::invalid_argument, file.path + " is a folder with content");
        total += file.content.size();
    }
    if (total > max_files_bytes)
        return Error(Errc::no_space, "the files for the machine are over 8 MiB together",
                     "Copy large files into the running machine instead.");
    return {};
}

json network_to_json(const GuestNetwork& network) {
    json servers = json::array();
    for (const Ipv4Address& server : network.name_servers)
        servers.push_back(server.text());
    return {{"mac", network.mac.text()},
            {"address", network.address.text()},
            {"gateway", network.gateway.text()},
            {"name_servers", std::move(servers)}};
}

Result<GuestNetwork> network_from_json(const json& value) {
    ObjectReader reader(value, "network");
    const std::string mac = reader.string("mac");
    const std::string address = reader.string("address");
    const std::string gateway = reader.string("gateway");
    const json& servers = reader.array("name_servers", max_name_servers);
    BANGER_TRY(reader.finish(true));
    GuestNetwork network{.mac = BANGER_TRY(MacAddress::parse(mac)),
                         .address = BANGER_TRY(Ipv4Prefix::parse(address)),
                         .gateway = BANGER_TRY(Ipv4Address::parse(gateway)),
                         .name_servers = {}};
    for (const json& server : servers) {
        if (!server.is_string()) return Error(Errc::corrupt, "a name server is not a string");
        network.name_servers.push_back(
            BANGER_TRY(Ipv4Address::parse(server.get_ref<const std::string&>())));
    }
    return network;
}

using ReadMember = std::function<Result<std::string>(std::string_view member)>;

Result<GuestFile> file_from_json(const json& value, const ReadMember& read_member) {
    ObjectReader reader(value, "file");
    GuestFile file;
    file.path = reader.string("path");
    file.mode = static_cast<std::uint32_t>(reader.integer("mode", 07777));
    file.uid = static_cast<std::uint32_t>(reader.integer("uid", 0xffffffff));
    file.gid = static_cast<std::uint32_t>(reader.integer("gid", 0xffffffff));
    // A file has a member; a folder has none.
    const json* const member_value = reader.optional("member");
    BANGER_TRY(reader.finish(true));
    if (!member_value) {
        file.is_folder = true;
        return file;
    }
    if (!member_value->is_string()) return Error(Errc::corrupt, "a file's member is not a string");
    const std::string& member = member_value->get_ref<const std::string&>();
    if (!member.starts_with(files_folder) ||
        member.find_first_not_of("0123456789", files_folder.size()) != std::string::npos)
        return Error(Errc::corrupt, "a file's member is not below " + std::string(files_folder));
    file.content = BANGER_TRY(read_member(member));
    return file;
}

Result<SshHostKey> host_key_from_json(const json& value) {
    ObjectReader reader(value, "ssh_host_key");
    SshHostKey key{.private_key = reader.string("private_key"),
                   .public_key = reader.string("public_key")};
    BANGER_TRY(reader.finish(true));
    return key;
}

Result<GitIdentity> git_from_json(const json& value) {
    ObjectReader reader(value, "git");
    GitIdentity git{.name = reader.string("name"), .email = reader.string("email")};
    BANGER_TRY(reader.finish(true));
    return git;
}

}  // namespace

std::string new_machine_id() {
    std::array<unsigned char, 16> bytes{};
    // At most 256 bytes are never cut short, and the pool of a running host is ready: getrandom(2).
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        std::abort();
    bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
    bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

Result<std::vector<ArchiveMember>> encode_identity(const GuestIdentity& identity) {
    BANGER_TRY(check(identity));
    json root = {{"vm", identity.vm.str()},
                 {"name", identity.name.str()},
                 {"machine_id", identity.machine_id},
                 {"authorized_keys", identity.authorized_keys},
                 {"grow_disks", identity.grow_disks}};
    if (identity.network) root["network"] = network_to_json(*identity.network);
    if (identity.ssh_host_key)
        root["ssh_host_key"] = {{"private_key", identity.ssh_host_key->private_key},
                                {"public_key", identity.ssh_host_key->public_key}};
    if (identity.git) root["git"] = {{"name", identity.git->name}, {"email", identity.git->email}};

    std::vector<ArchiveMember> members(1);
    json files = json::array();
    for (const GuestFile& file : identity.files) {
        json entry = {
            {"path", file.path}, {"mode", file.mode}, {"uid", file.uid}, {"gid", file.gid}};
        if (file.is_folder) {
            files.push_back(std::move(entry));
            continue;
        }
        std::string member = std::string(files_folder) + std::to_string(files.size());
        entry["member"] = member;
        files.push_back(std::move(entry));
        members.push_back({std::move(member), file.content});
    }
    root["files"] = std::move(files);
    members.front() = {std::string(identity_path), dump_json(root)};
    return members;
}

Result<GuestIdentity> decode_identity(std::string_view vm_json, const ReadMember& read_member) {
    const json root = BANGER_TRY(parse_json(vm_json, identity_depth));
    ObjectReader reader(root, "vm.json");
    const std::string vm = reader.string("vm");
    const std::string name = reader.string("name");
    std::string machine_id = reader.string("machine_id");
    const json& keys = reader.array("authorized_keys", max_keys);
    const bool grow_disks = reader.boolean("grow_disks");
    const json* network = reader.optional("network");
    const json* host_key = reader.optional("ssh_host_key");
    const json* git = reader.optional("git");
    const json& files = reader.array("files", max_files);
    BANGER_TRY(reader.finish(true));

    VmId id = BANGER_TRY(VmId::parse(vm));
    VmName own_name = BANGER_TRY(VmName::parse(name));
    GuestIdentity identity{.vm = std::move(id),
                           .name = std::move(own_name),
                           .machine_id = std::move(machine_id),
                           .network = std::nullopt,
                           .authorized_keys = {},
                           .ssh_host_key = std::nullopt,
                           .files = {},
                           .git = std::nullopt,
                           .grow_disks = grow_disks};
    for (const json& key : keys) {
        if (!key.is_string()) return Error(Errc::corrupt, "an authorized key is not a string");
        identity.authorized_keys.push_back(key.get_ref<const std::string&>());
    }
    if (network) identity.network = BANGER_TRY(network_from_json(*network));
    if (host_key) identity.ssh_host_key = BANGER_TRY(host_key_from_json(*host_key));
    if (git) identity.git = BANGER_TRY(git_from_json(*git));
    for (const json& file : files)
        identity.files.push_back(BANGER_TRY(file_from_json(file, read_member)));
    Result<void> valid = check(identity);
    if (!valid) return Error(Errc::corrupt, valid.error().message);
    return identity;
}

}  // namespace banger::guest
