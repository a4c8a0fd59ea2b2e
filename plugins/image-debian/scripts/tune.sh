# Takes from the boot what a virtual machine of banger has no use for. What somebody may want later
# is disabled or started on demand, and comes back with systemctl; the rest is masked.
set -eu
cd "$1"
units=etc/systemd/system

mask() {
    for unit in "$@"; do ln -sf /dev/null "$units/$unit"; done
}

# Not part of the boot, but still there for D-Bus or for who asks, also after an upgrade.
put_aside() {
    for file in "$@"; do
        if test -e "$file" || test -L "$file"; then
            chroot . dpkg-divert --quiet --local --rename \
                --divert "/usr/share/banger/aside/${file##*/}" --add "/$file"
        fi
    done
}

disable() {
    for unit in "$@"; do find "$units" -name "$unit" -path '*.wants/*' -delete; done
}

mkdir -p usr/share/banger/aside

# Disks are checked, mounted and grown by banger's init; there is no swap, no RAID, no encryption.
mask e2scrub_reap.service systemd-remount-fs.service systemd-repart.service \
    cryptsetup.target integritysetup.target veritysetup.target systemd-pstore.service
disable e2scrub_all.timer
# No console to ask at, and nobody who logs in there before the machine is up.
mask systemd-ask-password-console.path systemd-ask-password-wall.path systemd-firstboot.service \
    getty-static.service systemd-initctl.socket
disable getty@tty1.service
# Identity, clock and randomness come with the machine; the processor seeds the kernel.
mask systemd-machine-id-commit.service systemd-random-seed.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service systemd-boot-system-token.service
# The boot record in utmp, and keeping users out until the boot is over.
mask systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-user-sessions.service
ln -sf /dev/null etc/tmpfiles.d/systemd-nologin.conf
# Kernel interfaces that are mounted by whoever needs one.
mask dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount
for module in configfs dm_mod drm efi_pstore fuse loop; do mask "modprobe@$module.service"; done
rm -f etc/modules-load.d/modules.conf
# The journal lives in memory; Storage=persistent and `systemctl unmask systemd-journal-flush`
# bring it to the disk.
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nAudit=no\n' \
    > etc/systemd/journald.conf.d/banger.conf
rm -rf var/log/journal
mask systemd-journal-flush.service systemd-journald-audit.socket
# Work at times that nobody chose.
disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer
# D-Bus has its socket; logind comes with the first who calls it.
wants=usr/lib/systemd/system/multi-user.target.wants
put_aside "$wants/dbus.service" "$wants/systemd-logind.service"
# Running .pyc files as programs; whoever adds another format gets the service back.
put_aside usr/lib/binfmt.d/python*.conf

# Generators for what does not exist here.
mkdir -p etc/systemd/system-generators
for generator in bless-boot cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run \
    system-update veritysetup; do
    ln -sf /dev/null "etc/systemd/system-generators/systemd-$generator-generator"
done

# Most devices are of no interest to a boot, and each costs an event. Disks and the console come
# first; everything else a little later.
mkdir -p "$units/systemd-udev-trigger.service.d" "$units/timers.target.wants"
cat > "$units/systemd-udev-trigger.service.d/banger.conf" <<'END'
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=block
ExecStart=-udevadm trigger --type=devices --action=add --sysname-match=ttyS0 --sysname-match=hvc0
END
cat > "$units/banger-coldplug.service" <<'END'
[Unit]
Description=Coldplug the devices that the boot did not wait for

[Service]
Type=oneshot
ExecStart=-udevadm trigger --type=all --action=add
END
cat > "$units/banger-coldplug.timer" <<'END'
[Unit]
Description=Coldplug the devices that the boot did not wait for

[Timer]
OnActiveSec=10s
AccuracySec=1s
END
ln -sf ../banger-coldplug.timer "$units/timers.target.wants/banger-coldplug.timer"

# banger's init has just written the configuration, so checking it first only takes time.
mkdir -p "$units/ssh.service.d"
printf '[Service]\nExecStartPre=\n' > "$units/ssh.service.d/banger.conf"

# Everything that follows an update was done when the packages were installed.
touch usr etc/.updated var/.updated
