"""The starter's 128×128 picture in 20 steps, prompt to pixels, the model loaded before.

int8 is ours alone; diffusers computes bf16 beside it.
"""

from pathlib import Path

import torch
from diffusers import FluxPipeline

STARTER = Path(__file__).resolve().parents[2] / "models" / "starter"


def open_row(variant):
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}[variant]
    pipeline = FluxPipeline.from_pretrained(STARTER, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)

    def run(repetition):
        return pipeline(
            f"red apple {repetition}, noto style", height=128, width=128, num_inference_steps=20, guidance_scale=3.5,
            generator=torch.Generator("cpu").manual_seed(7), max_sequence_length=pipeline.tokenizer_2.model_max_length,
            output_type="np",
        ).images
    return run
