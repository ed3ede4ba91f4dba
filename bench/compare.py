"""Runs MASUKA and the reference turn by turn on the same weights and inputs, and writes down what came out.

All sides of a row stay loaded as processes of their own and wait while another computes, so that heat, clock and
neighbours of the machine weigh on all alike. The first repetition of each is not counted: it warms up, and its values
are compared. bench/results/ROW.LEVEL.json keeps the figures, docs/benchmarks.md shows them. `--level` holds both sides to
a lower level of instructions than the machine has; its results lie in ROW.LEVEL.HELD.json.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np

import levels
import page
import sides
import weights

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "results"
TRUTH = BENCH / "work" / "truth"


class Measurement:
    """One variant of a row: our side, the reference, and what else rows.toml names."""

    def __init__(self, row, variant, settings, arguments, folder):
        self.row, self.variant, self.settings, self.arguments, self.folder = row, variant, settings, arguments, folder
        self.log = str(folder / f"{variant}.log") if arguments.level else None
        our_environment, self.their_environment = levels.environments(arguments.level)
        self.ours = sides.ours(
            settings.get("program", "bench"), row, variant, self.place("ours"), arguments.processors, our_environment)
        if arguments.level and self.ours.level != arguments.level:
            sys.exit(f"our side was to be held to {arguments.level}, but it works at {self.ours.level}")
        their_variant = "f32" if arguments.level in levels.REFERENCE_IN_F32 else variant
        self.theirs = sides.reference(
            row, their_variant, self.place("theirs"), arguments.processors, self.their_environment, self.log)
        self.beside, self.failed = {}, {}

    def place(self, name):
        return str(self.folder / f"{self.variant}.{name}")

    def run(self):
        self.theirs.repeat(counted=False)
        self.ours.repeat(counted=False)
        self.open_beside(self.names_beside())
        for repetition in range(self.arguments.repeats):
            for side in (self.theirs, self.ours, *self.beside.values()):
                if repetition < 2 or not self.is_far_behind(side):
                    side.repeat()

    def is_far_behind(self, side):
        """Two turns are enough to show that a side takes ten times as long."""
        return side.seconds[0] > 10 * self.ours.seconds[0]

    def names_beside(self):
        """Without tiles, PyTorch may be slower in bf16 than in f32."""
        if self.arguments.level:
            is_f32 = self.variant == "f32" or self.arguments.level in levels.REFERENCE_IN_F32
            return [] if is_f32 else ["diffusers f32"]
        return self.settings.get("beside", {}).get(self.variant, [])

    def open_beside(self, names):
        """A side that cannot compute the row is written down with the reason."""
        for number, name in enumerate(names):
            try:
                place = self.place(f"beside_{number}")
                side = sides.beside(name, self.row, place, self.arguments.processors, self.their_environment)
                if side is not None:
                    side.repeat(counted=False)
                    self.beside[name] = side
            except sides.SideFailed as error:
                print(f"{self.row} {self.variant}: {name} failed: {error}", file=sys.stderr)
                self.failed[name] = {"failed": str(error)}

    def figures(self):
        truth = self.truth()
        figures = {
            "date": datetime.date.today().isoformat(), "commit": commit(), "repeats": self.arguments.repeats,
            "masuka": self.ours.figures(truth), "reference": self.theirs.figures(truth),
            "beside": self.failed | {name: side.figures(truth) for name, side in self.beside.items()},
        }
        if "weights" in self.settings:
            figures["weight_bytes"] = weights.weight_bytes(self.settings["weights"], self.variant)
        if self.log:
            figures["reference_used"] = levels.instructions(self.log, self.arguments.level)
        return figures

    def truth(self):
        """The reference's values in f32 at the machine's best level, kept for the other variants and runs; its values of
        the same variant where a row has no f32."""
        if "f32" not in self.settings["least_psnr_db"]:
            return self.theirs.values()
        place = TRUTH / f"{self.row}.f32"
        if self.variant == "f32" and not self.arguments.level:
            TRUTH.mkdir(parents=True, exist_ok=True)
            self.theirs.values().tofile(place)
        elif not place.exists():
            sys.exit(f"measure {self.row} in f32 without --level first: its values are what others are held against")
        return np.fromfile(place, "<f4")

    def close(self):
        for side in (self.ours, self.theirs, *self.beside.values()):
            side.close()


def measure(row, settings, arguments):
    """The wanted variants of a row."""
    variants = {}
    for variant, least in settings["least_psnr_db"].items():
        if arguments.variants and variant not in arguments.variants:
            continue
        with tempfile.TemporaryDirectory() as folder:
            measurement = Measurement(row, variant, settings, arguments, Path(folder))
            measurement.run()
            variants[variant] = measurement.figures()
            measurement.close()
        reached = variants[variant]["masuka"]["psnr_db"]
        if reached is not None and reached < least:
            sys.exit(f"{row} {variant}: {reached:.1f} dB to the reference is less than {least}; not the same work")
        print(f"{row} {variant}: {page.summary(variants[variant])}", file=sys.stderr)
    return variants


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--", "crates", "Cargo.lock")
    return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def write(row, title, machine, held, variants):
    """Beside the variants that the machine measured before."""
    place = RESULTS / ".".join([row, levels.highest(machine), *([held] if held else []), "json"])
    former = json.loads(place.read_text())["variants"] if place.exists() else {}
    result = {
        "row": row, "title": title, "machine": machine, "held": held,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}, "variants": former | variants,
    }
    RESULTS.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def parse_arguments(rows):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of: {', '.join(rows)} [default: all]")
    parser.add_argument("--repeats", type=int, default=7, help="counted repetitions a side [default: 7]")
    parser.add_argument("--variants", nargs="+", help="which of the row's variants [default: all]")
    parser.add_argument("--level", choices=levels.HELD, help="hold both sides to this level [default: the machine's]")
    arguments = parser.parse_args()
    for row in arguments.rows:
        if row not in rows:
            parser.error(f"there is no row {row}; rows are {', '.join(rows)}")
    arguments.processors = sorted(os.sched_getaffinity(0))
    return arguments


def main():
    rows = tomllib.loads((BENCH / "rows.toml").read_text())
    arguments = parse_arguments(rows)
    for row in arguments.rows or rows:
        variants = measure(row, rows[row], arguments)
        write(row, rows[row]["title"], levels.machine(arguments.processors), arguments.level, variants)
    page.write_all(rows)


if __name__ == "__main__":
    main()
