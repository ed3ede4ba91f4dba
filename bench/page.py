"""docs/benchmarks.md out of bench/results/*.json: a row of each machine that measured it, and what scales with what."""

import itertools
import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `just bench`, not by hand. MASUKA and diffusers compute the same row on the same weights in two processes
that take turns; the first repetition warms up and is not counted. Figures are medians with the least and the most.
*Ratio* is diffusers' time over MASUKA's: above 1, MASUKA is faster; beside our int8 diffusers computes in bf16. *PSNR* is
each side's distance from diffusers in f32, or where a row has none in the same precision; it shows that both computed
the same. *Start* is what a first repetition takes beyond a counted one, loading included, wherever a side loads: files
are in the page cache, imports not counted; in tables older than this figure it is loading alone, with a dash where one
side loads later. *Memory* is the
process's peak resident size, mapped files included; *weights* are the bytes of all weights in the row's precision.
*Faults* are the pages that a process was newly given in a counted repetition. A further reference that took its turns in
the same run stands in a line of its own, with MASUKA's same figures; *held to* a level are both sides at once, the
reference by `ONEDNN_MAX_CPU_ISA`, `MKL_ENABLE_INSTRUCTIONS` and `ATEN_CPU_CAPABILITY`; what its libraries then say of
themselves in their verbose logs is written beside. Held to AVX2, diffusers computes every line in f32, far faster there.
"""
COLUMNS = ("", "masuka", "reference", "ratio", "PSNR", "start", "memory", "weights", "faults")


def summary(measured):
    ours, theirs = measured["masuka"], measured["reference"]
    lines = [
        f"masuka {ours['median_seconds']:.3f} s, diffusers {theirs['median_seconds']:.3f} s, ratio {ratio(ours, theirs):.2f}, "
        f"faults {both(str, ours['median_faults'], theirs['median_faults'])}"]
    lines += [
        f"{name} {side['median_seconds']:.3f} s, ratio {ratio(ours, side):.2f}, {decibel(side['psnr_db'])}"
        for name, side in measured["beside"].items() if "failed" not in side]
    return "; ".join(lines)


def write_all(rows):
    """All results, the rows in their order."""
    results = [json.loads(place.read_text()) for row in rows for place in sorted(RESULTS.glob(f"{row}.*.json"))]
    sections = [section(title, list(group)) for title, group in itertools.groupby(results, lambda result: result["title"])]
    scaling = [json.loads(place.read_text()) for place in sorted(RESULTS.glob("scaling.*.json"))]
    PAGE.write_text("\n".join([HEAD, *sections, *([scaling_section(scaling)] if scaling else [])]))


def section(title, results):
    return "\n".join([f"## {title}\n", *(table for result in results for table in tables(result))])


def tables(result):
    """Variants that were measured together share a table."""
    together = itertools.groupby(result["variants"].items(), lambda item: [item[1][key] for key in ("date", "commit", "repeats")])
    for (date, commit, repeats), variants in together:
        variants = list(variants)
        lines = [f"{date}, commit {commit}, {machine_line(result)}, {repeats} repetitions, {versions_line(result['versions'])}."]
        lines += [used_line(measured["reference_used"], variant) for variant, measured in variants if "reference_used" in measured]
        lines += ["", *table_head(COLUMNS)]
        lines += [line for variant, measured in variants for line in rows_of(variant, measured)]
        yield "\n".join(lines) + "\n"


def machine_line(result):
    machine, held = result["machine"], result.get("held")
    words = f"{machine['processor']} ({', '.join(machine['features'])}), {machine['threads']} threads a side"
    return f"{words}, **held to {held}**" if held else words


def versions_line(versions):
    return f"torch {versions['torch']}, diffusers {versions['diffusers']}"


def used_line(used, variant):
    return f"{variant}: " + "; ".join(f"{library} says “{words}”" for library, words in used.items()) + "."


def table_head(columns):
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def rows_of(variant, measured):
    ours = measured["masuka"]
    yield row(variant, ours, measured["reference"], measured.get("weight_bytes"))
    for name, side in measured.get("beside", {}).items():
        if "failed" in side:
            yield f"| {variant}, {name} | {spread(ours)} | failed: {side['failed']} |" + " |" * (len(COLUMNS) - 3)
        else:
            yield row(f"{variant}, {name}", ours, side, measured.get("weight_bytes"))


def row(label, ours, theirs, weight_bytes):
    cells = [
        label, spread(ours), spread(theirs), f"{ratio(ours, theirs):.2f}", both(decibel, ours["psnr_db"], theirs["psnr_db"]),
        start(ours, theirs), both(mebibytes, ours["peak_bytes"], theirs["peak_bytes"]),
        mebibytes(weight_bytes) if weight_bytes else "–",
        both(str, ours["median_faults"], theirs["median_faults"]) if "median_faults" in ours else "–",
    ]
    return f"| {' | '.join(cells)} |"


def scaling_section(results):
    lines = [
        "## How a step of flux_step_512 grows", "",
        "MASUKA alone, medians. *Foretold* is the time of 512² that 256² and 1024² let expect if a step takes",
        "*a* · tokens + *b* · tokens² (the tokens of the picture and 512 of text; attention is the square).", "",
    ]
    for result in results:
        lines += [f"{result['date']}, commit {result['commit']}, {machine_line(result)}, {result['repeats']} repetitions.", ""]
        lines += table_head(("", "512², 1 thread", "512², 2 threads", "times faster", "256²", "1024²", "512² foretold", "measured / foretold"))
        lines += [scaling_row(variant, medians) for variant, medians in result["variants"].items()]
    return "\n".join(lines) + "\n"


def scaling_row(variant, medians):
    one, small, middle, large = (medians[name] for name in ("512, 1 thread", "256", "512", "1024"))
    foretold = foretell(small, large)
    times = [f"{seconds:.3f} s" for seconds in (one, middle)]
    times += [f"{one / middle:.2f}", f"{small:.3f} s", f"{large:.3f} s", f"{foretold:.3f} s", f"{middle / foretold:.2f}"]
    return f"| {variant} | {' | '.join(times)} |"


def foretell(small, large, tokens=(16**2 + 512, 32**2 + 512, 64**2 + 512)):
    """The time of the middle number of tokens from those of the least and the most: no constant, a line and a square."""
    first, middle, last = tokens
    square = (large / last - small / first) / (last - first)
    line = small / first - square * first
    return line * middle + square * middle**2


def ratio(ours, theirs):
    return theirs["median_seconds"] / ours["median_seconds"]


def start(ours, theirs):
    """Nothing where it was not measured and our side had nothing to load yet."""
    key = "start_seconds" if "start_seconds" in ours else "load_seconds"
    return "–" if ours[key] < 0.001 else both(lambda side: f"{side[key]:.2f} s", ours, theirs)


def spread(side):
    return f"{side['median_seconds']:.3f} s ({min(side['seconds']):.3f}–{max(side['seconds']):.3f})"


def both(form, ours, theirs):
    return f"{form(ours)} / {form(theirs)}"


def mebibytes(size):
    return f"{size / 2**20:.0f} MiB"


def decibel(value):
    return "equal" if value is None else f"{value:.1f} dB"
