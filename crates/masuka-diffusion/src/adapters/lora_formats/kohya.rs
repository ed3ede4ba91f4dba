//! kohya-ss/sd-scripts (`networks/lora_flux.py` @ 48d368fa): Black Forest Labs' names with underscores, an alpha to
//! each module; T5 is the third text encoder there.

use super::layers::{CLIP, CLIP_UNUSED, FLUX, T5};
use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::flux_bfl::FLUX_BFL;

/// `lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight`; other trainers number T5 as the second.
pub(super) const KOHYA: Convention = Convention {
    format: LoraFormat::Kohya,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "lora_unet_",
            target: Target::Transformer,
            spellings: &[Spelling::TheirsUnderscored(&FLUX_BFL), Spelling::OursUnderscored(FLUX)],
        },
        Prefix {
            text: "lora_te1_text_model_",
            target: Target::TextEncoder,
            spellings: &[Spelling::OursUnderscored(CLIP)],
        },
        Prefix {
            text: "lora_te1_",
            target: Target::TextEncoder,
            spellings: &[Spelling::Unused(CLIP_UNUSED)],
        },
        Prefix {
            text: "lora_te_text_model_",
            target: Target::TextEncoder,
            spellings: &[Spelling::OursUnderscored(CLIP)],
        },
        Prefix {
            text: "lora_te3_",
            target: Target::TextEncoder2,
            spellings: &[Spelling::OursUnderscored(T5)],
        },
        Prefix {
            text: "lora_te2_",
            target: Target::TextEncoder2,
            spellings: &[Spelling::OursUnderscored(T5)],
        },
    ],
};
