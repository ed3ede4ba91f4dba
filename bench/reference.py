"""The reference's side of `just bench`: as crates/masuka-diffusion/examples/bench, with the row from bench/rows/.

reference.py ROW VARIANT OUTPUT [LOG]    LOG: the first repetition tells there which instructions the libraries use
"""

import contextlib
import ctypes
import importlib
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import diffusers
import numpy as np
import torch
import transformers

diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

torch.set_grad_enabled(False)
torch.set_num_threads(len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def told(log):
    """What oneDNN, MKL and PyTorch say of themselves meanwhile is written to `log`."""
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
    mkl, onednn = torch.backends.mkl, torch.backends.mkldnn
    with mkl.verbose(mkl.VERBOSE_ON), onednn.verbose(onednn.VERBOSE_ON):
        yield
    print("PyTorch:", torch.backends.cpu.get_cpu_capability(), flush=True)
    ctypes.CDLL(None).fflush(None)
    os.dup2(2, 1)


def main(row, variant, output, log=None):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer

    def answer(text):
        print(text, file=answers, flush=True)

    module = importlib.import_module(f"rows.{row}")
    started = time.perf_counter()
    run = module.open_row(variant)
    answer(f"ready {time.perf_counter() - started}")
    for repetition, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        with told(log) if log and repetition == 0 else contextlib.nullcontext():
            values = run(repetition)
        seconds = time.perf_counter() - started
        if repetition == 0:
            np.asarray(values, "<f4").tofile(output)
        answer(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
