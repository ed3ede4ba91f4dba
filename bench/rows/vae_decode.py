"""Latents to a picture by an autoencoder of FLUX.1's sizes with random weights, which this side writes to bench/work/vae.

Contiguous and channels-last are tried in the uncounted repetition, and the faster one is measured.
"""

import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).resolve().parents[1] / "work" / "vae"
CONFIG = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
    "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 0.3611, "shift_factor": 0.1159,
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def open_size(size, variant):
    if not (FOLDER / "config.json").exists():
        torch.manual_seed(0)
        AutoencoderKL(**CONFIG).save_pretrained(FOLDER)
    latents_file = FOLDER / f"latents_{size}.safetensors"
    if not latents_file.exists():
        generator = torch.Generator("cpu").manual_seed(1)
        save_file({"latents": torch.randn(1, 16, size // 8, size // 8, generator=generator)}, latents_file)
    vae = AutoencoderKL.from_pretrained(FOLDER, dtype=DTYPES[variant])
    latents = load_file(latents_file)["latents"] / vae.config.scaling_factor + vae.config.shift_factor
    latents = latents.to(DTYPES[variant])

    def decode():
        return vae.decode(latents).sample.float()

    def run(repetition):
        if repetition == 0:
            seconds = {}
            for layout in (torch.contiguous_format, torch.channels_last):
                vae.to(memory_format=layout)
                decode()
                started = time.perf_counter()
                decode()
                seconds[layout] = time.perf_counter() - started
            vae.to(memory_format=min(seconds, key=seconds.get))
        return decode()
    return run
