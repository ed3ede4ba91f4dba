//! Putting chosen adapters into the slots of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::dora::BaseLayers;
use super::{AdapterSlot, Branch, LoraAdapter, LoraUpdate, Target};
use crate::error::{Error, Result};

/// An adapter with the weight that the user gave it.
#[derive(Debug, Clone)]
pub struct ChosenAdapter {
    /// The adapter.
    pub adapter: Arc<LoraAdapter>,
    /// Its weight, −2…2.
    pub weight: f64,
    /// Whether tensors that fit nowhere or do nothing are tolerated.
    pub allow_partial: bool,
}

/// What became of the tensors of a LoRA file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorCounts {
    /// In effect.
    pub applied: usize,
    /// Known to be of no effect.
    pub ignored: usize,
    /// Of unknown name or for a layer that the model lacks.
    pub unknown: usize,
}

/// How an adapter fits a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// What becomes of its tensors.
    pub counts: TensorCounts,
    /// The first tensor of unknown name, else the first module for a layer that the model lacks.
    pub first_unknown: Option<String>,
}

/// The (out, in) of a layer, if the model has it.
pub type ShapeOf<'a> = dyn Fn(Target, &str) -> Option<(usize, usize)> + 'a;

/// The slots of a component by layer.
pub(super) type Slots = BTreeMap<String, Arc<AdapterSlot>>;

/// Where adapters go.
pub struct Host<'a> {
    /// The dtype of activations.
    pub dtype: DType,
    /// Where the model computes.
    pub device: &'a Device,
    /// Which model it is, in which precision.
    pub name: &'a str,
    /// Its weights, for norms.
    pub base: &'a dyn BaseLayers,
}

impl ChosenAdapter {
    /// Checks the weight's range.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is outside −2…2.
    pub fn validate(&self) -> Result<()> {
        if (-2.0..=2.0).contains(&self.weight) {
            return Ok(());
        }
        Err(Error::invalid("lora_weight", self.weight, "is not within -2 and 2"))
    }

    /// Counts what of this adapter fits the layers, whose (out, in) `shape_of` knows, and refuses what does not.
    ///
    /// # Errors
    /// When a shape does not fit, or tensors are unknown or zero and not tolerated.
    pub fn check(&self, shape_of: &ShapeOf<'_>) -> Result<TensorCounts> {
        let adapter = &self.adapter;
        let Fit { counts, first_unknown } = adapter.fit(shape_of)?;
        let file = adapter.path().display().to_string();
        match (first_unknown, adapter.zero().first()) {
            (Some(first), _) if !self.allow_partial || counts.applied == 0 => {
                let message = format!(
                    "{} of its tensors are for nothing that the base model has, the first is `{first}`; was it trained on \
                     another base model? `--allow-partial` (`allow_partial` on import) uses the rest, if there is any",
                    counts.unknown
                );
                Err(Error::model(file, message))
            }
            (_, Some(first)) if !self.allow_partial => {
                let message = format!(
                    "`{first}` belongs to an update that is zero everywhere, {} tensors do; was the training broken \
                     off? what is left can be used if partial adapters are allowed",
                    adapter.zero().len()
                );
                Err(Error::model(file, message))
            }
            _ => Ok(counts),
        }
    }
}

impl LoraAdapter {
    /// How the adapter fits the layers, whose (out, in) `shape_of` knows.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn fit(&self, shape_of: &ShapeOf<'_>) -> Result<Fit> {
        let mut counts = TensorCounts {
            ignored: self.ignored().len() + self.zero().len(),
            unknown: self.unknown().len(),
            ..TensorCounts::default()
        };
        let mut first_unknown = self.unknown().first().cloned();
        for ((target, layer), update) in self.updates() {
            if let Some(shape) = shape_of(*target, layer) {
                check_shape(self, layer, update, shape)?;
                counts.applied += update.tensors;
            } else {
                counts.unknown += update.tensors;
                first_unknown.get_or_insert_with(|| update.module.clone());
            }
        }
        Ok(Fit { counts, first_unknown })
    }
}

fn check_shape(
    adapter: &LoraAdapter,
    layer: &str,
    update: &LoraUpdate,
    expected: (usize, usize),
) -> Result<()> {
    let found = match (update.shape()?, &update.bias) {
        (Some(found), _) => found,
        (None, bias) => (bias.as_ref().map_or(0, candle_core::Tensor::elem_count), expected.1),
    };
    if found == expected {
        return Ok(());
    }
    let message = format!(
        "{}: `{layer}` of the base model is {} × {}; was this LoRA trained on another base model?",
        update.origin.misfit(found, expected),
        expected.0,
        expected.1
    );
    Err(Error::model(adapter.path().display(), message))
}

/// Fills `slots`, those of `target`, with the branches of all `chosen` adapters; the others' are emptied. Adapters
/// that were in `host` before are only pointed to.
///
/// # Errors
/// When a branch cannot be copied to the device, or a base weight cannot be read.
pub fn apply(
    slots: &Slots,
    target: Target,
    chosen: &[ChosenAdapter],
    host: &Host<'_>,
) -> Result<()> {
    let active = chosen.iter().filter(|choice| choice.weight != 0.0);
    let active = active
        .map(|choice| Ok((choice.weight, choice.adapter.branches_in(target, slots, host)?)))
        .collect::<Result<Vec<_>>>()?;
    for (layer, slot) in slots {
        let branches = active.iter().filter_map(|(weight, branches)| {
            branches.get(layer).map(|branch| branch.weighted(*weight))
        });
        slot.set(branches.collect::<Vec<Branch>>());
    }
    Ok(())
}
