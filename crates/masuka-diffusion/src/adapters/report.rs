//! What an adapter file turned out to be, for people and for the API.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::lora_formats::LoraFormat;
use super::{Delta, LoraAdapter, LoraUpdate, Magnitude, Matrix, Target};

/// How an update is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A product of two thin matrices.
    Lora,
    /// Two products, multiplied by elements.
    Loha,
    /// A Kronecker product.
    Lokr,
    /// The difference itself, of a weight or a bias.
    Diff,
    /// Any of these with trained norms.
    Dora,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lora => "LoRA",
            Self::Loha => "LoHa",
            Self::Lokr => "LoKr",
            Self::Diff => "difference",
            Self::Dora => "DoRA",
        })
    }
}

/// The base model that an adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BaseFamily {
    /// The architecture.
    pub name: &'static str,
    /// Width of its residual stream, where an update of the transformer tells: FLUX.1 dev and schnell have 3072.
    pub hidden_size: Option<usize>,
}

impl fmt::Display for BaseFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hidden_size {
            Some(width) => write!(f, "{}, {width} channels wide", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// The convention of its names.
    pub format: LoraFormat,
    /// The base model it is for.
    pub base: BaseFamily,
    /// How many layers are adapted in which way.
    pub methods: BTreeMap<Method, usize>,
    /// How many layers have which rank.
    pub ranks: BTreeMap<usize, usize>,
    /// The distinct values of alpha, smallest first.
    pub alphas: Vec<f64>,
    /// How many layers are adapted in which component (diffusers' names).
    pub targets: BTreeMap<&'static str, usize>,
    /// Tensors that make up these updates.
    pub applied: usize,
    /// Tensors known to have no effect.
    pub ignored: usize,
    /// Tensors of updates that are zero everywhere.
    pub zero: usize,
    /// Tensors that nobody knows.
    pub unknown: usize,
}

impl ImportReport {
    /// The report on `adapter`.
    pub(super) fn of(adapter: &LoraAdapter) -> Self {
        let (mut methods, mut ranks, mut targets) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut alphas = Vec::new();
        for ((target, _), update) in &adapter.updates {
            *methods.entry(method(update)).or_default() += 1;
            *targets.entry(target.component()).or_default() += 1;
            if let Some(scaling) = update.scaling {
                *ranks.entry(scaling.rank).or_default() += 1;
                alphas.push(scaling.alpha);
            }
        }
        alphas.sort_by(f64::total_cmp);
        alphas.dedup();
        Self {
            format: adapter.format,
            base: BaseFamily { name: "FLUX.1", hidden_size: hidden_size(adapter) },
            methods,
            ranks,
            alphas,
            targets,
            applied: adapter.updates.values().map(|update| update.tensors).sum(),
            ignored: adapter.ignored.len(),
            zero: adapter.zero.len(),
            unknown: adapter.unknown.len(),
        }
    }
}

fn method(update: &LoraUpdate) -> Method {
    match (&update.magnitude, &update.delta) {
        (Some(Magnitude::Rows(_) | Magnitude::Columns(_)), _) => Method::Dora,
        (None, Some(Delta::Plain(Matrix::Product { .. }))) => Method::Lora,
        (None, Some(Delta::Hadamard(..))) => Method::Loha,
        (None, Some(Delta::Kronecker(..))) => Method::Lokr,
        (None, Some(Delta::Plain(Matrix::Whole(_))) | None) => Method::Diff,
    }
}

/// The input width of a layer that takes the residual stream.
fn hidden_size(adapter: &LoraAdapter) -> Option<usize> {
    const TAKES_STREAM: [&str; 9] = [
        ".to_q",
        ".to_k",
        ".to_v",
        ".add_q_proj",
        ".add_k_proj",
        ".add_v_proj",
        ".norm.linear",
        ".norm1.linear",
        ".net.0.proj",
    ];
    let mut updates = adapter.updates.iter();
    updates.find_map(|((target, layer), update)| {
        let takes_stream = TAKES_STREAM.iter().any(|end| layer.ends_with(end));
        let shape = update.shape().ok().flatten();
        shape.filter(|_| *target == Target::Transformer && takes_stream).map(|(_, width)| width)
    })
}

/// Parts of names by which adapters of other models are known.
const OTHER_FAMILIES: [(&str, &str); 12] = [
    ("lora_unet_input_blocks_", "Stable Diffusion XL"),
    ("lora_unet_down_blocks_", "Stable Diffusion"),
    ("unet.down_blocks.", "Stable Diffusion"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("double_stream_modulation", "FLUX.2"),
    ("double_blocks.0.img_attn_qkv", "HunyuanVideo"),
    ("transformer_blocks.0.img_mlp", "Qwen-Image"),
    ("transformer_blocks.0.attn1", "LTX-Video"),
    ("blocks.0.self_attn", "Wan"),
    ("blocks_0_self_attn", "Wan"),
    ("layers.0.feed_forward", "Z-Image"),
    ("layers.0.adaLN_modulation", "Z-Image"),
];

/// The other model that adapters with such tensors are for, if it is known.
pub(super) fn other_family<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    names.find_map(|name| {
        let known = OTHER_FAMILIES.iter().find(|(part, _)| name.contains(part));
        known.map(|(_, family)| *family)
    })
}
