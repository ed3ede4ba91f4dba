"""One step of training by diffusers and PEFT: forward pass, gradients, clipping, AdamW; rank 16, all linear layers of the blocks.

`_checkpointed` variants compute each block again on the way back. The base is in the variant's precision, the adapter in
f32 under autocast, as `train_dreambooth_lora_flux.py` has it. Values: the gradients by name, A and B of each layer.
"""

import contextlib
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from peft import LoraConfig
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
TARGETS = (
    r".+_blocks\.\d+\..*(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out|ff\.net\.0\.proj|ff\.net\.2"
    r"|ff_context\.net\.0\.proj|ff_context\.net\.2|norm1\.linear|norm1_context\.linear|norm\.linear|proj_mlp|proj_out)"
)


def open_step(name, folder, batch, side, words, variant, write_model=None):
    work = ROOT / "bench" / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    if write_model and not (folder / "config.json").exists():
        write_model(folder)
    precision, _, checkpointed = variant.partition("_")
    model = FluxTransformer2DModel.from_pretrained(folder, dtype=DTYPES[precision])
    adapter = add_adapter(model)
    given = load_inputs(work / "inputs.st", model.config, adapter, batch, side, words)
    if checkpointed:
        model.enable_gradient_checkpointing()
        model.train()
    optimizer = torch.optim.AdamW(adapter.values(), lr=1e-4, weight_decay=1e-4)
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    names = by_layer(adapter)

    @torch.enable_grad()
    def run(repetition):
        optimizer.zero_grad()
        with autocast:
            loss = loss_of(model, given, side)
        loss.backward()
        gradients = torch.cat([adapter[name].grad.flatten() for name in names]) if repetition == 0 else None
        torch.nn.utils.clip_grad_norm_(adapter.values(), 1.0)
        optimizer.step()
        return gradients
    return run


def add_adapter(model):
    """Its parameters by diffusers' names, in f32."""
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, init_lora_weights="gaussian"))
    adapter = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
            adapter["transformer." + name.replace(".default.", ".")] = parameter
    return adapter


def loss_of(model, given, side):
    """The mean squared distance of the velocity from noise - latents, as `train_dreambooth_lora_flux.py` takes it."""
    sigmas, dtype = given["sigmas"][:, None, None], model.dtype
    batch, words = given["txt"].shape[:2]
    velocity = model(
        hidden_states=((1 - sigmas) * given["latents"] + sigmas * given["noise"]).to(dtype), timestep=given["sigmas"],
        guidance=torch.ones(batch), pooled_projections=given["pooled"].to(dtype),
        encoder_hidden_states=given["txt"].to(dtype), txt_ids=torch.zeros(words, 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(batch, side, side, "cpu", torch.float32),
    ).sample
    return ((velocity.float() - (given["noise"] - given["latents"])) ** 2).mean()


def load_inputs(file, config, adapter, batch, side, words):
    """What both sides begin with: noise for pictures and words, and an adapter whose B is small."""
    if not file.exists():
        generator = torch.Generator("cpu").manual_seed(1)

        def randn(*shape):
            return torch.randn(shape, generator=generator)

        given = {
            "latents": randn(batch, side * side, config.in_channels), "noise": randn(batch, side * side, config.in_channels),
            "sigmas": torch.linspace(0.2, 0.9, batch), "txt": randn(batch, words, config.joint_attention_dim),
            "pooled": randn(batch, config.pooled_projection_dim),
        }
        for name, tensor in adapter.items():
            given[name] = randn(*tensor.shape) * (tensor.shape[1] ** -0.5 if "lora_A" in name else 0.01)
        save_file(given, file)
    given = load_file(file)
    for name, tensor in adapter.items():
        tensor.data.copy_(given[name])
    return given


def by_layer(names):
    """In the order of MASUKA's gradients: layers by name, A before B."""
    return sorted(names, key=lambda name: name.rsplit(".lora_", 1))
