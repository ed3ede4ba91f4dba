"""A step on one picture of 512×512 on one double- and two single-stream blocks of FLUX.1-dev's width, with random weights."""

import torch
from diffusers import FluxTransformer2DModel

from rows.train_step import ROOT, open_step

CONFIG = {
    "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
}


def write(folder):
    torch.manual_seed(0)
    FluxTransformer2DModel(**CONFIG).to(torch.bfloat16).save_pretrained(folder, max_shard_size="10GB")


def open_row(variant):
    return open_step("train_flux_512", ROOT / "bench/work/train_flux_512/model", 1, 32, 512, variant, write)
