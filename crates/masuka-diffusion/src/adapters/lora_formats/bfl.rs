//! Black Forest Labs' own files: their names and nothing before them, as in the control LoRAs of FLUX.1 Tools.

use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::flux_bfl::FLUX_BFL;

/// `double_blocks.0.img_attn.qkv.lora_A.weight`.
pub(super) const BFL: Convention = Convention {
    format: LoraFormat::Bfl,
    roles: ROLES,
    prefixes: &[Prefix {
        text: "",
        target: Target::Transformer,
        spellings: &[Spelling::Theirs(&FLUX_BFL)],
    }],
};
