#!/usr/bin/env python3
"""Fails on an #include or a link that tests/lint/layers.toml does not allow."""
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = tomllib.loads((ROOT / "tests/lint/layers.toml").read_text())["folder"]
CHECKED = ("plugin-api/", "core/", "plugins/", "daemons/", "cli/")

# <sys/stat.h>, <linux/fs.h>, <vector>: the standard library and the system.
SYSTEM_FOLDERS = {"sys", "linux", "net", "netinet", "arpa", "asm", "bits"}
FOREIGN_HEADERS = {"archive.h", "archive_entry.h", "sqlite3.h", "zlib.h", "zstd.h", "zstd_errors.h", "lzma.h", "lz4.h", "lz4frame.h",
                   "bzlib.h", "libmount.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
LINK = re.compile(r"banger::([a-z_0-9]+)")


def rule_for(path):
    """The most specific entry of the table that holds this file."""
    best = max((folder for folder in TABLE if path.startswith(folder + "/")), key=len, default=None)
    return best, TABLE.get(best)


def folder_of_include(name):
    if name.startswith("banger/"):
        return "plugin-api"
    best = max((folder for folder in TABLE if name.startswith(folder + "/")), key=len, default=None)
    return best


def folder_of_target(target):
    """banger::core_rpc → core/rpc; only names that follow a folder are layers."""
    if target == "plugin_api":
        return "plugin-api"
    if target == "core_image_store":
        return "core/images"
    candidate = target.replace("_", "/", 1)
    return candidate if candidate in TABLE else None


def allowed(rule_folder, rule, used):
    if used is None or used == rule_folder or used in rule["uses"]:
        return True
    # A plugin's own folder is under "plugins".
    return rule_folder.startswith("plugins") and used.startswith("plugins")


def check_file(path, problems):
    folder, rule = rule_for(path)
    if rule is None:
        problems.append(f"{path}: its folder is not in tests/lint/layers.toml")
        return
    text = (ROOT / path).read_text(errors="replace")
    if path.endswith("CMakeLists.txt"):
        for target in LINK.findall(text):
            used = folder_of_target(target)
            if not allowed(folder, rule, used):
                problems.append(f"{path}: {folder} may not link {used}")
        return
    for kind, name in INCLUDE.findall(text):
        if kind == '"':
            if not allowed(folder, rule, folder_of_include(name)):
                problems.append(f"{path}: {folder} may not include {name}")
            continue
        first = name.split("/")[0]
        is_foreign = first in FOREIGN_HEADERS or ("/" in name and first not in SYSTEM_FOLDERS)
        if is_foreign and first not in rule["libraries"]:
            problems.append(f"{path}: {folder} may not include <{name}>")


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split()
    problems = []
    for path in files:
        if path.startswith(CHECKED) and path.endswith((".cpp", ".hpp", ".h", "/CMakeLists.txt")):
            if path.count("/") < 2 and path.endswith("CMakeLists.txt"):
                continue
            check_file(path, problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"layers: {len(problems)} uses that tests/lint/layers.toml does not allow", file=sys.stderr)
    return 1 if problems else 0


sys.exit(main())
