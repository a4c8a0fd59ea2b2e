#include "plugins/image-debian/recipe.hpp"

#include <algorithm>

#include "plugins/image-debian/scripts.hpp"

namespace banger::image_debian {

namespace {

// udev and dbus are only recommended by systemd, and mmdebstrap leaves recommended packages out.
constexpr std::string_view slim_packages[] = {
    "systemd-sysv", "systemd",      "udev", "dbus",      "openssh-server",
    "iproute2",     "iputils-ping", "kmod", "e2fsprogs", "ca-certificates",
    "git",          "curl",         "less", "nano",      "procps",
    "netbase",
};

constexpr std::string_view dev_packages[] = {
    "systemd-sysv",
    "systemd",
    "udev",
    "dbus",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "kmod",
    "e2fsprogs",
    "ca-certificates",
    "git",
    "curl",
    "less",
    "nano",
    "procps",
    "netbase",
    // docker, and what its package only recommends but needs for networks and builds
    "docker.io",
    "iptables",
    "apparmor",
    "git-lfs",
    "jq",
    "build-essential",
    "pkg-config",
    "cmake",
    "gdb",
    "strace",
    "python3",
    "python3-venv",
    "python3-pip",
    "vim-tiny",
    "tmux",
    "htop",
    "lsof",
    "file",
    "tree",
    "wget",
    "rsync",
    "unzip",
    "zip",
    "xz-utils",
    "zstd",
    "bzip2",
    "patch",
    "ripgrep",
    "bash-completion",
    "man-db",
    "manpages",
    "dnsutils",
    "netcat-openbsd",
    "socat",
    "sudo",
    "gnupg",
    "psmisc",
    "bsdextrautils",
};

constexpr std::string_view cloud_kernel[] = {"linux-image-cloud-amd64"};

constexpr std::string_view slim_excluded[] = {
    "/usr/share/doc/*",     "/usr/share/man/*", "/usr/share/info/*",   "/usr/share/locale/*",
    "/usr/share/lintian/*", "/usr/share/bug/*", "/usr/share/gitweb/*",
};

constexpr std::string_view dev_excluded[] = {"/usr/share/locale/*", "/usr/share/lintian/*",
                                             "/usr/share/bug/*"};

// In this order: everything that makes an image of the packages, then what makes it boot fast.
const std::string_view tuned_scripts[] = {scripts::finish, scripts::tune};
const std::string_view dev_scripts[] = {scripts::finish, scripts::docker, scripts::tune};
const std::string_view plain_scripts[] = {scripts::finish};
const std::string_view kernel_scripts[] = {scripts::kernel_tree};

const Recipe table[] = {
    {ArtifactKind::image,
     "debian:bookworm-dev",
     "bookworm",
     "debian-12",
     "Debian 12 for development, with docker, git, compilers and the usual tools",
     dev_packages,
     dev_excluded,
     {},
     dev_scripts},
    {ArtifactKind::image,
     "debian:bookworm-slim",
     "bookworm",
     "debian-12",
     "Debian 12, small, with ssh and git",
     slim_packages,
     slim_excluded,
     {},
     tuned_scripts},
    // What the benchmark compares the one above with.
    {ArtifactKind::image,
     "debian:bookworm-slim-unmasked",
     "bookworm",
     "debian-12",
     "the packages of debian:bookworm-slim with every unit that they enable",
     slim_packages,
     slim_excluded,
     {},
     plain_scripts,
     false},
    {ArtifactKind::kernel,
     "debian-kernel:bookworm-cloud",
     "bookworm",
     "debian-12",
     "Debian's kernel for virtual machines",
     cloud_kernel,
     {},
     scripts::kernel,
     kernel_scripts},
};

}  // namespace

std::span<const Recipe> recipes() { return table; }

Result<const Recipe*> find_recipe(ArtifactKind kind, std::string_view reference) {
    const auto found = std::ranges::find_if(table, [&](const Recipe& recipe) {
        return recipe.kind == kind && recipe.reference == reference;
    });
    if (found != std::end(table)) return &*found;
    std::string known;
    for (const Recipe& recipe : table)
        if (recipe.kind == kind && recipe.is_listed)
            known += (known.empty() ? "" : ", ") + std::string(recipe.reference);
    return Error(Errc::not_found, "no such Debian " + std::string(to_string(kind)),
                 "Use one of: " + known + ".");
}

std::string suggested_name(const Recipe& recipe) {
    std::string name(recipe.reference);
    std::ranges::replace(name, ':', '-');
    return name;
}

}  // namespace banger::image_debian
