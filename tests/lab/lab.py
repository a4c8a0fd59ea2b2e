#!/usr/bin/env python3
"""The lab: a whole Debian host, emulated. See docs/HACKING.md.

The image is made once and kept by what it is made from; the first start of an image boots it and saves the booted machine, and each further start resumes
that, on an overlay of its own. A lab is a folder, build/lab/NAME; nothing else is left when it is down.
"""

import argparse, fcntl, hashlib, json, os, select, shlex, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE.parent.parent
CACHE = Path(os.environ.get("BANGER_LAB_CACHE") or Path.home() / ".cache/banger-lab")
# The guests' images that the boot tests keep; the lab's host sees them read-only.
GUESTS = Path(os.environ.get("BANGER_TEST_CACHE") or Path.home() / ".cache/banger-test")
GUEST_IMAGE = "debian-bookworm-slim"
# Without a cache: what is built while the lab is up must be seen.
MOUNT = "mount -t 9p -o trans=virtio,ro,msize=512000,cache=mmap {0} /mnt/{0}"
BOOT_DEADLINE = 600.0
KEPT_UNUSED = 7 * 24 * 3600


class LabError(Exception):
    pass


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def locked(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def made_atomically(final):
    """A folder that gets its name when it is complete."""
    temporary = Path(tempfile.mkdtemp(prefix=final.name + ".new-", dir=final.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# The image

def image():
    made_from = [(HERE / name).read_text() for name in ("make_image", "packages.txt")]
    folder = CACHE / ("image-" + digest(*made_from))
    with locked(CACHE / "lock"):
        if not folder.exists():
            say("making the image, once: a few minutes")
            forget_unused()
            with made_atomically(folder) as new, open(CACHE / "make_image.log", "w") as log:
                if subprocess.run([HERE / "make_image", new], stdout=log, stderr=log).returncode:
                    raise LabError(f"the image cannot be made:\n{tail(CACHE / 'make_image.log')}")
        os.utime(folder)
    return folder


def forget_unused():
    for folder in CACHE.glob("image-*"):
        if time.time() - folder.stat().st_mtime > KEPT_UNUSED:
            shutil.rmtree(folder, ignore_errors=True)


def tail(path, lines=20):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


# QEMU

def acceleration():
    """KVM where a stock kernel can use it (by CPU flag: a para-virtual /dev/kvm shows neither), else emulation with SVM."""
    flags = Path("/proc/cpuinfo").read_text()
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx" in flags or " svm" in flags):
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    # One processor: of two that run nested guests, QEMU 7.2 now and then leaves one asleep with its interrupts pending, and the whole host hangs.
    # BANGER_LAB_PROCESSORS is for a benchmark that can be run again.
    return ["-accel", "tcg", "-cpu", "max,la57=off", "-smp", os.environ.get("BANGER_LAB_PROCESSORS", "1")]


def qemu_command(base, disk, tree, guests):
    """What the guest sees, which a saved machine and its resumption share, and then what only this host sees."""
    def share(tag, path):
        return ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return (["qemu-system-x86_64", "-name", "banger-lab", "-nodefaults", "-no-user-config", "-display", "none",
             "-M", "q35,usb=off,sata=off,vmport=off", *acceleration(), "-m", "4096",
             "-kernel", f"{base}/vmlinuz", "-initrd", f"{base}/initrd.img",
             "-append", "root=/dev/vda rw console=ttyS0 quiet no_timer_check random.trust_cpu=on apparmor=0 audit=0",
             "-drive", f"file={disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap",
             "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,free-page-reporting=on", "-device", "virtio-net-pci,netdev=net,romfile=",
             "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"]
            + share("tree", tree) + share("cache", guests))


class Qemu:
    """A running QEMU, spoken to over QMP."""

    def __init__(self, folder, sockets):
        self.folder, self.sockets = Path(folder), Path(sockets)

    def start(self, command):
        log = open(self.folder / "qemu.log", "w")
        child = subprocess.Popen(
            command + ["-serial", f"file:{self.folder}/console.log", "-qmp", f"unix:{self.sockets}/qmp,server=on,wait=off"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            # An emulated guest of an emulated host meets its deadlines only if builds do not take its processors away.
            os.setpriority(os.PRIO_PROCESS, child.pid, -10)
        except PermissionError:
            pass
        (self.folder / "pid").write_text(f"{child.pid} {started_at(child.pid)}\n")
        while not self.answers():
            if child.poll() is not None:
                raise LabError(f"qemu ended:\n{tail(self.folder / 'qemu.log')}")
            time.sleep(0.02)

    def pid(self):
        try:
            pid, start = (self.folder / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if started_at(int(pid)) == start else None

    def answers(self):
        try:
            return bool(self.ask("query-status"))
        except OSError:
            return False

    def ask(self, name, **arguments):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.sockets / "qmp"))
            lines = channel.makefile("rw")
            lines.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                while True:
                    line = lines.readline()
                    if not line:
                        raise LabError("qemu hung up")
                    answer = json.loads(line)
                    if "error" in answer:
                        raise LabError(answer["error"]["desc"])
                    if "return" in answer:
                        break
            return answer["return"]

    def ssh_port(self):
        for line in self.ask("human-monitor-command", **{"command-line": "info usernet"}).splitlines():
            words = line.split()
            if words and words[0] == "TCP[HOST_FORWARD]":
                return int(words[3])
        raise LabError("qemu forwards no port")

    def stop(self):
        pid = self.pid()
        if pid is None:
            return
        watched = os.pidfd_open(pid)
        # Between reading the start time and opening, the pid may have gone to somebody else.
        if self.pid() is not None:
            signal.pidfd_send_signal(watched, signal.SIGKILL)
            select.select([watched], [], [], 10)
        os.close(watched)


def started_at(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None


# A lab

class Lab:
    def __init__(self, name):
        self.name, self.folder = name, TREE / "build/lab" / name

    @property
    def qemu(self):
        try:
            return Qemu(self.folder, (self.folder / "sockets").read_text())
        except OSError:
            return None

    def is_up(self):
        return self.qemu is not None and self.qemu.pid() is not None

    def up(self, fresh=False):
        if self.is_up():
            raise LabError(f"'{self.name}' is up; ./dev lab down --name {self.name}")
        self.down()
        base = image()
        saved = saved_machine(base) if not fresh else None
        begun = time.monotonic()
        self.start(base, saved, TREE, GUESTS)
        self.ssh_now("root", f"date -s @{time.time():.3f} >/dev/null; {MOUNT.format('tree')}")
        say(f"'{self.name}' is up after {time.monotonic() - begun:.1f} s; {TREE} is /mnt/tree in it")

    def start(self, base, saved, tree, guests):
        self.folder.mkdir(parents=True)
        guests.mkdir(parents=True, exist_ok=True)
        sockets = tempfile.mkdtemp(prefix="banger-lab-")
        (self.folder / "sockets").write_text(sockets)
        backing, form = (saved / "disk.qcow2", "qcow2") if saved else (base / "disk.raw", "raw")
        disk = self.folder / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", form, disk], check=True)
        command = qemu_command(base, disk, tree, guests)
        if saved:
            command += ["-incoming", f"exec:cat '{saved}/memory'"]
        qemu = self.qemu
        qemu.start(command)
        if saved:
            while qemu.ask("query-status")["status"] == "inmigrate":
                time.sleep(0.02)
            # It was saved while it was paused.
            qemu.ask("cont")
        (self.folder / "ssh_config").write_text(
            f"Host lab\n  HostName 127.0.0.1\n  Port {qemu.ssh_port()}\n  User dev\n  IdentityFile {base}/key\n  IdentitiesOnly yes\n"
            "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  Ciphers aes128-gcm@openssh.com\n"
            f"  ControlMaster auto\n  ControlPersist yes\n  ControlPath {sockets}/%r\n  ConnectTimeout 20\n")
        deadline = time.monotonic() + BOOT_DEADLINE
        while self.ssh_now("root", "true", quiet=True):
            if qemu.pid() is None or time.monotonic() > deadline:
                raise LabError(f"no ssh:\n{tail(self.folder / 'qemu.log')}\n{tail(self.folder / 'console.log')}")
            time.sleep(0.2)

    def ssh(self, user, *words):
        return ["ssh", "-F", str(self.folder / "ssh_config"), "-l", user, "lab", *words]

    def ssh_now(self, user, script, quiet=False):
        return subprocess.run(self.ssh(user, script), stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL if quiet else None).returncode

    def down(self):
        qemu = self.qemu
        if qemu:
            for user in ("dev", "root"):
                if (qemu.sockets / user).exists():
                    subprocess.run(self.ssh(user)[:-1] + ["-O", "exit", "lab"], stderr=subprocess.DEVNULL)
            qemu.stop()
            shutil.rmtree(qemu.sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def guest_artifacts():
    """Folders of the image and the kernel that the boot tests pulled, or none: they are laid into the saved host, because mmdebstrap takes long there."""
    state = GUESTS / "state/banger"
    if not (state / "banger.db").exists():
        return []
    with sqlite3.connect(state / "banger.db") as db:
        rows = db.execute(f"SELECT 'images/' || id FROM images WHERE name = '{GUEST_IMAGE}' UNION SELECT 'kernels/' || id FROM kernels")
        return sorted(row[0] for row in rows)


def saved_machine(base):
    """The image's host as it is when it has just booted: its memory and what it wrote."""
    guests = guest_artifacts()
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    command = qemu_command(base, "disk", "tree", "cache")
    final = base / ("booted-" + digest(version, (HERE / "settle").read_text(), *guests, *command))
    with locked(base / "lock"):
        if final.exists():
            return final
        with made_atomically(final) as new:
            say("booting the image, once: up to a minute")
            boot = Lab(f"boot-{os.getpid()}")
            try:
                boot.start(base, None, new, new)
                if guests:
                    # tar keeps the holes, of which these are made.
                    subprocess.run(["tar", "-cSf", new / "guests.tar", "-C", GUESTS / "state/banger", *guests], check=True)
                    with sqlite3.connect(GUESTS / "state/banger/banger.db") as db:
                        db.execute("VACUUM INTO ?", (str(new / "guests.db"),))
                if boot.ssh_now("root", MOUNT.format("cache") + "\n" + (HERE / "settle").read_text()):
                    raise LabError("the booted machine does not settle")
                for name in ("guests.tar", "guests.db"):
                    (new / name).unlink(missing_ok=True)
                qemu = boot.qemu
                qemu.ask("stop")
                qemu.ask("migrate", uri=f"exec:cat > '{new}/memory'")
                while (state := qemu.ask("query-migrate")["status"]) != "completed":
                    if state in ("failed", "cancelled"):
                        raise LabError(f"the booted machine cannot be saved: {state}")
                    time.sleep(0.1)
                qemu.ask("quit")
                while qemu.pid() is not None:
                    time.sleep(0.05)
                shutil.copyfile(boot.folder / "disk.qcow2", new / "disk.qcow2")
            finally:
                boot.down()
    return final


def main():
    parser = argparse.ArgumentParser(prog="./dev lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, summary):
        added = commands.add_parser(name, help=summary)
        added.add_argument("--name", default="lab", help="which lab (default: lab)")
        return added
    command("up", "start a fresh host").add_argument("--fresh", action="store_true", help="boot it instead of resuming the saved one")
    ssh = command("ssh", "a shell or a command in it, as user dev; one word is a script, several are quoted")
    ssh.add_argument("--root", action="store_true", help="as root")
    ssh.add_argument("words", nargs=argparse.REMAINDER)
    push = command("push", "copy FILE… DEST, as root")
    push.add_argument("files", nargs="+")
    command("down", "end it and remove all of it")
    command("log", "what its console and QEMU said")
    commands.add_parser("image", help="make the image and the booted machine, and say where they are")
    arguments = parser.parse_args()

    if arguments.command == "image":
        print(saved_machine(image()))
        return 0
    lab = Lab(arguments.name)
    if arguments.command == "up":
        try:
            lab.up(arguments.fresh)
        except BaseException:
            if (lab.folder / "console.log").exists():
                say(f"the console said last:\n{tail(lab.folder / 'console.log')}")
            lab.down()
            raise
        return 0
    if arguments.command == "down":
        lab.down()
        return 0
    if not lab.is_up():
        raise LabError(f"'{lab.name}' is not up: ./dev lab up")
    if arguments.command == "log":
        print(tail(lab.folder / "qemu.log", 50), tail(lab.folder / "console.log", 400), sep="\n")
        return 0
    if arguments.command == "push":
        os.execvp("scp", ["scp", "-q", "-r", "-p", "-F", str(lab.folder / "ssh_config"), *arguments.files[:-1], f"root@lab:{arguments.files[-1]}"])
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    script = words if len(words) < 2 else [shlex.join(words)]
    os.execvp("ssh", lab.ssh("root" if arguments.root else "dev", *script))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"lab: {error}")
