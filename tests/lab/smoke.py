#!/usr/bin/env python3
"""What the product does on a whole host, one named test at a time: smoke.py list | up | down | run TEST, for a HOST of the table at the end.

`up` starts a lab and `down` ends it; tests share it and its machines, each makes what it finds missing. They print what they ran when they fail, and leave with
77 when the lab cannot run here, which BANGER_REQUIRE=lab turns into a failure.
"""

import argparse, json, os, re, shlex, shutil, subprocess, sys, time, traceback
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import lab as labs

SKIPPED = 77
IMAGE = labs.GUEST_IMAGE
KERNEL = "debian-cloud"
OUTSIDE = "198.51.100.2"
# A folder with a firecracker and a jailer of one version.
FIRECRACKER = "BANGER_TEST_FIRECRACKER"
# "Within 2 s" is for a host whose processor runs it. An emulated one is 10 to 30 times slower (docs/HACKING.md): it gets this many times as long.
SLOWER = 5 if "tcg" in labs.acceleration() else 1
tests = {}


def test(function):
    tests[function.__name__] = function
    return function


class Failed(Exception):
    pass


class Host:
    """The lab's host, and what was done there."""

    def __init__(self, lab, build):
        self.lab, self.build, self.done = lab, build, []

    def attempt(self, script, user="dev", timeout=600):
        try:
            ended = subprocess.run(self.lab.ssh(user, script), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired:
            self.done.append(f"$ {script}\n[did not end in {timeout} s]")
            raise Failed(f"did not end in {timeout} s: {script}") from None
        self.done.append(f"$ {script}\n{ended.stdout}{ended.stderr}[{ended.returncode}]")
        return ended

    def run(self, script, user="dev", **more):
        ended = self.attempt(script, user, **more)
        if ended.returncode:
            raise Failed(f"status {ended.returncode} of: {script}")
        return ended.stdout.strip()

    def root(self, script, **more):
        return self.run(script, "root", **more)

    def vm(self, name):
        return json.loads(self.run(f"banger vm show {name} --format json"))

    def machine(self, name, *flags):
        """That machine, running. One that another test left is as good."""
        shown = self.attempt(f"banger vm show {name} --format json")
        if shown.returncode:
            self.run(shlex.join(["banger", "vm", "create", "--name", name, "--image", IMAGE, *flags]))
        elif json.loads(shown.stdout)["state"] != "running":
            self.run(f"banger vm start {name}")
        return self.vm(name)

    def in_guest(self, name, script):
        return self.run(shlex.join(["banger", "vm", "ssh", name, "--", "sh", "-c", script]))

    def boot_id(self, name):
        return self.in_guest(name, "cat /proc/sys/kernel/random/boot_id")

    def reaches(self, name, address, port):
        """Whether a connection from the guest is answered with at least a byte."""
        connect = f"exec 3<>/dev/tcp/{address}/{port} && head -c 1 <&3"
        script = shlex.join(["banger", "vm", "ssh", name, "--", "timeout", "8", "bash", "-c", connect])
        ended = self.attempt(script)
        if ended.returncode == 255:
            raise Failed(f"no ssh to {name}")
        return bool(ended.stdout)


def equal(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what}: {found!r} instead of {wanted!r}")


def holds(condition, what):
    if not condition:
        raise Failed(what)


# What the documents show: blocks of tests/docs/docs_test.cpp's `sh lab`, and the files beside them

def blocks_of(document, section):
    """Of each block in that section: what is written behind its ```, and its text."""
    text = (labs.TREE / document).read_text()
    body = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    return re.findall(r"^```(.*?)\n(.*?)^```", body, re.M | re.S)


def documented(host, document, section, folder="/mnt/tree", instead=()):
    """Runs them, with the machine that there is for the one that they name, and what else is to stand in for theirs. ./dev has built what is in the tree that the lab sees."""
    lines = [line for kind, text in blocks_of(document, section) if kind == "sh lab" for line in text.splitlines() if not line.startswith("./dev ")]
    holds(lines, f"no commands in {section} of {document}")
    for line in lines:
        for theirs, ours in (("sandbox", "one"), ("build/dev", host.build), *instead):
            line = line.replace(theirs, ours)
        host.run(f"cd {folder} && {line}", timeout=300)


def shown(document, section, kind=""):
    [text] = [text for each, text in blocks_of(document, section) if each == kind]
    return text


# Installing

@test
def install(host):
    host.root("test -f /root/ledger.before || /mnt/tree/tests/lab/ledger > /root/ledger.before")
    host.root("test -d /var/lib/banger || /mnt/tree/tests/lab/seed_guests /var/lib/banger dev")
    documented(host, "README.md", "On a host that you keep: system mode")
    equal(host.run("stat -c '%a %U' /run/banger/bangerd.sock"), "600 dev", "bangerd's socket")
    equal(host.root("stat -c '%a %U' /run/banger-root/bangerd-root.sock /run/banger-root"), "600 dev\n711 root", "the helper's socket and folder")
    holds(IMAGE in host.run("banger image list"), "the seeded image is not listed")


@test
def services_are_hardened(host):
    for unit, limit in (("bangerd-root", 3.0), ("bangerd", 2.0)):
        said = host.root(f"systemd-analyze security --no-pager {unit}.service | tail -1")
        score = float(re.search(r"level for \S+: ([0-9.]+)", said)[1])
        print(f"{unit}: {score}")
        holds(score < limit, f"systemd-analyze security gives {unit} {score}, not under {limit}")


def status_of(host, unit):
    """/proc/PID/status of a service, as it is and not as its unit says."""
    lines = host.root(f"cat /proc/$(systemctl show -P MainPID {unit}.service)/status").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@test
def sandboxes_are_in_force(host):
    capabilities = {"bangerd": 0, "bangerd-root": 1 << 0 | 1 << 1 | 1 << 12 | 1 << 21 | 1 << 27}  # chown, dac_override, net_admin, sys_admin, mknod (linux/capability.h)
    for unit, wanted in capabilities.items():
        status = status_of(host, unit)
        equal({name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
              {"CapInh": 0, "CapPrm": wanted, "CapEff": wanted, "CapBnd": wanted, "CapAmb": 0}, f"capabilities of {unit}")
        equal((status["NoNewPrivs"], status["Seccomp"], status["Umask"]), ("1", "2", "0077"), f"{unit}: privileges, filter, mask")
        inside = f"pid=$(systemctl show -P MainPID {unit}.service); nsenter -t $pid -m"
        for folder in ("/usr", "/etc", "/boot", "/root", "/home/dev", "/var", "/var/lib", "/opt"):
            holds(host.attempt(f"{inside} touch {folder}/banger-was-here", "root").returncode, f"{unit} can write in {folder}")
        equal(host.root(f"{inside} ls -A /tmp"), "", f"what {unit} sees of /tmp")
        for file in ("/proc/sys/kernel/core_pattern", "/sys/fs/cgroup/cgroup.procs"):
            holds(host.attempt(f"{inside} sh -c 'test -w {file} && : >>{file}'", "root").returncode, f"{unit} can write {file}")
    holds(host.attempt("nsenter -t $(systemctl show -P MainPID bangerd-root.service) -m ls /home/dev", "root").stdout == "", "the helper sees a home")
    helper = "/proc/$(systemctl show -P MainPID bangerd-root.service)"
    # As systemd made it, and nobody added to it; the helper itself clears it before its plugins come.
    given = host.root(f"tr '\\0' '\\n' <{helper}/environ | cut -d= -f1").split()
    equal([name for name in given if not re.fullmatch(r"LANG|PATH|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID|(NOTIFY|LISTEN|WATCHDOG|RUNTIME|STATE)_[A-Z]+", name)],
          [], "the helper's environment")
    # Nothing but its own: sockets, eventfds, device-mapper's control, its plugins and their ledgers.
    opened = host.root(f"ls -l {helper}/fd | awk 'NR > 1 {{print $NF}}'").splitlines()
    foreign = [name for name in opened if not re.match(r"socket:|anon_inode:|/dev/mapper/control|/dev/null|/usr/local/lib/banger/plugins/|/run/banger-root/", name)]
    equal(foreign, [], "what else the helper has open")
    equal(status_of(host, "bangerd")["Uid"].split(), ["1000"] * 4, "who bangerd is")


@test
def doctor_has_no_failure(host):
    host.run("banger doctor")


# Machines

@test
def machines_are_firecrackers(host):
    vm = host.machine("one")
    equal(vm["backend"], "vmm-firecracker", "the back end that nobody chose")
    pid = vm["pid"]
    holds(int(host.run(f"stat -c %u /proc/{pid}")) >= 1883373568, "the VMM has no user of its own")
    equal(host.root(f"sed -n 's/^CapEff:.//p;s/^NoNewPrivs:.//p' /proc/{pid}/status"), "0000000000000000\n1", "capabilities and no_new_privs")
    holds("/jail/firecracker/" in host.root(f"readlink /proc/{pid}/root; grep ' / ' /proc/{pid}/mountinfo"), "the VMM has no root folder of its own")
    holds("banger.slice" in host.run(f"cat /proc/{pid}/cgroup"), "the VMM is in no slice of its own")
    equal(host.root(f"tr '\\0' '\\n' </proc/{pid}/environ"), "", "the VMM's environment")


@test
def firecracker_takes_no_signal_from_its_owner(host):
    host.machine("one")
    ended = host.attempt("banger vm kill --signal TERM one")
    equal(ended.returncode, 1, "status of a signal")
    holds("runs as another user" in ended.stderr and "without --signal" in ended.stderr, "no word of what to do instead")


@test
def misfits_are_refused(host):
    """A link or a disk that Firecracker cannot open, and a machine of Firecracker's where that is gone."""
    for flag, why in (("--network net-user", "cannot open a user link"), ("--storage storage-file", "is no block device")):
        ended = host.attempt(f"banger vm create --name misfit --image {IMAGE} {flag}")
        equal(ended.returncode, 1, f"status of create {flag}")
        holds(why in ended.stderr, f"no word of what does not fit with {flag}")
        equal(host.attempt("banger vm show misfit").returncode, 1, f"what is left after {flag}")
    host.machine("one")
    host.run("banger vm stop one")
    host.root("mv /usr/local/bin/firecracker /root/")
    try:
        ended = host.attempt("banger vm start one")
        equal(ended.returncode, 1, "status of a start without Firecracker")
        holds("Firecracker is not installed" in ended.stderr, "no word of what is missing")
        host.root("systemctl restart bangerd.service")
        holds("the fallback (default: Firecracker is not installed)" in host.attempt("banger doctor --format json").stdout, "doctor does not say why it is QEMU")
        said = host.run(f"banger vm run --rm --image {IMAGE} -- systemd-detect-virt 2>&1 || true")
    finally:
        host.root("mv /root/firecracker /usr/local/bin/; systemctl restart bangerd.service")
    holds(said.splitlines()[-1] in ("kvm", "qemu"), f"what a machine is without Firecracker: {said}")
    host.run("banger vm start one")
    equal(host.vm("one")["backend"], "vmm-firecracker", "the back end of the machine that was there")


@test
def real_firecracker_keeps_the_contract(host):
    """With jailer, and, as far as the two differ, without."""
    kernel = host.root("dirname $(ls -t /var/lib/banger/kernels/*/vmlinux | head -n 1)")
    program = f"BANGER_TEST_KERNEL={kernel} {host.build}/tests/real_firecracker_test"
    print(host.root(f"{program} 2>&1", timeout=1800))
    print(host.root(f"BANGER_TEST_JAILER=none {program} --gtest_filter='*agents_channel*:*outlive*' 2>&1", timeout=900))


@test
def bare_run(host):
    before = host.run("banger vm list --quiet")
    ended = host.attempt(f"banger vm run --rm --image {IMAGE} -- uname -s")
    equal((ended.returncode, ended.stdout), (0, "Linux\n"), "a command in a fresh machine")
    holds(ended.stderr.startswith("spec: "), "the first line is not the spec")
    equal(host.run("banger vm list --quiet"), before, "machines after --rm")


@test
def exit_42(host):
    equal(host.attempt(f"banger vm run --rm --image {IMAGE} -- sh -c 'exit 42'").returncode, 42, "exit status")


@test
def two_runs_at_once(host):
    said = host.run(f"""cd "$(mktemp -d)"
        for i in 1 2; do banger vm run --rm --image {IMAGE} -- sh -c "echo from $i" >$i.out 2>$i.err & done
        wait; cat 1.out 2.out; cat 1.err 2.err >&2""")
    equal(said, "from 1\nfrom 2", "two runs")


@test
def create_stop_start_ssh_delete(host):
    host.run(f"banger vm create --name whole --image {IMAGE}")
    host.run("banger vm stop whole")
    equal(host.vm("whole")["state"], "stopped", "state after stop")
    host.run("banger vm start whole")
    equal(host.in_guest("whole", "hostname"), "whole", "hostname")
    host.run("banger vm delete whole")
    holds(host.attempt("banger vm show whole").returncode == 1, "it is still there")


@test
def repository_in_and_out(host):
    host.machine("one")
    host.run("""rm -rf ~/project ~/copied; mkdir ~/project && cd ~/project && git init -q -b main
        git config user.name dev && git config user.email dev@example.com
        seq 9 >file && printf '\\0binary' >data && git add . && git commit -qm one
        banger vm workspace prepare one . --force
        banger vm exec one -- sh -c 'echo ten >>file; rm data; mkdir new; echo x >new/x'
        banger vm workspace export one -o ~/fix.patch && git apply ~/fix.patch""", timeout=900)
    equal(host.run("cd ~/project && git status --short"), "D data\n M file\n?? new/", "what came back")
    host.run("banger vm cp ~/project one:/srv && banger vm cp one:/srv/project ~/copied && diff -r ~/project ~/copied", timeout=900)


@test
def stop_keeps_many_small_files(host):
    host.machine("one")
    sums = "cat /root/many/* /var/many/* | sha256sum"
    before = host.in_guest("one", "mkdir -p /root/many /var/many && for i in $(seq 500); do echo $i >/root/many/$i; echo $i >/var/many/$i; done; " + sums)
    host.run("banger vm stop one && banger vm start one")
    equal(host.in_guest("one", sums), before, "files after stop and start")


@test
def restart_is_a_new_boot(host):
    host.machine("one")
    before = host.boot_id("one")
    host.run("banger vm restart one")
    holds(host.boot_id("one") != before, "the same boot id")


@test
def kill_ends_it_and_it_starts_again(host):
    pid = host.machine("one")["pid"]
    host.run("banger vm kill one")
    equal(host.vm("one")["state"], "stopped", "state after kill")
    holds(host.attempt(f"test -d /proc/{pid}", "root").returncode, "the VMM lives")
    host.run("banger vm start one")
    holds(host.boot_id("one"), "no boot id")


@test
def prune_takes_what_does_not_run(host):
    host.machine("one")
    host.run(f"banger vm create --no-start --name idle --image {IMAGE}")
    host.run("banger vm prune -f")
    names = [vm["name"] for vm in json.loads(host.run("banger vm list --format json"))]
    holds("idle" not in names and "one" in names, f"left: {names}")


# The network

def nat_rules(host, address):
    return [line for line in host.root("nft list ruleset").splitlines() if "masquerade" in line and address in line]


@test
def nat_rule_lives_with_the_machine(host):
    address = host.machine("wide", "--nat")["address"]
    equal(len(nat_rules(host, address)), 1, "rules of a running machine")
    host.run("banger vm stop wide && banger vm start wide")
    address = host.vm("wide")["address"]
    equal(len(nat_rules(host, address)), 1, "rules after stop and start")
    host.run("banger vm delete wide")
    equal(nat_rules(host, address), [], "rules after delete")


def outside(host):
    """A namespace is the world beyond the host. It could answer a guest whose address is not translated, too."""
    host.root(f"""ip netns list | grep -q outside && exit 0
        ip netns add outside
        ip link add out0 type veth peer name out1 netns outside
        ip addr add 198.51.100.1/24 dev out0; ip link set out0 up
        ip -n outside addr add {OUTSIDE}/24 dev out1; ip -n outside link set out1 up; ip -n outside link set lo up
        ip -n outside route add default via 198.51.100.1
        systemd-run -q --unit=outside ip netns exec outside python3 /mnt/tree/tests/lab/say_peer.py {OUTSIDE} 80""")


@test
def outside_only_with_nat(host):
    outside(host)
    host.machine("one")
    host.machine("wide", "--nat")
    said = host.run(shlex.join(["banger", "vm", "ssh", "wide", "--", "timeout", "8", "bash", "-c", f"exec 3<>/dev/tcp/{OUTSIDE}/80 && head -n 1 <&3"]))
    equal(said, "198.51.100.1", "whom the outside saw")
    holds(not host.reaches("one", OUTSIDE, 80), "without --nat it reaches the outside")


@test
def guests_are_apart(host):
    one, wide = host.machine("one"), host.machine("wide", "--nat")
    gateway = host.in_guest("one", "ip -4 route show default || true").split()
    bridge = host.root("ip -4 -o addr show banger0").split()[3].split("/")[0]
    host.root(f"python3 -c 'import socket; [socket.create_connection((a, 22), 5) for a in (\"{one['address']}\", \"{wide['address']}\")]'")
    for name, other in (("one", wide), ("wide", one)):
        holds(not host.reaches(name, other["address"], 22), f"{name} reaches the other guest")
        holds(not host.reaches(name, bridge, 22), f"{name} reaches the host's sshd")
        holds(not host.reaches(name, bridge, 42069), f"{name} reaches the daemon's responder")
    print("default route:", gateway)


@test
def name_through_getaddrinfo_dig_and_curl(host):
    address = host.machine("one")["address"]
    equal(host.run("getent ahostsv4 one.vm | awk '{print $1; exit}'"), address, "getaddrinfo")
    equal(host.run("dig +short one.vm"), address, "dig through resolved")
    equal(host.run("dig +short -p 42069 @127.0.0.1 one.vm"), address, "dig at the responder")
    equal(host.run("dig +short +tcp -p 42069 @127.0.0.1 one.vm"), address, "dig at the responder by TCP")
    holds("NXDOMAIN" in host.run("dig -p 42069 @127.0.0.1 nobody.vm"), "an unknown name")
    equal(host.run("curl -s --max-time 20 telnet://one.vm:22 </dev/null | head -c 4"), "SSH-", "curl")


@test
def name_at_the_responder(host):
    address = host.machine("one")["address"]
    equal(host.run("dig +short -p 42069 @127.0.0.1 one.vm"), address, "dig at the responder")


@test
def resolved_as_documented(host):
    host.machine("one")
    documented(host, "docs/dns-routing.md", "systemd-resolved")


def by_another_resolver(host, resolve):
    """The name for every program, as `resolve` leads it there; nothing of that stays."""
    address = host.machine("one")["address"]
    try:
        resolve()
        equal(host.run("getent hosts one.vm").split()[0], address, "getent")
    finally:
        # NetworkManager leaves its dnsmasq, and what it remembers of links.
        host.root("""systemctl stop dnsmasq NetworkManager; systemctl kill -s KILL NetworkManager 2>/dev/null; rm -rf /run/NetworkManager
            rm -f /etc/dnsmasq.d/banger.conf /etc/NetworkManager/dnsmasq.d/banger.conf /etc/NetworkManager/conf.d/dns.conf
            systemctl restart systemd-networkd; echo nameserver 10.0.2.3 >/etc/resolv.conf""")


@test
def dnsmasq_as_documented(host):
    host.root(f"tee /etc/dnsmasq.d/banger.conf <<'END'\n{shown('docs/dns-routing.md', 'dnsmasq')}END")
    host.root("echo nameserver 127.0.0.1 >/etc/resolv.conf")
    by_another_resolver(host, lambda: documented(host, "docs/dns-routing.md", "dnsmasq"))


@test
def networkmanager_as_documented(host):
    host.root(f"""printf '[main]\\ndns=dnsmasq\\nrc-manager=file\\n' >/etc/NetworkManager/conf.d/dns.conf
        mkdir -p /etc/NetworkManager/dnsmasq.d
        tee /etc/NetworkManager/dnsmasq.d/banger.conf <<'END'\n{shown('docs/dns-routing.md', 'NetworkManager')}END""")
    by_another_resolver(host, lambda: documented(host, "docs/dns-routing.md", "NetworkManager"))


@test
def plain_resolv_conf_as_documented(host):
    text = shown("docs/dns-routing.md", "A plain /etc/resolv.conf").replace("192.0.2.53", "10.0.2.3")
    host.root(f"tee /etc/dnsmasq.d/banger.conf <<'END'\n{text}END\nsystemctl restart dnsmasq; echo nameserver 127.0.0.1 >/etc/resolv.conf")
    by_another_resolver(host, lambda: None)


@test
def without_the_dns_plugin_as_documented(host):
    host.root(f"tee -a /etc/banger/config.toml <<'END'\n{shown('docs/dns-routing.md', 'Any other resolver', 'toml')}END")
    documented(host, "docs/dns-routing.md", "Any other resolver")
    holds(host.attempt("ip link show banger-dns").returncode, "banger-dns is still there")


@test
def privileged_plugin_as_documented(host):
    """The fakes in the helper: what they say they make is nothing, so no machine is made with them."""
    host.run(f"mkdir -p ~/mine && cp {host.build}/tests/fake-root/fake-root.so /mnt/tree/tests/bangerd-root/fake-root.toml ~/mine")
    host.root("touch /etc/banger/config.toml && cp /etc/banger/config.toml /root/config.before")
    chosen = """printf '[plugins]\\nnetwork = "fake-root"\\n' | sudo tee /etc/banger/config.toml #"""
    try:
        documented(host, "docs/PLUGINS.md", "A third party's plugin that needs root", "~/mine",
                   (("sudoedit", chosen), ("net-mine", "fake-root")))
        [row] = [line for line in host.run("banger plugin list").splitlines() if line.startswith("fake-root")]
        holds("by root" in row and "network" in row, f"the list says: {row}")
        host.root("printf x >>/usr/local/lib/banger/plugins/fake-root.so")
        ended = host.attempt("sudo banger system restart")
        holds(ended.returncode and "banger plugin trust fake-root" in ended.stderr, "a library that was changed is taken")
    finally:
        host.root("""cp /root/config.before /etc/banger/config.toml; banger plugin distrust fake-root
            rm -f /usr/local/lib/banger/plugins/fake-root.*; rm -rf /home/dev/mine; banger system restart""", timeout=300)


@test
def plugin_with_too_many_threads(host):
    """It has a control group of its own, gets no more threads than that allows, and everybody else goes on."""
    folder, sources = ".local/lib/banger/plugins", labs.TREE / "tests/third-party/python-image-source"
    begins_threads = r"""
import _thread, time
def begin_threads():
    while True:
        try:
            _thread.start_new_thread(time.sleep, (3600,))
        except RuntimeError:
            time.sleep(1)
_thread.stack_size(65536)
_thread.start_new_thread(begin_threads, ())
"""
    first, program = (sources / "image-py").read_text().split("\n", 1)
    manifest = (sources / "image-py.toml").read_text().replace("image-py", "crowd")
    host.run(f"mkdir -p {folder} && cat >{folder}/crowd <<'END'\n{first}{begins_threads}{program.replace('image-py', 'crowd')}END")
    host.run(f"cat >{folder}/crowd.toml <<'END'\n{manifest}END\nchmod 755 {folder}/crowd")
    try:
        host.run("banger plugin enable crowd && sudo banger system restart", timeout=300)
        ended = host.attempt("banger image pull py:none", timeout=300)
        holds("/srv/images/none.tar" in ended.stderr, f"the plugin was not asked: {ended.stderr}")
        scope = host.run("systemctl --user list-units --plain --no-legend 'banger-plugin-crowd-*.scope' | cut -d' ' -f1")
        limit = host.run(f"systemctl --user show -P TasksMax {scope}")
        host.run(f"timeout 60 sh -c 'until [ $(systemctl --user show -P TasksCurrent {scope}) = {limit} ]; do sleep 1; done'")
        [process] = host.run(f"cat /sys/fs/cgroup$(systemctl --user show -P ControlGroup {scope})/cgroup.procs").split()
        equal(host.run(f"ls /proc/{process}/task | wc -l"), limit, "its threads")
        holds("crowd" in host.run("banger plugin list"), "bangerd does not answer")
        equal(host.run(f"banger vm run --rm --image {IMAGE} -- echo here", timeout=600), "here", "a machine beside it")
    finally:
        host.attempt(f"banger plugin disable crowd; rm -f {folder}/crowd*; sudo banger system restart", timeout=300)


# Services under live machines

def stays(host, act):
    """What `act` does to the services does nothing to a machine, and soon it can be worked with again. Returns the seconds."""
    before, boot = host.machine("one"), host.boot_id("one")
    # In one script, because each way to the lab's host and back takes a second.
    took = float(host.root(f"""{act}
        begin=$(date +%s%N)
        until runuser -u dev -- timeout 5 banger vm show one --format json 2>/dev/null | grep -q '"state": *"running"'; do
            [ $(( ($(date +%s%N) - begin) / 1000000000 )) -lt 60 ] || exit 1
        done
        echo $(( ($(date +%s%N) - begin) / 1000000 ))""").splitlines()[-1]) / 1000
    after = host.vm("one")
    equal((after["pid"], host.boot_id("one")), (before["pid"], boot), "VMM and boot")
    print(f"{act}: {took:.2f} s")
    holds(took < 2 * SLOWER, f"reachable after {took:.1f} s")


@test
def restart_of_bangerd(host):
    stays(host, "systemctl restart bangerd.service")


@test
def restart_of_the_helper(host):
    stays(host, "systemctl restart bangerd-root.service")


@test
def kill_9_of_bangerd(host):
    stays(host, "systemctl kill --kill-whom=main --signal=KILL bangerd.service")


@test
def kill_9_of_the_helper(host):
    stays(host, "systemctl kill --kill-whom=main --signal=KILL bangerd-root.service")


@test
def install_twice(host):
    stays(host, f"{host.build}/bin/banger system install --owner dev >&2")


@test
def helper_opens_no_library_later(host):
    host.machine("one")
    host.root("""pid=$(systemctl show -P MainPID bangerd-root.service)
        strace -f -e trace=openat,open -o /root/helper.strace -p "$pid" & tracer=$!
        until [ "$(awk '/TracerPid/ {print $2}' /proc/$pid/status)" != 0 ]; do :; done
        runuser -u dev -- banger vm stop one >/dev/null; runuser -u dev -- banger vm start one >/dev/null 2>&1
        kill "$tracer"; wait "$tracer"; wc -l </root/helper.strace""")
    opened = host.root("grep -E '\\.so(\\.|\")' /root/helper.strace || true")
    equal(opened, "", "libraries opened at work")


# Crashes

@test
def kill_9_of_a_vmm(host):
    pid = host.machine("one")["pid"]
    host.root(f"kill -9 {pid}")
    host.run("banger vm start one")
    holds(host.vm("one")["pid"] != pid, "it is said to run in a process that was killed")
    holds(host.boot_id("one"), "no boot id")


# A tap is removed a moment after `vm delete` has said that it is done.
OBJECTS = """timeout 60 sh -c 'while grep -qs "^state leaving" /run/banger-root/net-bridge/ledger/vm-*; do sleep 0.2; done'
    dmsetup ls; losetup -ln -O BACK-INO; ip -o link | awk -F': ' '{print $2}'; nft list ruleset | sed 's/counter packets.*//'
    find /dev/banger /run/banger-root /var/lib/banger-root /var/lib/banger/vms | sort"""
KILL = {
    "bangerd": "systemctl kill --kill-whom=main --signal=KILL bangerd.service",
    "the_helper": "systemctl kill --kill-whom=main --signal=KILL bangerd-root.service",
    "the_vmm": "kill -9 $(runuser -u dev -- banger vm show torn --format json | jq .pid)",
}
# What is done with a machine, and the lines of its progress at which somebody dies: at least one a step.
CRASHES = [
    ("create", "making disks", ("bangerd", "the_helper")),
    ("create", "joining the network", ("bangerd", "the_helper")),
    ("create", "booting", ("bangerd", "the_helper", "the_vmm")),
    ("create", "publishing the name", ("bangerd", "the_helper")),
    ("start", "joining the network", ("bangerd", "the_helper")),
    ("start", "booting", ("the_vmm",)),
    ("stop", "to power off", ("bangerd", "the_helper", "the_vmm")),
    ("delete", "to power off", ("bangerd", "the_helper", "the_vmm")),
]


def torn(host, operation, stage, victim):
    """An operation in which somebody is killed ends or leaves a machine that can be deleted, and then nothing of it. The machine beside it does not notice."""
    beside, boot = host.machine("one"), host.boot_id("one")
    before = host.root(OBJECTS)
    words = f"--name torn --image {IMAGE}" if operation == "create" else "torn"
    if operation != "create":
        host.run(f"banger vm create --name torn --image {IMAGE}")
    if operation == "start":
        host.run("banger vm stop torn")
    host.root(f"""runuser -u dev -- banger vm {operation} {words} >/root/torn.out 2>/root/torn.err & process=$!
        until [ -e /root/torn.err ]; do :; done
        timeout 300 tail -n +1 -f --pid=$process /root/torn.err | grep -m 1 '{stage}' >&2 || exit 1
        {KILL[victim]}
        wait $process; echo "{operation} ended with $?"; cat /root/torn.err; rm /root/torn.*
        until runuser -u dev -- timeout 5 banger vm list >/dev/null 2>&1; do :; done""")
    shown = host.attempt("banger vm show torn --format json")
    if shown.returncode == 0:
        legal = ("created", "running", "stopped", "error") + (("deleting",) if operation == "delete" else ())
        holds(json.loads(shown.stdout)["state"] in legal, "no legal state")
        host.run("banger vm delete --force torn")
    equal(host.root(OBJECTS), before, f"what a torn {operation} leaves")
    equal((host.vm("one")["pid"], host.boot_id("one")), (beside["pid"], boot), "the machine beside it")


for operation, stage, victims in CRASHES:
    for victim in victims:
        def crash(host, operation=operation, stage=stage, victim=victim):
            torn(host, operation, stage, victim)
        crash.__name__ = f"crash_of_{victim}_in_{operation}_while_{stage.replace(' ', '_')}"
        test(crash)


# Leaving

@test
def uninstall_leaves_machines(host):
    host.machine("one")
    host.run("sudo banger system uninstall", timeout=300)
    holds(host.attempt("pgrep -lx 'bangerd|bangerd-root|qemu-system-x86|firecracker|jailer'").returncode, "something of it runs")
    host.run(f"sudo {host.build}/bin/banger system install --owner dev", timeout=300)
    host.run("banger vm start one")
    holds(host.boot_id("one"), "no boot id")


@test
def purge_leaves_nothing(host):
    host.machine("one")
    host.root("systemctl stop outside 2>/dev/null; ip netns del outside 2>/dev/null; umount /run/netns 2>/dev/null; ip link del out0 2>/dev/null; systemctl reset-failed; true")
    host.run("sudo banger system uninstall --purge", timeout=300)
    host.root("/mnt/tree/tests/lab/ledger > /root/ledger.after")
    equal(host.root("diff /root/ledger.before /root/ledger.after || true"), "", "left or lost")


# Hosts

def plain(host):
    pass


def forward_drop(host):
    """As Docker's and ufw's rules have it."""
    host.root("iptables -P FORWARD DROP; iptables -A FORWARD -i docker0 -j ACCEPT")


def with_firecracker(host):
    """A real Firecracker and its jailer: nothing of it is in this repository."""
    for name in ("firecracker", "jailer"):
        with open(Path(os.environ[FIRECRACKER]) / name, "rb") as program:
            command = f"cat >/usr/local/bin/{name} && chmod 0755 /usr/local/bin/{name}"
            subprocess.run(host.lab.ssh("root", command), stdin=program, check=True, timeout=300)


def without_resolved(host):
    host.root("systemctl disable --now -q systemd-resolved; rm -f /etc/resolv.conf; echo nameserver 10.0.2.3 >/etc/resolv.conf")


RESOLVERS = ["without_the_dns_plugin_as_documented", "dnsmasq_as_documented", "plain_resolv_conf_as_documented", "networkmanager_as_documented"]
HOSTS = {
    "plain": (plain, list(tests)),
    "forward_drop": (forward_drop, ["install", "outside_only_with_nat", "guests_are_apart", "purge_leaves_nothing"]),
    "firecracker": (with_firecracker, list(tests)),
    "without_resolved": (without_resolved, ["install", "bare_run", "name_at_the_responder", *RESOLVERS, "purge_leaves_nothing"]),
}
# What has its own variant.
for host, names in {"plain": [*RESOLVERS, "name_at_the_responder", "machines_are_firecrackers", "firecracker_takes_no_signal_from_its_owner", "misfits_are_refused", "real_firecracker_keeps_the_contract"],
                    "firecracker": [*RESOLVERS, "privileged_plugin_as_documented", "plugin_with_too_many_threads", "name_at_the_responder"]}.items():
    for name in names:
        HOSTS[host][1].remove(name)


def reason_to_skip():
    for program in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "ssh"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return None


def pull_guest(build):
    """As the boot tests do, into their cache."""
    environment = {**os.environ, "HOME": f"{labs.GUESTS}/home", "XDG_RUNTIME_DIR": f"{labs.GUESTS}/run"}
    for name in ("STATE", "CACHE", "CONFIG"):
        environment[f"XDG_{name}_HOME"] = f"{labs.GUESTS}/{name.lower()}"
    for folder in ("home", "state", "cache", "config", "run"):
        (labs.GUESTS / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    for words in (["image", "pull", IMAGE], ["kernel", "pull", KERNEL]):
        subprocess.run([build / "bin/banger", *words], env=environment, check=True, timeout=1200)


def up(lab, build, prepare):
    reason = reason_to_skip()
    if prepare is with_firecracker and not os.environ.get(FIRECRACKER):
        reason = f"{FIRECRACKER} names no folder with firecracker and jailer"
    if reason:
        print(reason)
        return 1 if "lab" in os.environ.get("BANGER_REQUIRE", "") else SKIPPED
    if len(labs.guest_artifacts()) < 2:
        pull_guest(build)
    lab.down()
    lab.up()
    if SLOWER > 1:
        # A guest of an emulated host cannot know how slow that is.
        Host(lab, "").root(f"""mkdir -p /run/systemd/system/bangerd.service.d
            printf '[Service]\\nEnvironment=BANGER_READY_WAIT={90 * SLOWER}\\n' >/run/systemd/system/bangerd.service.d/slow.conf
            echo BANGER_SSH_WAIT={90 * SLOWER} >>/etc/environment""")
    prepare(Host(lab, ""))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", choices=HOSTS, default="plain")
    parser.add_argument("--build", type=Path, default=labs.TREE / "build/dev")
    parser.add_argument("do", choices=["list", "up", "down", "run"])
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    prepare, names = HOSTS[arguments.host]
    lab = labs.Lab(f"smoke-{arguments.host}")
    if arguments.do == "list":
        print(";".join(f"{host}.{name}" for host, (_, names) in HOSTS.items() for name in names))
        return 0
    if arguments.do == "up":
        return up(lab, arguments.build.resolve(), prepare)
    if arguments.do == "down":
        lab.down()
        return 0
    if not lab.is_up():
        print("the lab is not up")
        return 1 if "lab" in os.environ.get("BANGER_REQUIRE", "") else SKIPPED
    status = 0
    for name in arguments.tests or names:
        host = Host(lab, f"/mnt/tree/{arguments.build.resolve().relative_to(labs.TREE)}")
        begun = time.monotonic()
        try:
            tests[name](host)
            print(f"PASS {name} ({time.monotonic() - begun:.0f} s)", flush=True)
        except Exception as failure:
            status = 1
            if not isinstance(failure, Failed):
                traceback.print_exc()
            journal = host.attempt("journalctl --no-pager -n 60 -u 'bangerd*' -u 'banger*' -o short-precise", "root").stdout
            print(*host.done[:-1], "--- journal", journal, f"FAIL {name}: {failure}", sep="\n", flush=True)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except labs.LabError as error:
        sys.exit(f"lab: {error}")
