"""One velocity of a transformer as wide as FLUX.1-dev, two double- and four single-stream blocks, for 512×512 pixels and 512 text tokens.

Its random weights (2.5 GB in bf16) are written to bench/work/flux_step. int8 is ours alone; diffusers computes bf16 beside it.
`bf16_compiled` is passed through `torch.compile`, which needs a C++ compiler.
"""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).resolve().parents[1] / "work" / "flux_step"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
CONFIG = {
    "in_channels": 64, "num_layers": 2, "num_single_layers": 4, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
}
SIDE, TEXT = 32, 512


def write():
    torch.manual_seed(0)
    FluxTransformer2DModel(**CONFIG).to(torch.bfloat16).save_pretrained(FOLDER, max_shard_size="10GB")
    generator = torch.Generator("cpu").manual_seed(1)

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    inputs = {"latents": randn(1, SIDE * SIDE, 64), "txt": randn(1, TEXT, 4096), "pooled": randn(1, 768)}
    save_file(inputs, FOLDER / "inputs.st")


def open_row(variant):
    if not (FOLDER / "inputs.st").exists():
        write()
    precision, _, compiled = variant.partition("_")
    dtype = DTYPES[precision]
    transformer = FluxTransformer2DModel.from_pretrained(FOLDER, dtype=dtype).eval()
    if compiled:
        transformer = torch.compile(transformer)
    inputs = load_file(FOLDER / "inputs.st")
    ids = torch.zeros(SIDE, SIDE, 3)
    ids[..., 1] += torch.arange(SIDE)[:, None]
    ids[..., 2] += torch.arange(SIDE)[None, :]

    def run(repetition):
        return transformer(
            hidden_states=inputs["latents"].to(dtype), encoder_hidden_states=inputs["txt"].to(dtype),
            pooled_projections=inputs["pooled"].to(dtype), timestep=torch.tensor([1.0], dtype=dtype),
            guidance=torch.tensor([3.5], dtype=torch.float32), img_ids=ids.reshape(-1, 3), txt_ids=torch.zeros(TEXT, 3),
        ).sample.float()
    return run
