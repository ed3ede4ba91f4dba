"""docs/benchmarks.md out of bench/results/*.json: a row of each machine that measured it."""

import itertools
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `just bench`, not by hand. MASUKA and diffusers compute the same row on the same weights in two processes
that take turns; the first repetition warms up and is not counted. Figures are medians with the least and the most.
*Ratio* is diffusers' time over MASUKA's: above 1, MASUKA is faster; beside our int8 diffusers computes in bf16. *PSNR* is
each side's distance from diffusers in f32; it shows that both computed the same. *Load* is from opened files to a ready
pipeline, files in the page cache, imports not counted; a dash where one side makes the weights first. *Memory* is the
process's peak resident size, mapped files included.
"""


def summary(sides):
    ours, theirs = sides["masuka"], sides["reference"]
    ratio = theirs["median_seconds"] / ours["median_seconds"]
    return f"masuka {ours['median_seconds']:.3f} s, diffusers {theirs['median_seconds']:.3f} s, ratio {ratio:.2f}"


def write(results):
    rows = itertools.groupby(results, lambda result: result["title"])
    PAGE.write_text("\n".join([HEAD, *(line for row in rows for line in section(*row))]))


def section(title, results):
    return [f"## {title}\n", *(table(result) for result in results)]


def table(result):
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"{result['date']}, commit {result['commit']}, {machine['processor']} ({', '.join(machine['features'])}), "
        f"{machine['threads']} threads a side, {result['repeats']} repetitions, torch {versions['torch']}, "
        f"diffusers {versions['diffusers']}.", "",
        "| | masuka | diffusers | ratio | PSNR | load | memory |", "|---|---|---|---|---|---|---|",
    ]
    lines += [row(variant, sides["masuka"], sides["reference"]) for variant, sides in result["variants"].items()]
    return "\n".join(lines) + "\n"


def row(variant, ours, theirs):
    ratio = theirs["median_seconds"] / ours["median_seconds"]
    cells = [
        variant, spread(ours["seconds"], ours["median_seconds"]), spread(theirs["seconds"], theirs["median_seconds"]),
        f"{ratio:.2f}", both(decibel, ours["psnr_db"], theirs["psnr_db"]),
        load(ours["load_seconds"], theirs["load_seconds"]),
        both(lambda size: f"{size / 2**20:.0f} MiB", ours["peak_bytes"], theirs["peak_bytes"]),
    ]
    return f"| {' | '.join(cells)} |"


def load(ours, theirs):
    """Nothing where our side had nothing to load yet."""
    return "–" if ours < 0.001 else both(lambda seconds: f"{seconds:.2f} s", ours, theirs)


def spread(seconds, median):
    return f"{median:.3f} s ({min(seconds):.3f}–{max(seconds):.3f})"


def both(form, ours, theirs):
    return f"{form(ours)} / {form(theirs)}"


def decibel(value):
    return "equal" if value is None else f"{value:.1f} dB"
