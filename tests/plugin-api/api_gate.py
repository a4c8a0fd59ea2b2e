#!/usr/bin/env python3
"""The gate of plugin-api: what a plugin that was built before would notice. api_gate.py SOURCE-ROOT

golden/api-VERSION.txt has the digest of the public headers (comments and spaces left out) and, of every
type in them, what two binaries have to agree on: size, offset of each member, order of the virtual
functions, values of enumerators, as clang lays them out (x86_64, Itanium C++ ABI, as g++ does).

docs/PLUGINS.md has the rules. BANGER_REGENERATE_GOLDEN=1 writes the file anew, but never lets what a
version already has change: that needs a new version."""
import hashlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1])
HEADERS = ROOT / "plugin-api/include/banger"
SKIP = 77
# One of each template whose layout crosses.
TEMPLATES = ["Result<void>", "Result<int>", "detail::CheckedString<VmId>"]
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
RAISE = """Raise BANGER_PLUGIN_API_VERSION in plugin-api/include/banger/plugin.hpp and api_version in every manifest,
then write the new file: BANGER_REGENERATE_GOLDEN=1 ctest --test-dir build/dev -R plugin_api_gate"""


def code_of(header):
    return COMMENT.sub("", header.read_text())


def types_in(code):
    """Names of the classes and structs that are no templates, and of those with virtual functions."""
    names, virtual = [], []
    for found in re.finditer(r"^(template <[^;{]*>\s*)?(?:struct|class)\s+(?:\[\[nodiscard\]\]\s+)?(\w+)[^;{()]*\{(.*?)^\};",
                             code, re.M | re.S):
        if found[1]:
            continue
        names.append(found[2])
        if re.search(r"^\s*virtual ", found[3], re.M):
            virtual.append(found[2])
    return names, virtual


def enums_in(code):
    blocks = {}
    for name, body in re.findall(r"enum class (\w+)\s*\{(.*?)\}", code, re.S):
        words = [" ".join(word.split()) for word in body.split(",") if word.strip()]
        blocks[f"enum {name}"] = [f"{value:4} {word}" for value, word in enumerate(words)]
    return blocks


def plain(text):
    """Without what depends on where the standard library lies."""
    text = re.sub(r"\(anonymous at [^)]*\)", "(anonymous)", text)
    return re.sub(r"\b(?:(?:class|struct|enum) |banger::)", "", text).strip()


def layouts(headers):
    names, virtual, enums = [], [], {}
    for header in headers:
        code = code_of(header)
        some, some_virtual = types_in(code)
        names += some
        virtual += some_virtual
        enums.update(enums_in(code))
    names += TEMPLATES
    unit = "".join(f"#include <banger/{header.name}>\n" for header in headers) + "using namespace banger;\n"
    unit += "".join(f"static_assert(sizeof({name}) > 0);\n" for name in names)
    unit += "".join(f"void remove({name}* one) {{ delete one; }}\n" for name in virtual)
    done = subprocess.run(["clang++-14", "-std=c++20", "-I", HEADERS.parent, "-Xclang", "-fdump-record-layouts", "-Xclang",
                           "-fdump-vtable-layouts", "-x", "c++", "-S", "-emit-llvm", "-o", "/dev/null", "-"],
                          input=unit, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"plugin_api_gate: clang fails:\n{done.stderr}")
    dump = done.stdout + done.stderr
    blocks = {}
    for record in dump.split("*** Dumping AST Record Layout")[1:]:
        lines = record.strip("\n").split("\n")
        name = plain(lines[0].partition("|")[2]).removesuffix(" (empty)")
        if name not in names:
            continue
        size = re.search(r"\[sizeof=(\d+), dsize=\d+, align=(\d+)", record)
        # Direct members and bases: two spaces deep.
        members = re.findall(r"^\s*(\d+(?::\d+-\d+)?) \|   (\S.*)$", record, re.M)
        blocks[f"type {name}"] = [f"size {size[1]}, align {size[2]}"] + [
            f"{offset:>4} {plain(member)}" for offset, member in members]
    for name, body in re.findall(r"VTable indices for '(?:banger::)?(\w+)' \(\d+ entr\w+\)\.\n((?:.+\n)+)", dump):
        if name in virtual:
            blocks[f"virtual {name}"] = [f"{index:>4} {plain(call)}" for index, call in
                                         re.findall(r"^\s*(\d+) \| (.+)$", body, re.M)]
    missing = [name for name in names if f"type {name}" not in blocks]
    missing += [name for name in virtual if f"virtual {name}" not in blocks]
    if missing or len(names) < 40:
        sys.exit(f"plugin_api_gate: no layout of {missing} ({len(names)} types found)")
    blocks.update(enums)
    return blocks


def digest_of(headers):
    text = "".join(f"{header.name}\n{' '.join(code_of(header).split())}\n" for header in headers)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def text_of(digest, blocks):
    return f"headers {digest}\n" + "".join(
        f"\n{name}\n" + "".join(f"  {line}\n" for line in blocks[name]) for name in sorted(blocks))


def blocks_of(text):
    return dict(block.split("\n", 1) for block in text.rstrip("\n").split("\n\n")[1:])


def main():
    headers = sorted(HEADERS.glob("*.hpp"))
    version = re.search(r"#define BANGER_PLUGIN_API_VERSION (\d+)", (HEADERS / "plugin.hpp").read_text())[1]
    golden = pathlib.Path(__file__).parent / f"golden/api-{version}.txt"
    is_writing = bool(os.environ.get("BANGER_REGENERATE_GOLDEN"))
    if not golden.exists() and not is_writing:
        sys.exit(f"plugin_api_gate: {golden} is not there.\n{RAISE}")
    now = text_of(digest_of(headers), layouts(headers))
    before = golden.read_text() if golden.exists() else None
    if before is not None:
        new = blocks_of(now)
        changed = [name for name, lines in blocks_of(before).items() if new.get(name) != lines]
        if changed:
            sys.exit(f"plugin_api_gate: a plugin built for version {version} would read these wrongly: {', '.join(changed)}.\n{RAISE}")
    if is_writing:
        golden.write_text(now)
        print(f"wrote {golden}")
        sys.exit(SKIP)
    if now != before:
        sys.exit(f"""plugin_api_gate: the public headers changed; what was there is laid out as before.
If a plugin that was built before may do what it did (a new type, a new free function, another wording of the same
promise), write the new file: BANGER_REGENERATE_GOLDEN=1 ctest --test-dir build/dev -R plugin_api_gate
If it may not (a promise that was taken back, a call that may now come from elsewhere), the version goes up.
{RAISE}""")


main()
