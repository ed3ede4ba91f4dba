//! OneTrainer: diffusers' names with underscores below `lora_transformer_`; its later files have Black Forest Labs'
//! names below `transformer.`, joined layers still in parts with a number each. LyCORIS, as SimpleTuner calls it,
//! writes the former with another prefix.

use super::layers::{CLIP, CLIP_UNUSED, FLUX, T5};
use super::roles::ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::flux_bfl::FLUX_BFL;
use crate::weights::names::{How, Names, Rule};

const CLIP_LAYERS: Prefix = Prefix {
    text: "lora_te1_text_model_",
    target: Target::TextEncoder,
    spellings: &[Spelling::OursUnderscored(CLIP)],
};
const CLIP_REST: Prefix = Prefix {
    text: "lora_te1_",
    target: Target::TextEncoder,
    spellings: &[Spelling::Unused(CLIP_UNUSED)],
};
const T5_LAYERS: Prefix = Prefix {
    text: "lora_te2_",
    target: Target::TextEncoder2,
    spellings: &[Spelling::OursUnderscored(T5)],
};

/// `lora_transformer_single_transformer_blocks_0_attn_to_k.lora_down.weight`.
pub(super) const ONETRAINER: Convention = Convention {
    format: LoraFormat::OneTrainer,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "lora_transformer_",
            target: Target::Transformer,
            spellings: &[Spelling::OursUnderscored(FLUX)],
        },
        CLIP_LAYERS,
        CLIP_REST,
        T5_LAYERS,
    ],
};

/// `transformer.double_blocks.0.img_attn.qkv.0.lora_down.weight`.
pub(super) const ONETRAINER_BFL: Convention = Convention {
    format: LoraFormat::OneTrainerBfl,
    roles: ROLES,
    prefixes: &[
        Prefix {
            text: "transformer.",
            target: Target::Transformer,
            spellings: &[Spelling::Theirs(&PARTS), Spelling::Theirs(&FLUX_BFL)],
        },
        CLIP_LAYERS,
        CLIP_REST,
        T5_LAYERS,
    ],
};

/// `lycoris_transformer_blocks_0_attn_to_q.lokr_w1`.
pub(super) const LYCORIS: Convention = Convention {
    format: LoraFormat::Lycoris,
    roles: ROLES,
    prefixes: &[Prefix {
        text: "lycoris_",
        target: Target::Transformer,
        spellings: &[Spelling::OursUnderscored(FLUX), Spelling::TheirsUnderscored(&FLUX_BFL)],
    }],
};

const fn part(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, how: How::Same }
}

const PARTS: Names = Names {
    parameters: &[],
    rules: &[
        part("double_blocks.{}.img_attn.qkv.0", &["transformer_blocks.{}.attn.to_q"]),
        part("double_blocks.{}.img_attn.qkv.1", &["transformer_blocks.{}.attn.to_k"]),
        part("double_blocks.{}.img_attn.qkv.2", &["transformer_blocks.{}.attn.to_v"]),
        part("double_blocks.{}.txt_attn.qkv.0", &["transformer_blocks.{}.attn.add_q_proj"]),
        part("double_blocks.{}.txt_attn.qkv.1", &["transformer_blocks.{}.attn.add_k_proj"]),
        part("double_blocks.{}.txt_attn.qkv.2", &["transformer_blocks.{}.attn.add_v_proj"]),
        part("single_blocks.{}.linear1.0", &["single_transformer_blocks.{}.attn.to_q"]),
        part("single_blocks.{}.linear1.1", &["single_transformer_blocks.{}.attn.to_k"]),
        part("single_blocks.{}.linear1.2", &["single_transformer_blocks.{}.attn.to_v"]),
        part("single_blocks.{}.linear1.3", &["single_transformer_blocks.{}.proj_mlp"]),
    ],
};
