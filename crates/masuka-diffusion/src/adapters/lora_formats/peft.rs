//! PEFT's own checkpoints, of one model each: `base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight`. Alpha
//! stands in `adapter_config.json` beside the file.

use super::layers::{CLIP, CLIP_UNUSED, FLUX, T5};
use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::flux_bfl::FLUX_BFL;

/// What `save_pretrained` writes, of a model of diffusers, of transformers or of Black Forest Labs; also saved from a
/// pipeline, with the component's name between.
pub(super) const PEFT: Convention = Convention {
    format: LoraFormat::Peft,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "base_model.model.",
            target: Target::Transformer,
            spellings: &[Spelling::Ours(FLUX), Spelling::Theirs(&FLUX_BFL)],
        },
        Prefix {
            text: "base_model.model.transformer.",
            target: Target::Transformer,
            spellings: &[Spelling::Ours(FLUX)],
        },
        Prefix {
            text: "base_model.model.text_model.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Ours(CLIP)],
        },
        Prefix {
            text: "base_model.model.",
            target: Target::TextEncoder,
            spellings: &[Spelling::Ours(CLIP), Spelling::Unused(CLIP_UNUSED)],
        },
        Prefix {
            text: "base_model.model.",
            target: Target::TextEncoder2,
            spellings: &[Spelling::Ours(T5)],
        },
    ],
};
