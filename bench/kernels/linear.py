"""Linear layers beside PyTorch (oneDNN), alternating on the same machine.

    cargo build --release -p masuka-kernels --example time_linear
    python bench/kernels/linear.py [--only WORD] [--threads 2] [--level avx2] [--json FILE]

Each row: the medians of ours and of PyTorch's over the alternations. int8 stands beside PyTorch's bf16. With a level,
hold PyTorch to it as well: ONEDNN_MAX_CPU_ISA, MKL_ENABLE_INSTRUCTIONS and ATEN_CPU_CAPABILITY.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]
SHAPES = ["3072 3072", "3072 12288", "15360 3072"]
CASES = [f"{kind} {rows} {shape}" for rows in (1536, 4608) for shape in SHAPES for kind in ("bf16", "int8")]
CASES += ["f32 1536 3072 3072", "bf16 1 3072 18432", "bf16 512 4096 10240"]


def median_ms(run):
    run()
    times, start = [], time.perf_counter()
    while len(times) < 3 or (len(times) < 20 and time.perf_counter() - start < 1.0):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def rival(kind, rows, depth, columns):
    dtype = torch.float32 if kind == "f32" else torch.bfloat16
    x, w = torch.randn(rows, depth, dtype=dtype), torch.randn(columns, depth, dtype=dtype)
    return lambda: F.linear(x, w)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--level", default="amx")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json")
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    program = [ROOT / "target/release/examples/time_linear", str(arguments.threads), arguments.level]
    ours = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    table = []
    for case in CASES:
        if arguments.only not in case:
            continue
        kind, *sizes = case.split()
        rows, depth, columns = map(int, sizes)
        run = rival(kind, rows, depth, columns)
        our_times, their_times = [], []
        for _ in range(arguments.rounds):
            ours.stdin.write(case + "\n")
            ours.stdin.flush()
            our_times.append(float(ours.stdout.readline()))
            with torch.inference_mode():
                their_times.append(median_ms(run))
        our_ms, their_ms = statistics.median(our_times), statistics.median(their_times)
        speed = 2 * rows * depth * columns / our_ms / 1e9
        table.append({"case": case, "ours_ms": our_ms, "pytorch_ms": their_ms, "ratio": their_ms / our_ms})
        print(f"{case:24} {our_ms:9.2f} ms {speed:7.3f} Top/s   PyTorch {their_ms:9.2f} ms   ×{their_ms / our_ms:.2f}",
              flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(table, indent=1) + "\n")


main()
