//! The finished adapter: a safetensors file in diffusers' names, with what it was made from in its header.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::recipe::Recipe;

/// What a finished adapter tells of itself.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The base model's name.
    pub base_model: String,
    /// The name of the pictures' folder.
    pub dataset: String,
    /// How many pictures there were.
    pub pictures: usize,
    /// The smoothed loss at the end.
    pub loss: f64,
    /// What wrote it: name and version.
    pub software: String,
}

/// Checks the adapter's tensors and writes them to `path`.
///
/// # Errors
/// [`Error::BadAdapter`] when a value is not a number or the adapter has no effect at all; or when the disk refuses.
pub fn write(
    path: &Path,
    names: &[String],
    values: &[Tensor],
    recipe: &Recipe,
    provenance: &Provenance,
) -> Result<()> {
    let tensors = names.iter().zip(values).map(|(name, value)| {
        let value = value.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        Ok((name.clone(), value))
    });
    let tensors = tensors.collect::<candle_core::Result<Vec<_>>>()?;
    check(&tensors)?;
    let header = header(names, recipe, provenance)?;
    let bytes = safetensors::serialize(tensors, Some(header)).map_err(candle_core::Error::wrap)?;
    write_atomically(path, &bytes)
}

fn check(tensors: &[(String, Tensor)]) -> Result<()> {
    let mut has_effect = false;
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bad =
            |message: &str| Error::BadAdapter { tensor: name.clone(), message: message.to_owned() };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(bad("holds values that are not numbers; lower the learning rate"));
        }
        let is_zero = values.iter().all(|value| *value == 0.0);
        if name.ends_with("lora_A.weight") && is_zero {
            return Err(bad("is all zero"));
        }
        has_effect |= name.ends_with("lora_B.weight") && !is_zero;
    }
    match tensors.iter().find(|(name, _)| name.ends_with("lora_B.weight")) {
        Some((name, _)) if !has_effect => {
            let message = "is all zero, as are all others: nothing was learned";
            Err(Error::BadAdapter { tensor: name.clone(), message: message.to_owned() })
        }
        _ => Ok(()),
    }
}

fn header(
    names: &[String],
    recipe: &Recipe,
    provenance: &Provenance,
) -> Result<HashMap<String, String>> {
    let modules = names.iter().filter_map(|name| {
        name.strip_prefix("transformer.")?.strip_suffix(".lora_A.weight").map(str::to_owned)
    });
    // What diffusers makes its `LoraConfig` of; without it alpha would be taken for the rank.
    let peft = json!({
        "transformer.r": recipe.size.rank,
        "transformer.lora_alpha": recipe.size.alpha,
        "transformer.target_modules": modules.collect::<Vec<_>>(),
    });
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let recipe_json = serde_json::to_value(recipe).map_err(candle_core::Error::wrap)?;
    let entries = [
        ("format", json!("pt")),
        ("lora_adapter_metadata", json!(peft.to_string())),
        ("trigger_word", json!(recipe.trigger.clone().unwrap_or_default())),
        ("base_model", json!(provenance.base_model)),
        ("rank", json!(recipe.size.rank)),
        ("alpha", json!(recipe.size.alpha)),
        ("dataset", json!(provenance.dataset)),
        ("dataset_pictures", json!(provenance.pictures)),
        ("training_parameters", recipe_json),
        ("final_loss", json!(provenance.loss)),
        ("software", json!(provenance.software)),
    ];
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect())
}
