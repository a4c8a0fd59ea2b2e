#!/usr/bin/env python3
"""Fails on what banger never uses, by name: each with what to use instead."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# pattern → (why, files where it is the right thing)
BANNED = {
    r"(?<![\w.>])(?:std::|::)?system\s*\(\s*[\"\w]": ("a shell between us and a program; use core/base/child.hpp", ()),
    r"\bpopen\s*\(": ("a shell between us and a program; use core/base/child.hpp", ()),
    r"\bremove_all\s*\(": ("follows paths; use remove_tree() of core/base/file.hpp", ()),
    r"\bdlopen\s*\(": ("libraries are opened by the loader alone", ("core/plugins/loader.cpp",)),
    r"\bco_(?:await|yield|return)\b": ("g++ 12 double-frees captures in coroutines; see docs/decisions/0002", ()),
    r"\b(?:strcpy|strcat|sprintf|gets|mktemp|tmpnam)\s*\(": ("no bound, or a race; use std::string, mkostemp", ()),
    r"\brand\s*\(\)": ("predictable; use getrandom(2)", ()),
}
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"", re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.cpp", "*.hpp"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split()
    problems = 0
    for name in files:
        if name.startswith("tests/"):
            continue
        text = COMMENT.sub(blank, (ROOT / name).read_text(errors="replace"))
        for pattern, (why, allowed) in BANNED.items():
            if name in allowed:
                continue
            for found in re.finditer(pattern, text):
                line = text.count("\n", 0, found.start()) + 1
                print(f"{name}:{line}: {found.group(0).strip()}: {why}", file=sys.stderr)
                problems += 1
    return 1 if problems else 0


sys.exit(main())
