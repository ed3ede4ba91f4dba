//! Alpha values in a file's header: diffusers writes `lora_adapter_metadata`, a JSON text of PEFT configurations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Target;
use crate::error::{Error, Result};
use crate::weights::safetensors_file::SafetensorsFile;

const KEY: &str = "lora_adapter_metadata";

/// Alpha by component, with exceptions by module.
#[derive(Debug, Default)]
pub struct MetadataAlphas {
    alphas: BTreeMap<Target, ComponentAlphas>,
}

#[derive(Debug, Default)]
struct ComponentAlphas {
    alpha: Option<f64>,
    by_pattern: BTreeMap<String, f64>,
}

impl MetadataAlphas {
    /// Reads the header of `file`; a file without the entry has no alphas.
    ///
    /// # Errors
    /// When the entry is there and no JSON object.
    pub fn read(file: &SafetensorsFile) -> Result<Self> {
        let Some(text) = file.metadata(KEY) else { return Ok(Self::default()) };
        let Ok(Value::Object(entries)) = serde_json::from_str(text) else {
            let message = format!("the header's `{KEY}` is no JSON object");
            return Err(Error::model(file.path().display(), message));
        };
        let mut alphas: BTreeMap<Target, ComponentAlphas> = BTreeMap::new();
        for (key, value) in &entries {
            let Some((component, field)) = key.split_once('.') else { continue };
            let Some(target) = target_of(component) else { continue };
            let component = alphas.entry(target).or_default();
            match (field, value) {
                ("lora_alpha", value) => component.alpha = value.as_f64(),
                ("alpha_pattern", Value::Object(patterns)) => {
                    let numbers =
                        patterns.iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?)));
                    component.by_pattern = numbers.collect();
                }
                _ => {}
            }
        }
        Ok(Self { alphas })
    }

    /// The alpha of `module`, if the header gives one. As in PEFT, a pattern is a module's name or its tail.
    pub fn of(&self, target: Target, module: &str) -> Option<f64> {
        let component = self.alphas.get(&target)?;
        let pattern = component.by_pattern.iter().find(|(pattern, _)| {
            module.strip_suffix(pattern.as_str()).is_some_and(|r| r.is_empty() || r.ends_with('.'))
        });
        pattern.map(|(_, alpha)| *alpha).or(component.alpha)
    }
}

fn target_of(component: &str) -> Option<Target> {
    match component {
        "transformer" => Some(Target::Transformer),
        "text_encoder" => Some(Target::TextEncoder),
        "text_encoder_2" => Some(Target::TextEncoder2),
        _ => None,
    }
}
