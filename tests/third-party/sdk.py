#!/usr/bin/env python3
"""What somebody outside has: the Debian packages and a compiler. sdk.py BUILD-FOLDER TEST

Everything lies in BUILD-FOLDER/sdk: the packages unpacked (root/usr), and projects built against that
and nothing else. `packages` comes first. A test that cannot run says why and ends with 77."""
import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as tree

BUILD = pathlib.Path(sys.argv[1]).resolve()
SDK = BUILD / "sdk"
ROOT = SDK / "root"
USR = ROOT / "usr"
BANGER = USR / "bin/banger"
EXAMPLES = USR / "share/doc/banger-plugin-dev/examples"
DOCS = USR / "share/doc/banger"
PROJECTS = SDK / "projects"
# name → role; `plugin new` writes them
NEW = {"my-images": "image-source", "my-names": "dns", "my-disks": "storage"}
SKIP = 77

os.umask(0o022)  # a plugin that others can write is refused
os.environ.update(CCACHE_BASEDIR=str(BUILD.parent.parent), CCACHE_NOHASHDIR="1")


def fail(text):
    sys.exit(f"FAILED: {text}")


def check(truth, text):
    if not truth:
        fail(text)


def skip(text, needs=None):
    if needs and needs in os.environ.get("BANGER_REQUIRE", "").split(","):
        fail(text)
    print(f"SKIPPED: {text}")
    sys.exit(SKIP)


def run(*words, status=0, **options):
    """Both streams as one text."""
    words = [str(word) for word in words]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if status is not None and done.returncode != status:
        fail(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


# ---- the packages

def packages():
    shutil.rmtree(SDK, ignore_errors=True)
    SDK.mkdir()
    run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", SDK / "packages")
    found = {path.name.split("_")[0]: path for path in (SDK / "packages").glob("*.deb")}
    check(set(found) == {"banger", "banger-plugin-dev"}, f"the packages are {sorted(found)}")
    for package in found.values():
        run("dpkg-deb", "-x", package, ROOT)

    depends = run("dpkg-deb", "-f", found["banger"], "Depends")
    for wanted in ("libc6", "libsqlite3-0", "libnftables1", "qemu-system-x86"):
        check(wanted in depends, f"banger does not depend on {wanted}: {depends}")
    depends = run("dpkg-deb", "-f", found["banger-plugin-dev"], "Depends")
    check(re.search(r"\bbanger \(= [\d.]+\)", depends), f"banger-plugin-dev depends on {depends}")

    files = {str(path.relative_to(USR)) for path in USR.rglob("*") if not path.is_dir()}
    for wanted in ("bin/banger", "bin/bangerd", "bin/bangerd-root", "lib/banger/banger-vsock-agent",
                   "lib/banger/plugins/vmm-qemu.so", "lib/banger/plugins/vmm-qemu.toml",
                   "share/man/man1/banger-plugin-new.1", "share/bash-completion/completions/banger",
                   "share/zsh/vendor-completions/_banger", "share/fish/vendor_completions.d/banger.fish",
                   "share/doc/banger/docs/PLUGINS.md", "include/banger/plugin.hpp",
                   "include/banger/contract/storage.hpp", "lib/libbanger-plugin-api.a",
                   "lib/libbanger-plugin-contract.a",
                   "lib/cmake/BangerPluginApi/BangerPluginApiConfig.cmake",
                   "share/doc/banger-plugin-dev/examples/image-http/plugin.cpp"):
        check(wanted in files, f"the packages lack {wanted}")
    check(not [name for name in files if "fake" in name], "the test double is in the packages")
    headers = {name.removeprefix("include/") for name in files if name.startswith("include/")}
    check(all(re.fullmatch(r"banger/(contract/)?\w+\.hpp", name) for name in headers),
          f"more headers than plugin-api and its contracts: {sorted(headers)}")
    here = str(BUILD.parent.parent)
    for name in files:
        if name.endswith((".cmake", ".md", ".toml", ".hpp")):
            check(here not in (USR / name).read_text(), f"{name} names the folder it was built in")
    # A release that `system install` takes as a whole: what it looks for lies where it looks.
    out = run(BANGER, "--version")
    check(out.startswith("banger "), out)


# ---- projects

def build(name):
    """Configures, builds and tests; the names of the tests that passed."""
    project = PROJECTS / name
    folder = project / "build"
    words = ["cmake", "-S", project, "-B", folder, f"-DCMAKE_PREFIX_PATH={USR}"]
    if shutil.which("ninja"):
        words += ["-G", "Ninja"]
    if shutil.which("ccache"):
        words.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    run(*words)
    run("cmake", "--build", folder)
    results = folder / "results.xml"
    run("ctest", "--test-dir", folder, "-j2", "--output-on-failure", "--output-junit", results)
    cases = tree.parse(results).getroot().iter("testcase")
    passed = {case.get("name") for case in cases if case.get("status") == "run"}
    check("verify" in passed, f"{name}: banger was not asked; passed were {sorted(passed)}")
    check(len(passed) > 8, f"{name}: too few tests passed: {sorted(passed)}")
    print(f"{name}: {len(passed)} tests passed")
    return passed


def new():
    """`plugin new`, for each role: builds, tests green."""
    PROJECTS.mkdir(exist_ok=True)
    for name, role in NEW.items():
        shutil.rmtree(PROJECTS / name, ignore_errors=True)
        out = run(BANGER, "plugin", "new", name, "--role", role, cwd=PROJECTS)
        check(out.startswith(f"made {name}\n"), out)
        again = run(BANGER, "plugin", "new", name, "--role", role, cwd=PROJECTS, status=1)
        check("exists already" in again, again)
        for path in (PROJECTS / name).iterdir():
            for old in ("image-folder", "dns-hosts", "storage-reflink"):
                check(old not in path.name and old not in path.read_text(), f"{path} speaks of {old}")
        build(name)
    taken = run(BANGER, "plugin", "new", "catalog", "--role", "image-source", cwd=PROJECTS, status=1)
    check("of its own" in taken, taken)


def documented():
    """What somebody outside reads first, as it stands."""
    block = re.search(r"^```sh sdk\n(.*?)^```", (DOCS / "docs/PLUGINS.md").read_text(), re.M | re.S)[1]
    with tempfile.TemporaryDirectory(prefix="banger-sdk-") as home:
        environment = {"HOME": home, "PATH": f"{USR}/bin:{os.environ['PATH']}", "CMAKE_PREFIX_PATH": str(USR)}
        out = run("bash", "-euc", block, cwd=home, env=environment)
        check("100% tests passed" in out, out)
        installed = pathlib.Path(home) / ".local/lib/banger/plugins/my-images.so"
        digest = hashlib.sha256(installed.read_bytes()).hexdigest()
        check(digest in out.split("100% tests passed")[1], f"`plugin verify` did not look at what was installed: {out}")


def image_http():
    PROJECTS.mkdir(exist_ok=True)
    shutil.rmtree(PROJECTS / "image-http", ignore_errors=True)
    shutil.copytree(EXAMPLES / "image-http", PROJECTS / "image-http")
    passed = build("image-http")
    check("Listing.WhatIsNoTarFileIsPassedOver" in passed, sorted(passed))


def storage_on_btrfs():
    """The storage project again, where blocks can be shared."""
    if os.geteuid() != 0:
        skip("only root can mount")
    if not shutil.which("mkfs.btrfs"):
        skip("mkfs.btrfs is not there (btrfs-progs)")
    with tempfile.TemporaryDirectory(prefix="banger-btrfs-") as folder:
        disk, mount = f"{folder}/disk", f"{folder}/mount"
        os.mkdir(mount)
        os.truncate(os.open(disk, os.O_CREAT | os.O_WRONLY, 0o600), 256 << 20)
        run("mkfs.btrfs", "-q", disk)
        # A mount namespace of its own: nothing to take down.
        script = f'mount -o loop "{disk}" "{mount}" || exit {SKIP}; export TMPDIR="{mount}"; exec "$0"'
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, PROJECTS / "my-disks/build/contract_test"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == SKIP or "unshare failed" in done.stdout:
            skip(f"btrfs cannot be mounted here: {done.stdout.strip()}")
        check(done.returncode == 0, done.stdout)
        check("[       OK ] Reflink.SharesTheBlocksOfItsBase" in done.stdout, f"no blocks were shared:\n{done.stdout}")


# ---- banger itself

class Host:
    """A home of its own, with a bangerd that the first command starts and that ends with it. Given `shared`, a folder with
    state, cache and run: the state is that one, and whose bangerd serves it ends first."""

    def __init__(self, config, shared=None):
        self.folder = tempfile.TemporaryDirectory(prefix="banger-sdk-")
        self.home = pathlib.Path(self.folder.name)
        base = pathlib.Path(shared or self.home)
        for path in (base / "run", base / "state", base / "cache", self.home / "config/banger"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config = self.home / "config/banger/config.toml"
        self.config.write_text(config)
        self.state = base / "state/banger"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                            "XDG_RUNTIME_DIR": str(base / "run"), "XDG_STATE_HOME": str(base / "state"),
                            "XDG_CACHE_HOME": str(base / "cache")}
        if shared:
            self.end_daemon()

    def install(self, *names):
        for name in names:
            run("cmake", "--install", PROJECTS / name / "build", "--prefix", self.home / ".local")

    def banger(self, *words, status=0):
        return run(BANGER, *words, status=status, env=self.environment)

    def end_daemon(self):
        pid = re.search(r'"pid":\s*(\d+)', self.banger("version", "--format", "json", status=None))
        if not pid or not int(pid[1]):
            return
        try:
            daemon = os.pidfd_open(int(pid[1]))
            signal.pidfd_send_signal(daemon, signal.SIGTERM)
        except ProcessLookupError:
            return
        select.select([daemon], [], [], 60)
        os.close(daemon)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end_daemon()
        self.folder.cleanup()


def loads():
    """All of them in a real bangerd, each in its role."""
    with Host("# mine\n") as host:
        missing = host.banger("plugin", "use", "storage", "my-disks", status=1)
        check('no plugin "my-disks"' in missing, missing)
        host.install(*NEW)
        host.banger("plugin", "use", "storage", "my-disks")
        host.banger("plugin", "use", "dns", "my-names")
        host.banger("plugin", "enable", "my-images")
        refused = host.banger("plugin", "use", "network", "my-disks", status=1)
        check("does not fill the role network" in refused, refused)
        refused = host.banger("plugin", "use", "network", "net-bridge", status=1)
        check("needs root" in refused, refused)
        check(host.config.read_text() == """# mine

[plugins]
image_sources = ["catalog", "image-debian", "my-images", "image-oci"]
dns = "my-names"
storage = "my-disks"
""", host.config.read_text())
        listed = json.loads(host.banger("plugin", "list", "--format", "json"))["plugins"]
        mine = {plugin["name"]: plugin for plugin in listed if plugin["name"] in NEW}
        for name, role in NEW.items():
            plugin = mine.get(name, {})
            check(plugin.get("status") == "loaded" and plugin.get("used_for") == [role], f"{name}: {plugin}")
            check(plugin["file"] == f"{host.home}/.local/lib/banger/plugins/{name}.so", plugin["file"])
        verified = host.banger("plugin", "verify", *NEW)
        check(verified.count("ok ") == 3, verified)
        doctor = host.banger("doctor", status=None)
        for words in ("image folder", "hosts file", "reflinks"):
            check(words in doctor, f"doctor has no row {words}:\n{doctor}")
        host.banger("plugin", "disable", "my-images")
        check("my-images" not in host.config.read_text(), host.config.read_text())


def address_of(name, port):
    """What a DNS server on a port of 127.0.0.1 answers (RFC 1035); None for nothing."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    query = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        try:
            client.send(query)
            reply = client.recv(512)
        except OSError:
            return None
    answers = struct.unpack(">H", reply[6:8])[0]
    return socket.inet_ntoa(reply[-4:]) if answers == 1 else None


def await_answer(name, port, wanted):
    deadline = time.monotonic() + 30
    while (got := address_of(name, port)) != wanted:
        check(time.monotonic() < deadline, f"{name} is {got} instead of {wanted}")
        time.sleep(0.05)


def serves():
    """A machine on their disks, from their image, under their name; only what would run it is the test double."""
    if not shutil.which("dnsmasq"):
        skip("dnsmasq is not there (dnsmasq-base)")
    for suffix in (".so", ".toml"):
        shutil.copyfile(BUILD / f"lib/banger/plugins/fake{suffix}", USR / f"lib/banger/plugins/fake{suffix}")
    with Host("") as host, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        images, names = host.home / "images", host.home / "names"
        (images / "root/etc").mkdir(parents=True)
        names.mkdir()
        host.home.chmod(0o755)  # dnsmasq is another user
        (images / "root/etc/motd").write_text("made by a third party\n")
        run("tar", "--owner=0", "--group=0", "-C", images / "root", "-cf", images / "small.tar", ".")
        host.config.write_text(f"""[plugins]
network = "fake"
vm_backend = "fake"
storage = "my-disks"
dns = "my-names"
image_sources = ["my-images", "fake"]
[plugin.my-images]
folder = "{images}"
[plugin.my-names]
folder = "{names}"
""")
        host.install(*NEW)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        resolver = subprocess.Popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--port={port}", "--pid-file",
             "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/vm/", f"--hostsdir={names}"], stderr=subprocess.DEVNULL)
        try:
            host.banger("image", "pull", "my-images:small")
            host.banger("kernel", "pull", "fake:kernel")
            host.banger("image", "set", "small", "--kernel", "fake-kernel")
            host.banger("vm", "create", "--name", "one", "--image", "small", "--disk-size", "64M")
            machine = json.loads(host.banger("vm", "show", "one", "--format", "json"))
            check(machine["state"] == "running", machine)
            disks = host.state / "plugins/my-disks"
            check(sorted(path.name for path in disks.iterdir()) == [f"{machine['id']}-root.raw", f"{machine['id']}-work.raw"],
                  list(disks.iterdir()))
            motd = run("debugfs", "-R", "cat /etc/motd", disks / f"{machine['id']}-root.raw")
            check("made by a third party" in motd, motd)
            await_answer("one.vm", port, machine["address"])
            host.banger("vm", "delete", "--force", "one")
            await_answer("one.vm", port, None)
            check(not list(disks.iterdir()) and not list(names.iterdir()), "something is left")
        finally:
            resolver.terminate()
            resolver.wait()


def boot():
    """A real guest, from the web server of image-http, on the disks of my-disks."""
    for program in ("qemu-system-x86_64", "mmdebstrap", "busybox"):
        if not shutil.which(program):
            skip(f"{program} is not installed", needs="boot")
    cache = os.environ.get("BANGER_TEST_CACHE", os.path.expanduser("~/.cache/banger-test"))
    # The state of the agent's boot tests has a kernel already.
    with Host("", f"{cache}/agent") as host:
        site = host.home / "site"
        for name in ("bin", "sbin", "etc", "root"):
            (site / "root" / name).mkdir(parents=True)
        busybox = site / "root/bin/busybox"
        shutil.copy(shutil.which("busybox"), busybox)
        for tool in run(busybox, "--list").split():
            if tool != "busybox":
                (site / "root/bin" / tool).symlink_to("/bin/busybox")
        (site / "root/sbin/init").symlink_to("/bin/busybox")
        (site / "root/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (site / "root/etc/group").write_text("root:x:0:\n")
        run("tar", "--owner=0", "--group=0", "-C", site / "root", "-czf", site / "third.tar.gz", ".")
        digest = hashlib.sha256((site / "third.tar.gz").read_bytes()).hexdigest()
        (site / "SHA256SUMS").write_text(f"{digest}  third.tar.gz\n")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host.install("image-http", "my-disks", "my-names")
        host.config.write_text(f"""[plugins]
storage = "my-disks"
dns = "my-names"
image_sources = ["image-http", "catalog", "image-debian"]
[plugin.image-http]
url = "http://127.0.0.1:{server.server_port}"
""")
        host.banger("image", "delete", "third", status=None)
        try:
            out = host.banger("vm", "run", "--rm", "--image", "image-http:third", "--memory", "256M", "--",
                              "sh", "-c", "echo served by $(hostname | wc -l) guest")
            check("served by 1 guest" in out, out)
            disks = host.state / "plugins/my-disks"
            check(disks.is_dir() and not list(disks.iterdir()), "no disks were made there, or they are left")
            listed = json.loads(host.banger("image", "show", "third", "--format", "json"))
            check("SHA256SUMS" in json.dumps(listed), listed)
        finally:
            host.banger("image", "delete", "third", status=None)
            server.shutdown()


def refusals():
    """`plugin verify PATH` on what is wrong in one way each."""
    good = (PROJECTS / "my-names/build/lib/banger/plugins/my-names.so").read_bytes()
    manifest = (PROJECTS / "my-names/my-names.toml").read_text()
    with tempfile.TemporaryDirectory(prefix="banger-verify-") as folder:
        folder = pathlib.Path(folder)
        library, toml = folder / "my-names.so", folder / "my-names.toml"

        def verify(path=library, status=1):
            return run(BANGER, "plugin", "verify", path, status=status)

        def lay(bytes_=good, text=manifest):
            library.write_bytes(bytes_)
            library.chmod(0o644)
            toml.write_text(text)

        lay()
        out = verify(status=0)
        for words in ("ok       my-names can be loaded", "roles:       dns", "privilege:   none", "asks for:    writing {folder}", f"file:        {library}",
                      "owner:       ", "digest:      sha256:", "plugin-api:  1", "built with:  libstdc++", "libc.so.6"):
            check(words in out, f"no {words!r} in\n{out}")
        check(verify(toml, 0) == out and verify(folder, 0) == out, "library, manifest and folder differ")

        def refused(words, remedy, path=library):
            out = verify(path)
            check(out.startswith("refused") and words in out and remedy in out, f"no {words!r}, {remedy!r} in\n{out}")

        library.chmod(0o666)
        refused("can be written by others", "chmod go-w")
        lay()
        folder.chmod(0o777)
        refused("can be written by others", "chmod go-w")
        folder.chmod(0o700)
        toml.unlink()
        refused("no manifest", "Put my-names.toml there")
        lay()
        library.unlink()
        refused("no library", "Put my-names.so there")
        library.symlink_to("/lib/x86_64-linux-gnu/libc.so.6")
        refused("symbolic link", "Put the file itself there")
        library.unlink()
        lay(text=manifest.replace("privilege", "privilage"))
        refused("privilage", "Did you mean privilege?")
        lay(text=manifest.replace("api_version = 1", "api_version = 2"))
        refused("for plugin-api version 2", "Rebuild")
        lay(text=manifest.replace('"my-names"', '"mine"'))
        refused('its name is "mine"', "Name manifest and library after the plugin")
        lay(bytes_=good[:8192])
        refused("truncated", "Install the plugin again")
        lay(bytes_=b"text")
        refused("not a library", "Install the plugin again")
        # The door itself: the samples of the loader's own tests.
        sample = folder / "sample.so"
        sample.with_suffix(".toml").write_text(manifest.replace("my-names", "sample"))
        for name, words, remedy in (("magic", "wrong first word", "BANGER_PLUGIN()"),
                                    ("api_new", "plugin-api version 2", "Rebuild"),
                                    ("size_small", "8 bytes instead", "Rebuild"),
                                    ("tag", "libc++17", "Rebuild the plugin with the compiler"),
                                    ("other_name", 'calls itself "other"', "one plugin together"),
                                    ("no_create", "leads nowhere", "Rebuild"),
                                    ("no_symbol", "no symbol", "BANGER_PLUGIN()"),
                                    ("undefined", "cannot be loaded", "rebuild it with all its libraries")):
            sample.write_bytes((BUILD / f"tests/sample-plugins/{name}.so").read_bytes())
            sample.chmod(0o644)
            refused(words, remedy, sample)
        # Libraries that are no plugins at all.
        constructor = "#include <unistd.h>\n__attribute__((constructor)) static void go(void) "
        for code, flags, words, remedy in (
                (constructor + "{ __builtin_trap(); }", [], "opening it crashes (signal 4", "debugger"),
                (constructor + "{ _exit(0); }", [], "ends the process", "exit()"),
                ("void needed(void); void go(void) { needed(); }", ["-L.", "-lneeded"],
                 "cannot be loaded: libneeded.so", "apt install libneeded.so")):
            (folder / "code.c").write_text(code)
            (folder / "needed.c").write_text("void needed(void) {}")
            run("cc", "-shared", "-fPIC", "-o", "libneeded.so", "needed.c", cwd=folder)
            run("cc", "-shared", "-fPIC", "-o", "made.so", "code.c", *flags, cwd=folder)
            made = (folder / "made.so").read_bytes()
            (folder / "libneeded.so").unlink()
            lay(bytes_=made)
            refused(words, remedy)


TESTS = {"packages": packages, "new": new, "documented": documented, "image-http": image_http, "storage-on-btrfs": storage_on_btrfs,
         "loads": loads, "serves": serves, "boot": boot, "refusals": refusals}
TESTS[sys.argv[2]]()
