"""FLUX.1-dev at its true size (11.9 B, random weights in fp8): loads, steps at 512² and 1024², and peak memory.

    bench/flux_dev.py [--keep]     writes bench/work/flux_dev (17 GB), runs target/release/masuka in int8, prints the figures
    bench/flux_dev.py --card       the same on an NVIDIA card in bf16, in turns with diffusers on the same weights

diffusers cannot stand beside it on a machine of 24 GiB, so without a card there is no ratio. Weights are normal numbers whose spread keeps
activations of the size that a trained model's have; there is nothing to be seen in the picture.
"""

import argparse
import json
import re
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "bench" / "work" / "flux_dev"
STARTER = ROOT / "models" / "starter"
PROMPT = "a red apple on a wooden table"
TRANSFORMER = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
}
T5 = {
    "feed_forward_proj": "gated-gelu", "is_decoder": False, "is_encoder_decoder": False, "use_cache": False, "d_model": 4096,
    "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 32128,
}
SPREAD = 0.02
# Numbers of one tensor repeat after so many, a prime, so that no two rows are alike.
PERIOD = 16_777_213


def write_fp8(model, path):
    """Matrices in fp8, the rest in bf16, one tensor at a time: nothing of this size is held in memory."""
    noise = (torch.randn(PERIOD, generator=torch.Generator().manual_seed(0)) * SPREAD).to(torch.float8_e4m3fn)
    noise = noise.view(torch.uint8).numpy().tobytes()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "shared.weight"}
    header, offset = {}, 0
    for name, tensor in state.items():
        kind, size = ("F8_E4M3", 1) if tensor.dim() == 2 else ("BF16", 2)
        end = offset + tensor.numel() * size
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, tensor in state.items():
            left = tensor.numel()
            if tensor.dim() != 2:
                is_norm = "norm" in name and name.endswith("weight")
                file.write(torch.full((left,), 1.0 if is_norm else 0.0, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes())
            while tensor.dim() == 2 and left > 0:
                file.write(noise[: min(left, PERIOD)])
                left -= min(left, PERIOD)
    (path.parent / "config.json").write_text(json.dumps(dict(model.config) if isinstance(model.config, dict) else model.config.to_dict(), default=str))


def write():
    with torch.device("meta"):
        transformer, t5 = FluxTransformer2DModel(**TRANSFORMER), T5EncoderModel(T5Config(**T5))
    write_fp8(transformer, FOLDER / "transformer" / "diffusion_pytorch_model.safetensors")
    write_fp8(t5, FOLDER / "text_encoder_2" / "model.safetensors")
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12, vocab_size=49408,
                          max_position_embeddings=77, hidden_act="quick_gelu", eos_token_id=2)
    CLIPTextModel(clip).bfloat16().save_pretrained(FOLDER / "text_encoder")
    AutoencoderKL(
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32, sample_size=1024,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, scaling_factor=0.3611,
        shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False).bfloat16().save_pretrained(FOLDER / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(FOLDER / "scheduler")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(STARTER / name, FOLDER / name, dirs_exist_ok=True)
    settings = FOLDER / "tokenizer_2" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 512}))
    shutil.copy(STARTER / "model_index.json", FOLDER / "model_index.json")


def draw(size, steps):
    command = [ROOT / "target" / "release" / "masuka", "generate", PROMPT, "--model", FOLDER, "--dtype", "int8",
               "--offload", "components", "--width", str(size), "--height", str(size), "--seed", "0", "--steps", str(steps), "--output", FOLDER / f"{size}.png"]
    started = time.monotonic()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    times = re.search(r"load .*", done.stderr + done.stdout)
    print(f"{size}²: {steps} steps in {seconds:.1f} s in all; {times and times[0]}; peak {peak:.1f} GiB so far", flush=True)


def drawn_on_card(size, steps):
    """Seconds of each stage, and the picture."""
    path = FOLDER / f"{size}_{steps}.png"
    command = [ROOT / "target" / "release" / "masuka", "generate", PROMPT, "--model", FOLDER, "--dtype", "bf16",
               "--device", "cuda", "--width", size, "--height", size, "--seed", 0, "--steps", steps, "--output", path, "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout)["timings_seconds"], path


def reference_on_card():
    """diffusers' pipeline with the same weights."""
    from diffusers import FluxPipeline
    from safetensors.torch import load_file
    from transformers import CLIPTokenizer, T5TokenizerFast

    def filled(model, path):
        state = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path, device="cuda").items()}
        if "encoder.embed_tokens.weight" in state:
            state["shared.weight"] = state["encoder.embed_tokens.weight"]
        model.load_state_dict(state, assign=True)
        return model.eval()

    with torch.device("meta"):
        transformer, t5 = FluxTransformer2DModel(**TRANSFORMER), T5EncoderModel(T5Config(**T5))
    transformer = filled(transformer, FOLDER / "transformer" / "diffusion_pytorch_model.safetensors")
    t5 = filled(t5, FOLDER / "text_encoder_2" / "model.safetensors")
    pipeline = FluxPipeline(
        transformer=transformer, text_encoder_2=t5, text_encoder=CLIPTextModel.from_pretrained(FOLDER / "text_encoder").bfloat16(),
        vae=AutoencoderKL.from_pretrained(FOLDER / "vae").bfloat16(),
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "scheduler"),
        tokenizer=CLIPTokenizer.from_pretrained(FOLDER / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(FOLDER / "tokenizer_2"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda")


def drawn_by_reference(pipeline, size, steps):
    """Seconds of a step, seconds of decoding, and the picture."""
    # MASUKA's noise is f32, and diffusers would draw other numbers in bf16.
    latents = torch.randn((1, 16, size // 8, size // 8), generator=torch.Generator("cpu").manual_seed(0))
    latents = pipeline._pack_latents(latents, 1, 16, size // 8, size // 8).to("cuda", torch.bfloat16)
    done = []

    def note(pipeline, step, timestep, tensors):
        torch.cuda.synchronize()
        done.append(time.monotonic())
        return tensors

    picture = pipeline(PROMPT, width=size, height=size, num_inference_steps=steps, guidance_scale=3.5, latents=latents,
                       callback_on_step_end=note).images[0]
    torch.cuda.synchronize()
    return (done[-1] - done[0]) / (steps - 1), time.monotonic() - done[-1], picture


def compare_on_card(repeats):
    """Each size by both sides, `repeats` times in turns: seconds of a step and of decoding, how far the pictures are apart."""
    import numpy as np
    from PIL import Image

    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    few, many = 4, 24
    pipeline = reference_on_card()
    for size in (512, 1024):
        drawn_by_reference(pipeline, size, few)
        ours, theirs = [], []
        for _ in range(repeats):
            (short, _), (long, path) = drawn_on_card(size, few), drawn_on_card(size, many)
            ours.append(((long["denoise"] - short["denoise"]) / (many - few), long["decode_latents"]))
            step, decoding, picture = drawn_by_reference(pipeline, size, many)
            theirs.append((step, decoding))
        ours, theirs = sorted(ours)[repeats // 2], sorted(theirs)[repeats // 2]
        distance = (np.asarray(Image.open(path), float) - np.asarray(picture, float)) / 255
        print(f"{size}²: a step {ours[0]:.4f} s, diffusers {theirs[0]:.4f} s: {theirs[0] / ours[0]:.2f} times as fast; "
              f"decoding {ours[1]:.3f} s, diffusers {theirs[1]:.3f} s; loading {long['load']:.1f} s; the pictures are "
              f"{-10 * np.log10((distance ** 2).mean()):.1f} dB apart; diffusers' peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the 17 GB where they are")
    parser.add_argument("--card", action="store_true", help="on an NVIDIA card, beside diffusers")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side on a card")
    arguments = parser.parse_args()
    if not (FOLDER / "model_index.json").exists():
        write()
    if arguments.card:
        compare_on_card(arguments.repeats)
    else:
        draw(512, 2)
        draw(1024, 1)
    if not arguments.keep:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
