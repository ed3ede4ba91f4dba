"""The reference's side of `just bench`: as crates/masuka-diffusion/examples/bench, with the row from bench/rows/.

reference.py ROW VARIANT OUTPUT
"""

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


def main(row, variant, output):
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
        values = run(repetition)
        seconds = time.perf_counter() - started
        if repetition == 0:
            np.asarray(values, "<f4").tofile(output)
        answer(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
