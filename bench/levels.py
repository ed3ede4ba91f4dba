"""Levels of processor instructions: which a machine has, how both sides are held to a lower one, and the proof of it."""

import os
import platform
import re
import sys
from pathlib import Path

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# The words of oneDNN's, MKL's and PyTorch's own names of instructions that must not be seen, in small letters.
ABOVE = {"avx512": ("amx", "avx10"), "avx2": ("amx", "avx10", "avx-512", "avx512")}
HELD = {
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "MKL_ENABLE_INSTRUCTIONS": "AVX512", "ATEN_CPU_CAPABILITY": "avx512"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
# PyTorch multiplies bf16 in plain loops where there is no AVX-512, tens of times slower than f32: f32 stands for it there.
REFERENCE_IN_F32 = ("avx2",)


def machine(processors):
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    flags = next((line.split(":")[1].split() for line in info if line.startswith("flags")), [])
    wide = [flag for flag in FEATURES if flag in flags]
    return {"processor": model, "features": wide, "threads": len(processors), "system": platform.platform()}


def highest(machine):
    """The highest level of kernels of a machine, by which the results of several are kept apart."""
    levels = {"amx": {"amx_bf16", "amx_int8"}, "avx512": {"avx512_bf16", "avx512_vnni"}, "avx2": {"avx2"}}
    return next((name for name, features in levels.items() if features <= set(machine["features"])), "portable")


def instructions(log, level):
    """What the libraries say in `log` that they used; ends the run where it is more than `level`."""
    text = Path(log).read_text(errors="replace")
    found = {
        "oneDNN": re.search(r"^onednn_verbose,v1,info,cpu,isa:(.*)", text, re.M),
        "MKL": re.search(r"^MKL_VERBOSE oneMKL .*? architecture (.*?), Lnx", text, re.M),
        "PyTorch": re.search(r"^PyTorch: (.*)", text, re.M),
    }
    said = {name: match[1] for name, match in found.items() if match}
    products = set(re.findall(r",exec,cpu,\w+,([^,]+)", text))
    for name in [*said.values(), *products]:
        if any(word in name.lower() for word in ABOVE[level]):
            sys.exit(f"the reference was to be held to {level}, but its log says: {name}; see {log}")
    if "PyTorch" not in said or len(said) < 2:
        sys.exit(f"the reference does not say which instructions it used; see {log}")
    return said


def environments(level):
    """Those of our side and of the reference; nothing is held where no level is named."""
    for name in HELD["avx2"].keys() & os.environ.keys():
        sys.exit(f"{name} is set; use --level instead")
    return ({"MASUKA_CPU_LEVEL": level}, HELD[level]) if level else ({}, {})
