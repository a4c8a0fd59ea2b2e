#!/usr/bin/env python3
"""In the lab, as root: starts a machine of banger's by Firecracker alone, ROUNDS times, and prints how long each took: firecracker_by_hand.py ROUNDS and
the flags of `vm create`.

The machine is created by banger and taken over before its guest has written anything: both daemons and the VMM are killed, which leaves kernel, initramfs,
configuration, tap and disks as they were made. Each round runs on snapshots of these disks. Needs no more than python3-minimal.
"""
import glob, os, signal, socket, subprocess, sys, time

JAILS = "/var/lib/banger-root/vmm-firecracker/jail/firecracker"
SERVICES = ("bangerd", "bangerd-root")
UNITS = [f"{name}.{kind}" for name in SERVICES for kind in ("socket", "service")]
KEPT = "/root/by-hand"
OWNER = "dev"
KEY = f"/home/{OWNER}/.local/state/banger/ssh/id_ed25519"
NODES = {"root": "disk-root", "work": "disk-work"}


def run(*words, **more):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **more).stdout.strip()


def until(what, answer, pause=0.005, seconds=600):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = answer()
        if found:
            return found
        time.sleep(pause)
    sys.exit(f"by hand: no {what} after {seconds} s")


def vmm():
    """The Firecracker that has a machine; others only say their version."""
    for pid in subprocess.run(["pgrep", "-x", "firecracker"], stdout=subprocess.PIPE, text=True).stdout.split():
        try:
            with open(f"/proc/{pid}/cmdline") as words:
                if "--config-file" in words.read().split("\0"):
                    return int(pid)
        except OSError:
            pass
    return None


def take_over(flags):
    """The jail of a machine whose guest has just begun."""
    for name in SERVICES:
        os.makedirs(f"/run/systemd/system/{name}.service.d", exist_ok=True)
        with open(f"/run/systemd/system/{name}.service.d/by-hand.conf", "w") as file:
            file.write("[Service]\nRestart=no\n")
    run("systemctl", "daemon-reload")
    os.makedirs(KEPT)
    create = subprocess.Popen(["runuser", "-u", OWNER, "--", "banger", "vm", "create", "--name", "by-hand", *flags],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    jail = os.path.dirname(until("jail", lambda: glob.glob(f"{JAILS}/*/root/initramfs"))[0])
    for name in ("vmlinux", "initramfs"):
        os.link(f"{jail}/{name}", f"{KEPT}/{name}")
    pid = until("VMM", vmm)
    # At once, so that neither cleans up after the other or after the VMM.
    mains = [int(run("systemctl", "show", "-P", "MainPID", f"{name}.service")) for name in reversed(SERVICES)]
    for process in mains:
        os.kill(process, signal.SIGSTOP)
    for process in (pid, *mains):
        os.kill(process, signal.SIGKILL)
    create.wait()
    subprocess.run(["systemctl", "stop", *UNITS], check=True)
    return jail


class Snapshot:
    """A disk of the machine, with what a round writes beside it."""

    def __init__(self, jail, name):
        self.node, self.name = f"{jail}/{NODES[name]}", f"by-hand-{name}"
        made = os.stat(self.node)
        self.owner = made.st_uid
        self.origin = f"/dev/block/{os.major(made.st_rdev)}:{os.minor(made.st_rdev)}"
        self.cow = f"{KEPT}/{name}.cow"

    def make(self):
        with open(self.cow, "w") as file:
            file.truncate(1 << 30)
        self.loop = run("losetup", "--find", "--show", self.cow)
        sectors = run("blockdev", "--getsz", self.origin)
        run("dmsetup", "create", self.name, "--table", f"0 {sectors} snapshot {self.origin} {self.loop} N 8")
        put_node(self.node, os.stat(f"/dev/mapper/{self.name}").st_rdev, self.owner)

    def remove(self):
        run("udevadm", "settle")
        run("dmsetup", "remove", "--retry", self.name)
        run("losetup", "--detach", self.loop)
        os.unlink(self.cow)


def put_node(path, device, owner, mode=0o600):
    os.unlink(path)
    os.mknod(path, 0o060000 | mode, device)
    os.chown(path, owner, owner)


def runs(api):
    """Whether Firecracker has begun the guest. It listens before it builds the machine, and answers afterwards."""
    with socket.socket(socket.AF_UNIX) as http:
        http.settimeout(120)
        try:
            http.connect(api)
            http.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
            return b'"Running"' in http.recv(4096)
        except OSError:
            return False


def says_ok(jail):
    """Whether the agent in the guest takes a connection."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(2)
        try:
            agent.connect(f"{jail}/run/vsock.sock")
            agent.sendall(b"CONNECT 1024\n")
            return agent.recv(32).startswith(b"OK ")
        except OSError:
            return False


def greets(address):
    """Whether the guest's sshd says who it is."""
    try:
        with socket.create_connection((address, 22), 2) as ssh:
            return ssh.recv(4) == b"SSH-"
    except OSError:
        return False


def one(jail, uid, address):
    for name in os.listdir(f"{jail}/run"):
        os.unlink(f"{jail}/run/{name}")
    began = time.monotonic()
    vmm = subprocess.Popen(["chroot", f"--userspec={uid}:{uid}", jail, "/firecracker", "--id", "by-hand", "--api-sock", "/run/api.sock",
                            "--config-file", "/config.json", "--log-path", "/firecracker.log", "--level", "Warning"],
                           stdin=subprocess.DEVNULL, stdout=open(f"{KEPT}/console", "w"), stderr=subprocess.STDOUT)
    try:
        until("API", lambda: runs(f"{jail}/run/api.sock") or vmm.poll() is not None)
        started = time.monotonic() - began
        # Seldom: where the host is emulated, who asks takes the guest's time.
        until("agent", lambda: says_ok(jail) or vmm.poll() is not None, 0.25)
        agent = time.monotonic() - began
        until("sshd", lambda: greets(address) or vmm.poll() is not None, 0.25)
        sshd = time.monotonic() - began
        if vmm.poll() is not None:
            sys.exit(f"by hand: Firecracker ended with {vmm.returncode}: {open(f'{KEPT}/console').read()[-500:]}")
        run("runuser", "-u", OWNER, "--", "ssh", "-F", "none", "-i", KEY, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"root@{address}", "true")
        command = time.monotonic() - began
        vmm.kill()
        vmm.wait()
        return {"vmm": started, "agent": agent, "sshd": sshd, "command": command, "end": time.monotonic() - began - command}
    finally:
        vmm.kill()
        vmm.wait()


def main():
    rounds, flags = int(sys.argv[1]), sys.argv[2:]
    jail = take_over(flags)
    try:
        lease = int(run("sqlite3", "/var/lib/banger/banger.db", "SELECT address FROM leases WHERE vm = (SELECT id FROM machines WHERE name = 'by-hand')"))
        address = socket.inet_ntoa(lease.to_bytes(4, "big"))
        modules = max(glob.glob("/var/lib/banger/kernels/*/modules.ext4"), key=os.path.getmtime)
        for name in ("vmlinux", "initramfs"):
            if not os.path.exists(f"{jail}/{name}"):
                os.link(f"{KEPT}/{name}", f"{jail}/{name}")
        uid = os.stat(f"{jail}/disk-root").st_uid
        loop = run("losetup", "--find", "--show", "--read-only", modules)
        put_node(f"{jail}/disk-modules", os.stat(loop).st_rdev, uid, 0o400)
        disks = [Snapshot(jail, name) for name in NODES]
        for _ in range(rounds):
            for disk in disks:
                disk.make()
            print(*(f"{what} {seconds * 1000:.0f}" for what, seconds in one(jail, uid, address).items()), flush=True)
            for disk in disks:
                disk.remove()
        run("losetup", "--detach", loop)
    finally:
        for name in SERVICES:
            os.unlink(f"/run/systemd/system/{name}.service.d/by-hand.conf")
        subprocess.run(["rm", "-rf", KEPT])
        run("systemctl", "daemon-reload")
        # The new daemons find the machine half made, and remove it.
        run("systemctl", "start", *UNITS)


main()
