//! ComfyUI and ai-toolkit: Black Forest Labs' names below `diffusion_model.`, with `lora_A` or `lora_down`.

use super::layers::{CLIP, CLIP_UNUSED, FLUX, T5};
use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::flux_bfl::FLUX_BFL;

/// What ComfyUI saves and reads, text encoders included.
pub(super) const COMFYUI: Convention = Convention {
    format: LoraFormat::ComfyUi,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "diffusion_model.",
            target: Target::Transformer,
            spellings: &[Spelling::Theirs(&FLUX_BFL), Spelling::Ours(FLUX)],
        },
        Prefix {
            text: "text_encoders.clip_l.transformer.text_model.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Ours(CLIP)],
        },
        Prefix {
            text: "text_encoders.clip_l.transformer.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Unused(CLIP_UNUSED)],
        },
        Prefix {
            text: "text_encoders.t5xxl.transformer.",
            target: Target::TextEncoder2,
            spellings: &[Spelling::Ours(T5)],
        },
    ],
};
