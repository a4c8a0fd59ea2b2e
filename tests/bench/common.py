"""What the benchmarks share: an environment of their own, banger from a build tree, medians."""
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/dev").resolve()
BANGER = BUILD / "bin/banger"

# A benchmark that is ended early removes its machines too, and what it printed is seen.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
sys.stdout.reconfigure(line_buffering=True)


def cache_folder():
    """Shared with the boot tests, so that images are made once."""
    home = os.environ.get("HOME", "/root")
    return pathlib.Path(os.environ.get("BANGER_TEST_CACHE", home + "/.cache/banger-test"))


def environment(folder):
    """banger's folders below `folder`, which stays short enough for unix sockets."""
    env = {k: os.environ[k] for k in ("PATH", "LANG", "TERM") if k in os.environ}
    for name, part in (("HOME", "home"), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"),
                       ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run")):
        path = pathlib.Path(folder) / part
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        env[name] = str(path)
    return env


class Scratch:
    """A state of its own, gone at the end together with its daemon."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="bb-", dir="/tmp")
        self.env = environment(self.folder)
        return self

    def __exit__(self, *_):
        subprocess.run([BUILD / "bin/banger", "version"], env=self.env, capture_output=True)
        stop_daemon(self.env)
        shutil.rmtree(self.folder, ignore_errors=True)


def banger(env, *words, check=True):
    done = subprocess.run([BANGER, *words], env=env, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"banger {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
    return done


def daemon_pid(env):
    return int(json.loads(banger(env, "version", "--format", "json").stdout)["daemon"]["pid"])


def stop_daemon(env):
    try:
        os.kill(daemon_pid(env), 15)
    except (OSError, KeyError, TypeError, ValueError, SystemExit):
        pass


def timed(action):
    begin = time.monotonic()
    action()
    return (time.monotonic() - begin) * 1000


def medians(rounds, **sides):
    """Runs the sides in turn, so that both meet the same weather; medians in milliseconds."""
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, action in sides.items():
            times[name].append(timed(action))
    return {name: statistics.median(values) for name, values in times.items()}


SPAWNS = "for i in $(seq 200); do /bin/true; done"


def slowness(run_there):
    """How many times slower an emulated host is than this one, as a shell that starts a program again and again sees it: system calls are most of what we
    do there. `run_there` runs a script and returns what it prints. Run it while nothing else runs, here as there."""
    clock = f"begin=$(date +%s%N); {SPAWNS}; echo $(( $(date +%s%N) - begin ))"
    rounds = []
    for _ in range(3):
        here = int(subprocess.run(["bash", "-c", clock], check=True, capture_output=True, text=True).stdout)
        rounds.append(int(run_there(clock)) / here)
    return statistics.median(rounds)


def report(what, value, target, ok):
    print(f"{what:<58} {value:>14}   target {target:<22} {'met' if ok else 'MISSED'}")
