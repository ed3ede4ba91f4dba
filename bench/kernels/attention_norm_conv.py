"""Attention, norms and convolutions beside PyTorch, alternating in one process tree.

    cargo build --release -p masuka-kernels --example time_kernels
    python bench/kernels/attention_norm_conv.py [--only WORD] [--threads 2] [--json FILE]

Each row: the median of ours over PyTorch's best variant, the medians of three alternations.
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


def median_ms(f):
    f()
    times, start = [], time.perf_counter()
    while not times or (len(times) < 20 and time.perf_counter() - start < 1.0):
        begin = time.perf_counter()
        f()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def attention(h, l_q, l_k, d):
    q = torch.randn(1, h, l_q, d, dtype=torch.bfloat16)
    k, v = (torch.randn(1, h, l_k, d, dtype=torch.bfloat16) for _ in range(2))
    return {"sdpa bf16": lambda: F.scaled_dot_product_attention(q, k, v)}, 4 * h * l_q * l_k * d


def conv(c_in, c_out, kernel, height, width):
    rivals = {}
    for dtype in (torch.bfloat16, torch.float32):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, c_in, height, width, dtype=dtype).to(memory_format=layout)
            w = torch.randn(c_out, c_in, kernel, kernel, dtype=dtype).to(memory_format=layout)
            name = f"{dtype} {layout}".replace("torch.", "")
            rivals[name] = lambda x=x, w=w: F.conv2d(x, w, padding=kernel // 2)
    return rivals, 2 * c_in * c_out * kernel * kernel * height * width


def upsample(c, height, width):
    rivals = {}
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn(1, c, height, width, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.randn(c, c, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)

        def run(x=x, w=w):
            return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, padding=1)

        rivals[str(dtype)] = run
    return rivals, 2 * c * c * 9 * 4 * height * width


def norm(rows, d):
    x = torch.randn(1, rows, d, dtype=torch.bfloat16)
    scale, shift = torch.randn(1, 1, d, dtype=torch.bfloat16), torch.randn(1, 1, d, dtype=torch.bfloat16)
    return {"bf16": lambda: F.layer_norm(x, (d,)) * (1 + scale) + shift}, 0


def group(pixels, c):
    side = int(pixels**0.5)
    x = torch.randn(1, c, side, side, dtype=torch.bfloat16)
    w, b = torch.randn(c, dtype=torch.bfloat16), torch.randn(c, dtype=torch.bfloat16)
    return {"bf16": lambda: F.silu(F.group_norm(x, 32, w, b, 1e-6))}, 0


CASES = [
    "attention 24 1536 1536 128",
    "attention 24 4608 4608 128",
    "attention 64 512 512 64",
    "attention 1 4096 4096 512",
    "norm 1536 3072",
    "group 262144 128",
    "conv 512 512 3 64 64",
    "conv 512 512 3 128 128",
    "conv 256 256 3 256 256",
    "conv 128 128 3 512 512",
    "conv 512 256 1 256 256",
    "conv 128 3 3 512 512",
    "upsample 512 64 64",
    "upsample 256 256 256",
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json")
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    program = ROOT / "target/release/examples/time_kernels"
    ours = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    rows = []
    for case in CASES:
        if arguments.only not in case:
            continue
        kind, *sizes = case.split()
        rivals, flops = globals()[kind](*map(int, sizes))
        our_times, their_times = [], {name: [] for name in rivals}
        for _ in range(arguments.rounds):
            ours.stdin.write(case + "\n")
            ours.stdin.flush()
            our_times.append(float(ours.stdout.readline()))
            with torch.inference_mode():
                for name, run in rivals.items():
                    their_times[name].append(median_ms(run))
        our_ms = statistics.median(our_times)
        best = min(their_times, key=lambda name: statistics.median(their_times[name]))
        their_ms = statistics.median(their_times[best])
        row = {"case": case, "ours_ms": our_ms, "pytorch_ms": their_ms, "variant": best}
        row |= {"ratio": their_ms / our_ms, "ours_tflops": flops / our_ms / 1e9}
        rows.append(row)
        print(f"{case:30} {our_ms:9.2f} ms  PyTorch {their_ms:9.2f} ms ({best})  ×{row['ratio']:.2f}"
              f"  {row['ours_tflops']:.3f} TFLOP/s", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


main()
