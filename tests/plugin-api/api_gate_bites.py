#!/usr/bin/env python3
"""api_gate.py on copies of the headers with changes that it must let through, or not.
api_gate_bites.py SOURCE-ROOT"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1])
GATE = pathlib.Path(__file__).parent / "api_gate.py"

# What is said (None: nothing), and the changes: header, before, after.
COPIES = (
    (None,
     ("dns.hpp", "/// Removes the machine's name.", "/// Takes the machine's name away."),
     ("dns.hpp", "virtual ~Dns() = default;", "virtual  ~Dns()  =  default;")),
    ("laid out as before",
     ("dns.hpp", "class Dns {", "struct DnsMore {\n    int more = 0;\n};\n\nclass Dns {")),
    # A new member, one in a hole, two that change places, a virtual function at the end, an enumerator in the middle.
    ("wrongly: enum Errc, type DnsRecord, type DnsZone, type Volume, virtual Dns.",
     ("dns.hpp", "std::uint16_t port = 0;", "std::uint16_t port = 0;\n    std::uint64_t more = 0;"),
     ("storage.hpp", "DiskFormat format = DiskFormat::raw;", "DiskFormat format = DiskFormat::raw;\n    int more = 0;"),
     ("dns.hpp", "VmId vm;\n    VmName name;", "VmName name;\n    VmId vm;"),
     ("dns.hpp", "virtual std::vector<Check> checks(std::stop_token stop) = 0;",
      "virtual std::vector<Check> checks(std::stop_token stop) = 0;\n    virtual void more() = 0;"),
     ("result.hpp", "    not_found, ", "    more,\n    not_found, ")),
    ("api-99.txt is not there",
     ("plugin.hpp", "#define BANGER_PLUGIN_API_VERSION 1u", "#define BANGER_PLUGIN_API_VERSION 99u")),
)

for wanted, *changes in COPIES:
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "plugin-api/include/banger"
        shutil.copytree(ROOT / "plugin-api/include/banger", copy)
        for header, before, after in changes:
            text = (copy / header).read_text()
            if before not in text:
                sys.exit(f"{header} has no {before!r} any more")
            (copy / header).write_text(text.replace(before, after, 1))
        done = subprocess.run([GATE, folder], capture_output=True, text=True)
        said = done.stdout + done.stderr
        if (wanted is None) != (done.returncode == 0) or (wanted or "") not in said:
            sys.exit(f"wanted {wanted!r}, got exit status {done.returncode}: {said}")
