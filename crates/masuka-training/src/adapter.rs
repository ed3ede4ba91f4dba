//! The tensors that are trained: a pair A and B beside each chosen linear layer, in f32 whatever the model is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, TensorId, Var};
use masuka_diffusion::adapters::{AdapterSlot, LoraBranch};
use masuka_diffusion::noise::Seed;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::randomness::{self, Purpose};

/// Which linear layers are adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// Queries, keys, values and outputs of attention, of both streams.
    Attention,
    /// Every linear layer of the blocks: also the MLPs and the modulations.
    #[default]
    AllLinear,
}

impl Targets {
    const ATTENTION: [&str; 8] = [
        ".attn.to_q",
        ".attn.to_k",
        ".attn.to_v",
        ".attn.to_out.0",
        ".attn.add_q_proj",
        ".attn.add_k_proj",
        ".attn.add_v_proj",
        ".attn.to_add_out",
    ];

    /// Whether the layer `module` (diffusers' name) is one of them.
    pub fn include(self, module: &str) -> bool {
        let blocks = ["transformer_blocks.", "single_transformer_blocks."];
        let in_block = blocks.iter().any(|stack| module.starts_with(stack));
        match self {
            Self::Attention => in_block && Self::ATTENTION.iter().any(|end| module.ends_with(end)),
            Self::AllLinear => in_block,
        }
    }

    /// The name in requests and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::AllLinear => "all_linear",
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Targets {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Attention, Self::AllLinear];
        let known = all.into_iter().find(|targets| targets.name() == name);
        known.ok_or_else(|| {
            Error::invalid("targets", format!("`{name}`"), "is not one of attention, all_linear")
        })
    }
}

/// The size of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdapterSize {
    /// Rows of A.
    pub rank: usize,
    /// The update is scaled by alpha / rank.
    pub alpha: f64,
}

/// An adapter under training, with the slots of the layers that it stands beside.
pub struct TrainedAdapter {
    size: AdapterSize,
    modules: Vec<(String, Arc<AdapterSlot>)>,
    /// A and B of each module in turn.
    parameters: Vec<Var>,
    by_id: HashMap<TensorId, usize>,
}

impl TrainedAdapter {
    /// An adapter of no effect yet, as PEFT starts it: A uniform within ±1/√in (Kaiming), B zero.
    ///
    /// # Errors
    /// When none of `slots` (by diffusers' names) is a target.
    pub fn new(
        slots: &BTreeMap<String, Arc<AdapterSlot>>,
        targets: Targets,
        size: AdapterSize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let modules = chosen(slots, targets)?;
        let mut parameters = Vec::with_capacity(2 * modules.len());
        for (index, (_, slot)) in modules.iter().enumerate() {
            let mut generator = randomness::stream(seed, Purpose::Adapter, index as u64)?;
            let bound = 1.0 / (slot.in_features() as f64).sqrt();
            let mut draw = || ((2.0 * randomness::uniform(&mut generator) - 1.0) * bound) as f32;
            let a = (0..size.rank * slot.in_features()).map(|_| draw()).collect();
            parameters.push(Var::from_vec(a, (size.rank, slot.in_features()), device)?);
            parameters.push(Var::zeros((slot.out_features(), size.rank), DType::F32, device)?);
        }
        Ok(Self::from_parts(size, modules, parameters))
    }

    /// An adapter that goes on from `tensors`, which have [`names`](Self::names).
    ///
    /// # Errors
    /// When one is missing or fits no layer.
    pub fn from_tensors(
        slots: &BTreeMap<String, Arc<AdapterSlot>>,
        targets: Targets,
        size: AdapterSize,
        tensors: &HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let modules = chosen(slots, targets)?;
        let mut parameters = Vec::with_capacity(2 * modules.len());
        for (module, slot) in &modules {
            let shapes = [(size.rank, slot.in_features()), (slot.out_features(), size.rank)];
            for (name, shape) in tensor_names(module).into_iter().zip(shapes) {
                let tensor = tensors.get(&name).filter(|tensor| tensor.dims2().ok() == Some(shape));
                let Some(tensor) = tensor else {
                    let rule = format!("is missing or not of shape {shape:?}");
                    return Err(Error::invalid("tensor", format!("`{name}`"), rule));
                };
                let tensor = tensor.to_dtype(DType::F32)?.to_device(device)?;
                parameters.push(Var::from_tensor(&tensor.contiguous()?)?);
            }
        }
        Ok(Self::from_parts(size, modules, parameters))
    }

    fn from_parts(
        size: AdapterSize,
        modules: Vec<(String, Arc<AdapterSlot>)>,
        parameters: Vec<Var>,
    ) -> Self {
        let by_id = parameters.iter().enumerate().map(|(i, var)| (var.id(), i)).collect();
        Self { size, modules, parameters, by_id }
    }

    /// Rank and alpha.
    pub fn size(&self) -> AdapterSize {
        self.size
    }

    /// A and B of each module in turn.
    pub fn parameters(&self) -> &[Var] {
        &self.parameters
    }

    /// The parameters' names in the finished file, in their order.
    pub fn names(&self) -> Vec<String> {
        self.modules.iter().flat_map(|(module, _)| tensor_names(module)).collect()
    }

    /// The parameter that has `id`.
    pub(crate) fn index_of(&self, id: TensorId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Puts the parameters beside their layers, so that gradients flow into them.
    pub fn attach(&self) {
        self.put(self.parameters.iter().map(|var| var.as_tensor().clone()));
    }

    /// Puts `values`, in the parameters' order, beside the layers, without gradients, in the model's `dtype`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn attach_values(&self, values: &[Tensor], dtype: DType) -> Result<()> {
        let values = values.iter().map(|value| value.detach().to_dtype(dtype));
        self.put(values.collect::<candle_core::Result<Vec<_>>>()?.into_iter());
        Ok(())
    }

    /// Takes the adapter off the layers.
    pub fn detach(&self) {
        for (_, slot) in &self.modules {
            slot.set(Vec::<LoraBranch>::new());
        }
    }

    fn put(&self, mut values: impl Iterator<Item = Tensor>) {
        let scale = self.size.alpha / self.size.rank as f64;
        for (_, slot) in &self.modules {
            if let (Some(down), Some(up)) = (values.next(), values.next()) {
                slot.set(vec![LoraBranch { down, up, scale }]);
            }
        }
    }
}

/// The names of A and B in diffusers' convention.
fn tensor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|part| format!("transformer.{module}.lora_{part}.weight"))
}

fn chosen(
    slots: &BTreeMap<String, Arc<AdapterSlot>>,
    targets: Targets,
) -> Result<Vec<(String, Arc<AdapterSlot>)>> {
    let chosen: Vec<_> = slots
        .iter()
        .filter(|(module, slot)| slot.is_linear() && targets.include(module))
        .map(|(module, slot)| (module.clone(), slot.clone()))
        .collect();
    if chosen.is_empty() {
        return Err(Error::invalid("targets", targets, "matches no layer of this model"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(module: &str, attention: bool, all_linear: bool) {
        assert_eq!(Targets::Attention.include(module), attention, "{module}");
        assert_eq!(Targets::AllLinear.include(module), all_linear, "{module}");
    }

    #[test]
    fn targets_lie_within_the_blocks() {
        check("transformer_blocks.0.attn.to_q", true, true);
        check("transformer_blocks.11.attn.to_out.0", true, true);
        check("single_transformer_blocks.3.attn.to_v", true, true);
        check("transformer_blocks.0.ff.net.2", false, true);
        check("single_transformer_blocks.3.norm.linear", false, true);
        check("single_transformer_blocks.3.proj_out", false, true);
        check("proj_out", false, false);
        check("norm_out.linear", false, false);
        check("time_text_embed.timestep_embedder.linear_1", false, false);
    }
}
