//! diffusers: `transformer.transformer_blocks.0.attn.to_q.lora_A.weight`, `text_encoder.text_model.…`.

use super::layers::{CLIP, CLIP_UNUSED, FLUX, T5};
use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};

/// What `save_lora_weights` writes, its older `lora_linear_layer.down` included.
pub(super) const DIFFUSERS: Convention = Convention {
    format: LoraFormat::Diffusers,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "transformer.",
            target: Target::Transformer,
            spellings: &[Spelling::Ours(FLUX)],
        },
        Prefix {
            text: "text_encoder.text_model.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Ours(CLIP)],
        },
        Prefix {
            text: "text_encoder.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Ours(CLIP), Spelling::Unused(CLIP_UNUSED)],
        },
        Prefix {
            text: "text_encoder_2.",
            target: Target::TextEncoder2,
            spellings: &[Spelling::Ours(T5)],
        },
    ],
};
