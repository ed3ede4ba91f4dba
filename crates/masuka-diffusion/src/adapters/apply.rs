//! Putting chosen adapters into the slots of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::{AdapterSlot, LoraAdapter, LoraBranch, Target};
use crate::error::{Error, Result};

/// An adapter with the weight that the user gave it.
#[derive(Debug, Clone)]
pub struct ChosenAdapter {
    /// The adapter.
    pub adapter: Arc<LoraAdapter>,
    /// Its weight, −2…2.
    pub weight: f64,
    /// Whether tensors that fit nowhere are tolerated.
    pub allow_partial: bool,
}

/// What became of the tensors of a LoRA file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorCounts {
    /// In effect.
    pub applied: usize,
    /// Known to be of no effect.
    pub ignored: usize,
    /// Of unknown name or for a module that the model lacks.
    pub unknown: usize,
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

    /// Counts what of this adapter fits the slots of all targets, and refuses what does not.
    ///
    /// # Errors
    /// When a shape does not fit, or tensors are unknown and not tolerated.
    pub fn check(
        &self,
        slots: &dyn Fn(Target, &str) -> Option<Arc<AdapterSlot>>,
    ) -> Result<TensorCounts> {
        let adapter = &self.adapter;
        let mut counts = TensorCounts {
            ignored: adapter.ignored().len(),
            unknown: adapter.unknown().len(),
            ..TensorCounts::default()
        };
        let mut first_unknown = adapter.unknown().first().cloned();
        for ((target, module), update) in adapter.updates() {
            if let Some(slot) = slots(*target, module) {
                check_shape(adapter, module, update, &slot)?;
                counts.applied += update.tensors;
            } else {
                counts.unknown += update.tensors;
                first_unknown.get_or_insert_with(|| update.tensor.clone());
            }
        }
        match first_unknown {
            Some(first) if !self.allow_partial || counts.applied == 0 => {
                let (file, count) = (adapter.path().display().to_string(), counts.unknown);
                Err(Error::UnknownTensors { count, first, file })
            }
            _ => Ok(counts),
        }
    }
}

fn check_shape(
    adapter: &LoraAdapter,
    module: &str,
    update: &super::LoraUpdate,
    slot: &AdapterSlot,
) -> Result<()> {
    let found = (update.down.dims2()?.1, update.up.dims2()?.0);
    let expected = (slot.in_features(), slot.out_features());
    if found == expected {
        return Ok(());
    }
    let message = format!(
        "`{module}` is adapted from {} to {} channels, the base model's has {} to {}; \
         was this LoRA trained on another base model?",
        found.0, found.1, expected.0, expected.1
    );
    Err(Error::model(adapter.path().display(), message))
}

/// Fills `slots`, those of `target`, with the branches of all `chosen` adapters; the others' are emptied.
///
/// # Errors
/// When a branch cannot be copied to `device`.
pub fn apply(
    slots: &BTreeMap<String, Arc<AdapterSlot>>,
    target: Target,
    chosen: &[ChosenAdapter],
    dtype: DType,
    device: &Device,
) -> Result<()> {
    for (module, slot) in slots {
        let key = (target, module.clone());
        let mut branches = Vec::new();
        for choice in chosen.iter().filter(|choice| choice.weight != 0.0) {
            let Some(update) = choice.adapter.updates().get(&key) else { continue };
            branches.push(LoraBranch {
                down: update.down.to_device(device)?.to_dtype(dtype)?,
                up: update.up.to_device(device)?.to_dtype(dtype)?,
                scale: choice.weight * update.alpha / update.rank()? as f64,
            });
        }
        slot.set(branches);
    }
    Ok(())
}
