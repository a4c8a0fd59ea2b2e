# Makes an image of what was installed: nothing in it belongs to one machine or to this host.
set -eu
cd "$1"

# banger's init writes these for each machine: name, addresses, name servers, keys.
rm -f etc/hostname etc/hosts etc/resolv.conf etc/ssh/ssh_host_*
# The root file system is mounted before systemd starts.
rm -f etc/fstab

# Options of this build only. What is left out of packages stays so when the guest installs more.
rm -f etc/apt/apt.conf.d/99mmdebstrap
if test -e etc/dpkg/dpkg.cfg.d/99mmdebstrap; then
    grep '^path-' etc/dpkg/dpkg.cfg.d/99mmdebstrap > etc/dpkg/dpkg.cfg.d/banger || true
    rm etc/dpkg/dpkg.cfg.d/99mmdebstrap
fi
echo 'Acquire::Languages "none";' > etc/apt/apt.conf.d/banger

echo 'LANG=C.UTF-8' > etc/default/locale
# Also where sshd is started by a socket.
echo 'd /run/sshd 0755 root root' > etc/tmpfiles.d/sshd.conf

find var/log -type f -delete
rm -f var/cache/debconf/*-old var/lib/dpkg/*-old var/cache/ldconfig/aux-cache \
    var/lib/systemd/random-seed var/lib/systemd/catalog/database.old
