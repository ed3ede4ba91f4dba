"""Runs MASUKA and the reference turn by turn on the same weights and inputs, and writes down what came out.

Both sides of a row stay loaded as processes of their own and wait while the other computes, so that heat, clock and
neighbours of the machine weigh on both alike. The first repetition of each is not counted: it warms up, and its values
are compared. bench/results/ROW.LEVEL.json keeps the figures, docs/benchmarks.md shows them.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np

import page

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "results"
PROGRAMS = ROOT / "target" / "release" / "examples"


# As crates/masuka/src/environment.rs sets them for the binary.
OUR_ENVIRONMENT = {"CANDLE_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(len(os.sched_getaffinity(0)))}


class Side:
    """A process that computes one row on demand."""

    def __init__(self, command, row, variant, output, processors, environment=None):
        self.output = output
        self.process = subprocess.Popen(
            [*command, row, variant, output], cwd=BENCH, text=True, bufsize=1,
            env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, processors))
        word, seconds = self.answer().split()
        assert word == "ready", word
        self.load_seconds = float(seconds)
        self.seconds = []

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} ended with {self.process.wait()}")
        return line

    def repeat(self):
        print(file=self.process.stdin, flush=True)
        return float(self.answer())

    def peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def values(self):
        return np.fromfile(self.output, "<f4")

    def figures(self, reference):
        return {
            "median_seconds": statistics.median(self.seconds), "seconds": self.seconds,
            "load_seconds": self.load_seconds, "peak_bytes": self.peak_bytes(),
            "psnr_db": psnr(self.values(), reference),
        }

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def psnr(values, reference):
    """In dB, the reference's range being the peak; none where both are equal."""
    assert values.shape == reference.shape, f"{values.shape} values instead of {reference.shape}"
    error = np.mean((values.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(np.ptp(reference) ** 2 / error)) if error > 0 else None


def measure(row, settings, arguments, folder):
    """All variants of a row; the first one is f32, whose reference values are the measure for all."""
    variants, reference = {}, None
    for variant, least in settings["least_psnr_db"].items():
        place = [str(folder / f"{row}.{variant}.{side}") for side in ("ours", "theirs")]
        ours = Side([PROGRAMS / settings.get("program", "bench")], row, variant, place[0], arguments.processors, OUR_ENVIRONMENT)
        theirs = Side([sys.executable, "reference.py"], row, variant, place[1], arguments.processors)
        for repetition in range(1 + arguments.repeats):
            times = [theirs.repeat(), ours.repeat()]
            if repetition > 0:
                theirs.seconds.append(times[0])
                ours.seconds.append(times[1])
        reference = theirs.values() if reference is None else reference
        variants[variant] = {"masuka": ours.figures(reference), "reference": theirs.figures(reference)}
        ours.close(), theirs.close()
        reached = variants[variant]["masuka"]["psnr_db"]
        if reached is not None and reached < least:
            sys.exit(f"{row} {variant}: {reached:.1f} dB to the reference is less than {least}; not the same work")
        print(f"{row} {variant}: {page.summary(variants[variant])}", file=sys.stderr)
    return variants


def machine(processors):
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    flags = next((line.split(":")[1].split() for line in info if line.startswith("flags")), [])
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if flag in flags]
    return {"processor": model, "features": wide, "threads": len(processors), "system": platform.platform()}


def level(machine):
    """The highest level of kernels of a machine, by which the results of several are kept apart."""
    levels = {"amx": {"amx_bf16", "amx_int8"}, "avx512": {"avx512_bf16", "avx512_vnni"}, "avx2": {"avx2"}}
    return next((name for name, features in levels.items() if features <= set(machine["features"])), "portable")


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--", "crates", "Cargo.lock")
    return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def main():
    rows = tomllib.loads((BENCH / "rows.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of: {', '.join(rows)} [default: all]")
    parser.add_argument("--repeats", type=int, default=7, help="counted repetitions a side [default: 7]")
    parser.add_argument("--threads", type=int, help="processors for each side [default: all]")
    arguments = parser.parse_args()
    arguments.processors = sorted(os.sched_getaffinity(0))[: arguments.threads]
    for row in arguments.rows or rows:
        if row not in rows:
            parser.error(f"there is no row {row}; rows are {', '.join(rows)}")
        with tempfile.TemporaryDirectory() as folder:
            variants = measure(row, rows[row], arguments, Path(folder))
        RESULTS.mkdir(exist_ok=True)
        result = {
            "row": row, "title": rows[row]["title"], "date": datetime.date.today().isoformat(), "commit": commit(),
            "machine": machine(arguments.processors), "repeats": arguments.repeats,
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}, "variants": variants,
        }
        place = RESULTS / f"{row}.{level(result['machine'])}.json"
        place.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    page.write([json.loads(place.read_text()) for row in rows for place in sorted(RESULTS.glob(f"{row}.*.json"))])


if __name__ == "__main__":
    main()
