//! What a checkpoint is, by the names and shapes of its tensors, never by its file's name. This is the one place that
//! asks.

use std::collections::BTreeMap;
use std::fmt;

use super::checkpoint::Checkpoint;
use super::names::Names;
use super::names::autoencoder_bfl::AUTOENCODER_BFL;
use super::names::flux_bfl::FLUX_BFL;
use super::names::t5_llama_cpp::T5_LLAMA_CPP;
use super::source::TensorSource;

/// A part of a FLUX.1 model that has weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// CLIP.
    TextEncoder,
    /// T5.
    TextEncoder2,
    /// The denoiser.
    Transformer,
    /// The autoencoder.
    Autoencoder,
}

impl Part {
    /// Its folder in diffusers' layout.
    pub fn folder(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::Transformer => "transformer",
            Self::Autoencoder => "vae",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoder => "CLIP text encoder",
            Self::TextEncoder2 => "T5 text encoder",
            Self::Transformer => "FLUX.1 transformer",
            Self::Autoencoder => "autoencoder",
        })
    }
}

/// How a part is recognised: tensors that every spelling of it has, any of which will do.
struct Mark {
    part: Part,
    names: Option<&'static Names>,
    tensors: &'static [&'static str],
    /// Tensors below the same prefix that do not belong to the part.
    leaves_out: &'static [&'static str],
}

const MARKS: &[Mark] = &[
    Mark {
        part: Part::Transformer,
        names: None,
        tensors: &["transformer_blocks.0.attn.add_q_proj.weight", "x_embedder.weight"],
        leaves_out: &[],
    },
    Mark {
        part: Part::Transformer,
        names: Some(&FLUX_BFL),
        tensors: &[
            "double_blocks.0.img_attn.qkv.weight",
            "single_blocks.0.linear1.weight",
            "final_layer.adaLN_modulation.1.weight",
        ],
        leaves_out: &[],
    },
    Mark {
        part: Part::Autoencoder,
        names: None,
        tensors: &["decoder.up_blocks.0.resnets.0.conv1.weight", "decoder.conv_norm_out.weight"],
        leaves_out: &[],
    },
    Mark {
        part: Part::Autoencoder,
        names: Some(&AUTOENCODER_BFL),
        tensors: &["decoder.up.0.block.0.conv1.weight", "decoder.norm_out.weight"],
        leaves_out: &["loss."],
    },
    Mark {
        part: Part::TextEncoder2,
        names: None,
        tensors: &[
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            "encoder.final_layer_norm.weight",
        ],
        leaves_out: &["decoder.", "lm_head.", "logit_scale", "spiece_model"],
    },
    Mark {
        part: Part::TextEncoder2,
        names: Some(&T5_LLAMA_CPP),
        tensors: &["enc.blk.0.attn_q.weight", "enc.output_norm.weight"],
        leaves_out: &["dec.", "output.weight"],
    },
    Mark {
        part: Part::TextEncoder,
        names: None,
        tensors: &[
            "text_model.encoder.layers.0.self_attn.q_proj.weight",
            "text_model.embeddings.token_embedding.weight",
        ],
        leaves_out: &["vision_model.", "visual_projection."],
    },
    Mark {
        part: Part::TextEncoder,
        names: None,
        tensors: &["encoder.layers.0.self_attn.q_proj.weight", "embeddings.token_embedding.weight"],
        leaves_out: &[],
    },
];

/// Tensors of other families, whose transformers would partly pass for FLUX.1's. Any part of a name counts.
const OTHERS: &[(&str, &str)] = &[
    ("double_stream_modulation_img.", "a FLUX.2 transformer"),
    ("distilled_guidance_layer.", "a Chroma transformer"),
    ("individual_token_refiner.", "a HunyuanVideo transformer"),
    ("token_refiner.refiner_blocks.", "a HunyuanVideo transformer"),
    ("controlnet_blocks.", "a ControlNet"),
    ("joint_blocks.", "a Stable Diffusion 3 transformer"),
    ("double_layers.", "an AuraFlow transformer"),
    ("noise_refiner.", "a Lumina or Z-Image transformer"),
    ("blocks.0.cross_attn.norm_k.", "a Wan transformer"),
    ("blocks.0.attn2.norm_k.", "a Wan transformer"),
    ("transformer_blocks.0.img_mod.1.", "a Qwen-Image transformer"),
    ("adaln_single.linear.", "a PixArt or LTX transformer"),
    ("conditioner.embedders.1.", "a Stable Diffusion XL checkpoint"),
    ("label_emb.0.0.", "a Stable Diffusion XL checkpoint"),
    ("add_embedding.linear_1.", "a Stable Diffusion XL UNet"),
    ("input_blocks.0.0.", "a Stable Diffusion 1 or 2 checkpoint"),
    ("down_blocks.0.attentions.0.", "a Stable Diffusion 1 or 2 UNet"),
    (".lora_A.", "a LoRA, which is given with `--lora`"),
    (".lora_down.", "a LoRA, which is given with `--lora`"),
    (".lokr_w1", "a LoKr adapter"),
    (".hada_w1_a", "a LoHa adapter"),
];

/// Tensors beside the parts of a checkpoint that no part needs: averages kept while training, tables of noise levels,
/// the mark of a scaled fp8 file.
const BESIDE: &[&str] = &["model_ema.", "denoiser.sigmas", "scaled_fp8"];

/// How a part is spelled in a checkpoint.
#[derive(Clone)]
struct Spelling {
    prefix: String,
    mark: &'static Mark,
}

/// The parts of a FLUX.1 model that a checkpoint holds.
pub struct Contents {
    parts: BTreeMap<Part, Spelling>,
    other: Option<&'static str>,
}

impl Contents {
    /// Looks through the names of `checkpoint`.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let names = checkpoint.names();
        let holds = |(part, _): &&(&str, &str)| names.iter().any(|name| name.contains(part));
        let other = OTHERS.iter().find(holds).map(|(_, family)| *family);
        let mut parts = BTreeMap::new();
        for mark in MARKS.iter().filter(|mark| other.is_none() || mark.part != Part::Transformer) {
            if let Some(prefix) = mark.prefix(&names) {
                parts.entry(mark.part).or_insert(Spelling { prefix, mark });
            }
        }
        Self { parts, other }
    }

    /// Whether `part` is there.
    pub fn holds(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    /// Whether anything was recognised.
    pub fn is_known(&self) -> bool {
        self.other.is_some() || !self.parts.is_empty()
    }

    /// The tensors of `part` in `checkpoint`, by our names, if it is there.
    pub fn part(&self, part: Part, checkpoint: &Checkpoint) -> Option<Checkpoint> {
        let Spelling { prefix, mark } = self.parts.get(&part)?;
        let belongs = |name: &str| !mark.leaves_out.iter().any(|other| name.starts_with(other));
        Some(checkpoint.part(prefix, mark.names, belongs))
    }

    /// Of `names`, those that belong to none of the parts and are not known to be of no use.
    pub fn strays<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        let is_known = |name: &str| {
            self.parts.values().any(|spelling| name.starts_with(&spelling.prefix))
                || BESIDE.iter().any(|beside| name.starts_with(beside))
        };
        names.iter().map(String::as_str).filter(|name| !is_known(name)).collect()
    }

    /// What it is, for people: its parts, or the other family that it looks like.
    pub fn describe(&self) -> String {
        match (self.other, self.parts.keys().copied().collect::<Vec<_>>().as_slice()) {
            (Some(other), _) => other.to_owned(),
            (None, []) => "nothing that is known here".to_owned(),
            (None, parts) => {
                let named = |part: &Part| {
                    let article = if *part == Part::Autoencoder { "an" } else { "a" };
                    format!("{article} {part}")
                };
                parts.iter().map(named).collect::<Vec<_>>().join(" and ")
            }
        }
    }
}

impl Mark {
    /// What stands before the first of these tensors that is among `names`.
    fn prefix(&self, names: &[String]) -> Option<String> {
        let ends = |tensor: &&str| {
            let before = names.iter().filter_map(|name| name.strip_suffix(*tensor));
            before.filter(|p| p.is_empty() || p.ends_with('.')).min_by_key(|p| p.len())
        };
        self.tensors.iter().find_map(ends).map(str::to_owned)
    }
}
