"""How many bytes the weights of a row are, each in the precision in which it is computed."""

import json
import math
import struct
from pathlib import Path

BENCH = Path(__file__).resolve().parent
SIZES = {"f32": 4, "bf16": 2, "int8": 2}


def shapes(file):
    """Of a safetensors file, by name."""
    with file.open("rb") as opened:
        length, = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def is_int8(name, shape):
    """As `FluxTransformer::takes_int8` and its kin: the matrices of blocks except those of modulation."""
    return len(shape) == 2 and "transformer_blocks." in name and ".norm" not in name


def weight_bytes(pattern, variant):
    """`pattern` names safetensors files below bench/."""
    tensors = [item for file in sorted(BENCH.glob(pattern)) for item in shapes(file).items()]
    size = SIZES[variant.split("_")[0]]
    return sum(math.prod(shape) * (1 if variant == "int8" and is_int8(name, shape) else size) for name, shape in tensors)
