"""The processes that compute one row on demand: MASUKA's, the reference's, and what else stands beside them."""

import os
import select
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

BENCH = Path(__file__).resolve().parent
PROGRAMS = BENCH.parent / "target" / "release" / "examples"
# A side that answers later is given up; `torch.compile` compiles in its first repetition.
LONGEST_SECONDS = 400


class SideFailed(Exception):
    """A side ended, or did not answer in time."""


class Side:
    """A process that computes one row on demand."""

    def __init__(self, command, output, processors, environment=None):
        self.output = output
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=BENCH, text=True, bufsize=1,
            env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, processors))
        word, seconds, *level = self.answer().split()
        assert word == "ready", word
        self.load_seconds, self.level = float(seconds), level[0] if level else None
        self.first_seconds, self.seconds, self.faults = None, [], []

    def answer(self):
        name = " ".join(self.process.args)
        if not select.select([self.process.stdout], [], [], LONGEST_SECONDS)[0]:
            self.process.kill()
            raise SideFailed(f"{name} did not answer within {LONGEST_SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            raise SideFailed(f"{name} ended with {self.process.wait()}")
        return line

    def repeat(self, counted=True):
        before = self.minor_faults()
        print(file=self.process.stdin, flush=True)
        seconds = float(self.answer())
        if counted:
            self.seconds.append(seconds)
            self.faults.append(self.minor_faults() - before)
        else:
            self.first_seconds = seconds

    def minor_faults(self):
        """Pages that the process was given by the system so far, all threads together."""
        return int(Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[7])

    def peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def values(self):
        return np.fromfile(self.output, "<f4")

    def figures(self, reference):
        median = statistics.median(self.seconds)
        return {
            "median_seconds": median, "seconds": self.seconds, "load_seconds": self.load_seconds,
            # Whatever a side puts off until its first repetition belongs to its loading.
            "start_seconds": self.load_seconds + self.first_seconds - median, "peak_bytes": self.peak_bytes(),
            "median_faults": round(statistics.median(self.faults)), "psnr_db": psnr(self.values(), reference),
        }

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def psnr(values, reference):
    """In dB, the reference's range being the peak; none where both are equal."""
    assert values.shape == reference.shape, f"{values.shape} values instead of {reference.shape}"
    error = np.mean((values.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(np.ptp(reference) ** 2 / error)) if error > 0 else None


def ours(program, row, variant, output, processors, environment):
    # As crates/masuka/src/environment.rs sets them for the binary.
    threads = {"CANDLE_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(len(processors))}
    return Side([PROGRAMS / program, row, variant, output], output, processors, {**threads, **environment})


def reference(row, variant, output, processors, environment, log=None):
    """`log` is where the first repetition tells which instructions its libraries used."""
    command = [sys.executable, "reference.py", row, variant, output, *([log] if log else [])]
    return Side(command, output, processors, environment)


def beside(name, row, output, processors, environment):
    """A further side by the name that rows.toml gives it; none where its program is not built."""
    variants = {"torch.compile": "bf16_compiled", "diffusers f32": "f32"}
    if name in variants:
        return reference(row, variants[name], output, processors, environment)
    program, weight_type = name.rsplit(" ", 1)
    assert program == "stable-diffusion.cpp", f"there is no side {name}"
    command = BENCH / "work" / "sdcpp" / "build" / row
    return Side([command, row, weight_type, output], output, processors) if command.exists() else None
