#include "daemons/vsock-agent/provision.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include "daemons/vsock-agent/hand_over.hpp"

namespace banger::agent {

using guest::GuestIdentity;

namespace {

constexpr const char* provisioned_mark = "var/lib/banger/provisioned";
constexpr const char* keys_file = "root/.ssh/authorized_keys";

/// Keeps the first error and goes on.
class Outcome {
public:
    void operator+=(Result<void> step) {
        if (!step && !error_) error_ = std::move(step).error();
    }
    Result<void> result() { return error_ ? Result<void>(*std::move(error_)) : ok(); }

private:
    std::optional<Error> error_;
};

std::string hosts_file(const std::string& name) {
    return "127.0.0.1\tlocalhost\n127.0.1.1\t" + name +
           "\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n"
           "ff02::2\tip6-allrouters\n";
}

std::string resolv_conf(const guest::GuestNetwork& network) {
    std::string text = "# Written by banger at every boot.\n";
    for (const Ipv4Address& server : network.name_servers)
        text += "nameserver " + server.text() + "\n";
    return text;
}

/// The interface is configured already; whatever manages networks in the image leaves it alone.
Result<void> keep_interface(const guest::GuestNetwork& network, const ImageRoot& root) {
    Outcome outcome;
    const std::string mac = network.mac.text();
    if (root.has("usr/lib/systemd/systemd-networkd") || root.has("lib/systemd/systemd-networkd"))
        outcome += root.update("etc/systemd/network/01-banger.network",
                               "[Match]\nMACAddress=" + mac + "\n\n[Link]\nUnmanaged=yes\n", 0644);
    if (root.has("etc/NetworkManager"))
        outcome += root.update("etc/NetworkManager/conf.d/01-banger.conf",
                               "[keyfile]\nunmanaged-devices=mac:" + mac + "\n", 0644);
    const std::string interfaces = root.read("etc/network/interfaces").value_or("");
    if (interfaces.find("eth0") != std::string::npos)
        outcome += root.write("etc/network/interfaces",
                              "# eth0 is banger's.\nauto lo\niface lo inet loopback\n", 0644);
    return outcome.result();
}

Result<void> write_network_files(const GuestIdentity& identity, const ImageRoot& root) {
    if (!identity.network) return {};
    Outcome outcome;
    outcome += root.update("etc/resolv.conf", resolv_conf(*identity.network), 0644);
    outcome += keep_interface(*identity.network, root);
    return outcome.result();
}

/// StrictModes: sshd refuses keys below a folder that somebody else could write.
Result<void> set_owner_and_mode(const ImageRoot& root, const std::string& path, mode_t mode,
                                uid_t uid = 0, gid_t gid = 0) {
    const UniqueFd folder = BANGER_TRY(root.ensure_folder(path));
    if (fchownat(folder.get(), "", uid, gid, AT_EMPTY_PATH) != 0 ||
        fchmodat(folder.get(), ".", mode, 0) != 0)
        return Error::from_errno(errno, "setting owner and mode of /" + path);
    return {};
}

Result<void> authorize_keys(const GuestIdentity& identity, const ImageRoot& root) {
    Outcome outcome;
    outcome += set_owner_and_mode(root, "root", 0700);
    outcome += set_owner_and_mode(root, "root/.ssh", 0700);
    std::string keys = root.read(keys_file).value_or("");
    if (!keys.empty() && keys.back() != '\n') keys += '\n';
    for (const std::string& key : identity.authorized_keys) {
        if (("\n" + keys).find("\n" + key + "\n") == std::string::npos) keys += key + "\n";
    }
    outcome += root.update(keys_file, keys, 0600);
    return outcome.result();
}

Result<void> set_ssh_policy(const ImageRoot& root) {
    const Result<std::string> config = root.read("etc/ssh/sshd_config");
    if (!config) return {};
    Outcome outcome;
    outcome += root.update("etc/ssh/sshd_config.d/00-banger.conf", sshd_drop_in(), 0644);
    constexpr const char* include = "Include /etc/ssh/sshd_config.d/*.conf\n";
    if (("\n" + *config).find("\nInclude /etc/ssh/sshd_config.d/*.conf") == std::string::npos)
        outcome += root.write("etc/ssh/sshd_config", include + *config, 0644);
    outcome += root.update("etc/tmpfiles.d/banger.conf", "d /run/sshd 0755 root root -\n", 0644);
    return outcome.result();
}

Result<void> set_host_key(const guest::SshHostKey& key, const ImageRoot& root) {
    Outcome outcome;
    // Keys that came with the image are known to everybody who has the image.
    for (const char* type : {"rsa", "dsa", "ecdsa", "ed25519"}) {
        const std::string path = "etc/ssh/ssh_host_" + std::string(type) + "_key";
        outcome += root.remove(path);
        outcome += root.remove(path + ".pub");
    }
    outcome += root.write("etc/ssh/ssh_host_ed25519_key", key.private_key, 0600);
    outcome += root.write("etc/ssh/ssh_host_ed25519_key.pub", key.public_key + "\n", 0644);
    return outcome.result();
}

std::string git_config(const guest::GitIdentity& git) {
    const auto quoted = [](const std::string& text) {
        std::string out = "\"";
        for (const char c : text) {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
        return out + "\"";
    };
    return "[user]\n\tname = " + quoted(git.name) + "\n\temail = " + quoted(git.email) + "\n";
}

Result<void> provision_once(const GuestIdentity& identity, const ImageRoot& root) {
    Outcome outcome;
    outcome += root.write("etc/hosts", hosts_file(identity.name.str()), 0644);
    if (identity.ssh_host_key) outcome += set_host_key(*identity.ssh_host_key, root);
    if (!root.has("root/.hushlogin")) outcome += root.write("root/.hushlogin", "", 0644);
    if (identity.git && !root.has("root/.gitconfig"))
        outcome += root.write("root/.gitconfig", git_config(*identity.git), 0644);
    for (const guest::GuestFile& file : identity.files)
        if (file.is_folder)
            outcome += set_owner_and_mode(root, file.path.substr(1), file.mode, file.uid, file.gid);
        else
            outcome += root.write(file.path.substr(1), file.content, file.mode, file.uid, file.gid);
    return outcome.result();
}

}  // namespace

std::string sshd_drop_in() {
    return "# Written by banger at every boot.\n"
           "PermitRootLogin prohibit-password\n"
           "PubkeyAuthentication yes\n"
           "PasswordAuthentication no\n"
           "KbdInteractiveAuthentication no\n"
           "AuthorizedKeysFile /root/.ssh/authorized_keys\n"
           "StrictModes yes\n";
}

Result<void> provision(const GuestIdentity& identity, const ImageRoot& root) {
    Outcome outcome;
    const std::string mark = identity.vm.str() + "\n";
    if (root.read(provisioned_mark).value_or("") != mark) {
        outcome += provision_once(identity, root);
        outcome += root.write(provisioned_mark, mark, 0644);
    }
    outcome += root.update("etc/hostname", identity.name.str() + "\n", 0644);
    outcome += root.update("etc/machine-id", identity.machine_id + "\n", 0444);
    outcome += write_network_files(identity, root);
    outcome += set_ssh_policy(root);
    outcome += authorize_keys(identity, root);
    return outcome.result();
}

Result<void> prepare_run(const ImageRoot& root) {
    const UniqueFd run = BANGER_TRY(root.ensure_folder("run"));
    const std::string place = "/proc/self/fd/" + std::to_string(run.get());
    BANGER_TRY(mount_at("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=20%"));
    Outcome outcome;
    outcome += [&]() -> Result<void> {
        BANGER_TRY(root.ensure_folder("run/sshd"));
        return {};
    }();
    // Elsewhere the folder would make programs believe that systemd runs: sd_booted(3).
    if (!has_systemd(root)) return outcome.result();
    // With the one interface not theirs, these would wait for a network until they give up.
    const UniqueFd units = BANGER_TRY(root.ensure_folder("run/systemd/system"));
    for (const char* unit :
         {"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service"}) {
        if (symlinkat("/dev/null", units.get(), unit) != 0)
            outcome += Error::from_errno(errno, unit);
    }
    return outcome.result();
}

}  // namespace banger::agent
