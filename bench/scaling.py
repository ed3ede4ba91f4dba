"""How a step grows with threads and pixels: our side of flux_step at 256², 512² and 1024², and at 512² on one thread.

    bench/run scaling [--repeats N] [--variants bf16 int8]    writes results/scaling.LEVEL.json and ../docs/benchmarks.md
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import tomllib

import compare
import levels
import page
import sides

# What is measured by the name in the result: the row, and how many threads where not all.
POINTS = {"256": ("flux_step_256", None), "512": ("flux_step_512", None), "1024": ("flux_step_1024", None),
          "512, 1 thread": ("flux_step_512", 1)}


def measure(variant, repeats, processors):
    with tempfile.TemporaryDirectory() as folder:
        points = {
            name: sides.ours("bench", row, variant, f"{folder}/{name}", processors[:threads], {})
            for name, (row, threads) in POINTS.items()}
        for repetition in range(1 + repeats):
            for side in points.values():
                side.repeat(counted=repetition > 0)
        for side in points.values():
            side.close()
    return {name: statistics.median(side.seconds) for name, side in points.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="counted repetitions [default: 5]")
    parser.add_argument("--variants", nargs="+", default=["bf16", "int8"], help="which precisions [default: bf16 int8]")
    arguments = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        sys.exit("one processor shows nothing of threads")
    machine = levels.machine(processors)
    place = compare.RESULTS / f"scaling.{levels.highest(machine)}.json"
    former = json.loads(place.read_text())["variants"] if place.exists() else {}
    result = {
        "date": datetime.date.today().isoformat(), "commit": compare.commit(), "machine": machine,
        "repeats": arguments.repeats,
        "variants": former | {variant: measure(variant, arguments.repeats, processors) for variant in arguments.variants},
    }
    place.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    page.write_all(tomllib.loads((compare.BENCH / "rows.toml").read_text()))


if __name__ == "__main__":
    main()
