//! XLabs-AI/x-flux: attention processors, whose first LoRA is the image's and whose second is the text's.

use super::roles::PROCESSOR_ROLES;
use super::{Convention, LoraFormat, Prefix, Spelling, Target};
use crate::weights::names::{How, Names, Rule};

/// `double_blocks.0.processor.qkv_lora1.down.weight`, bare or below ComfyUI's `diffusion_model.`; no alpha.
pub(super) const XLABS: Convention = Convention {
    format: LoraFormat::Xlabs,
    roles: PROCESSOR_ROLES,
    prefixes: &[
        Prefix {
            text: "",
            target: Target::Transformer,
            spellings: &[Spelling::Theirs(&PROCESSORS)],
        },
        Prefix {
            text: "diffusion_model.",
            target: Target::Transformer,
            spellings: &[Spelling::Theirs(&PROCESSORS)],
        },
    ],
};

const PROCESSORS: Names = Names {
    parameters: &[],
    rules: &[
        Rule {
            theirs: "double_blocks.{}.processor.qkv_lora1",
            ours: &[
                "transformer_blocks.{}.attn.to_q",
                "transformer_blocks.{}.attn.to_k",
                "transformer_blocks.{}.attn.to_v",
            ],
            how: How::Rows(&[1, 1, 1]),
        },
        Rule {
            theirs: "double_blocks.{}.processor.qkv_lora2",
            ours: &[
                "transformer_blocks.{}.attn.add_q_proj",
                "transformer_blocks.{}.attn.add_k_proj",
                "transformer_blocks.{}.attn.add_v_proj",
            ],
            how: How::Rows(&[1, 1, 1]),
        },
        Rule {
            theirs: "double_blocks.{}.processor.proj_lora1",
            ours: &["transformer_blocks.{}.attn.to_out.0"],
            how: How::Same,
        },
        Rule {
            theirs: "double_blocks.{}.processor.proj_lora2",
            ours: &["transformer_blocks.{}.attn.to_add_out"],
            how: How::Same,
        },
        Rule {
            theirs: "single_blocks.{}.processor.qkv_lora",
            ours: &[
                "single_transformer_blocks.{}.attn.to_q",
                "single_transformer_blocks.{}.attn.to_k",
                "single_transformer_blocks.{}.attn.to_v",
            ],
            how: How::Rows(&[1, 1, 1]),
        },
        Rule {
            theirs: "single_blocks.{}.processor.proj_lora",
            ours: &["single_transformer_blocks.{}.proj_out"],
            how: How::Same,
        },
    ],
};
