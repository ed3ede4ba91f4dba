//! Alpha values that stand beside the tensors: in the header, where diffusers writes `lora_adapter_metadata`, a JSON
//! text of PEFT configurations; or in the `adapter_config.json` that PEFT writes into the same folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::Target;
use crate::error::{Error, Result};
use crate::weights::safetensors_file::SafetensorsFile;

/// The header's entry.
pub(in crate::adapters) const HEADER_KEY: &str = "lora_adapter_metadata";
const PEFT_FILE: &str = "adapter_config.json";

/// What PEFT was told, by component.
#[derive(Debug, Default)]
pub struct Configurations {
    by_target: BTreeMap<Target, Configuration>,
    /// Of PEFT's own checkpoints, which are of one component and do not say which.
    any: Option<Configuration>,
}

#[derive(Debug, Default)]
struct Configuration {
    alpha: Option<f64>,
    by_pattern: BTreeMap<String, f64>,
    /// The update is scaled by alpha / √rank (arXiv:2312.03732).
    rank_stabilised: bool,
}

/// What a configuration says of one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerConfiguration {
    /// Alpha, where it is given.
    pub alpha: Option<f64>,
    /// Whether the update is scaled by alpha / √rank.
    pub rank_stabilised: bool,
}

impl Configurations {
    /// Reads the header of `file`; a file without the entry has none.
    ///
    /// # Errors
    /// When the entry is there and no JSON object.
    pub fn of_header(file: &SafetensorsFile) -> Result<Self> {
        let Some(text) = file.metadata(HEADER_KEY) else { return Ok(Self::default()) };
        let Ok(Value::Object(entries)) = serde_json::from_str(text) else {
            let message = format!("the header's `{HEADER_KEY}` is no JSON object");
            return Err(Error::model(file.path().display(), message));
        };
        let mut by_target: BTreeMap<Target, Configuration> = BTreeMap::new();
        for (key, value) in &entries {
            let Some((component, field)) = key.split_once('.') else { continue };
            let Some(target) = target_of(component) else { continue };
            by_target.entry(target).or_default().set(field, value);
        }
        Ok(Self { by_target, any: None })
    }

    /// Reads PEFT's file in the folder of `adapter`, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read or is no JSON object.
    pub fn beside(adapter: &Path) -> Result<Self> {
        let path = adapter.with_file_name(PEFT_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::io(path, e)),
        };
        let entries: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|e| Error::model(path.display(), format!("is no JSON object: {e}")))?;
        let mut any = Configuration::default();
        entries.iter().for_each(|(field, value)| any.set(field, value));
        Ok(Self { by_target: BTreeMap::new(), any: Some(any) })
    }

    /// What is said of `layer`.
    pub fn layer(&self, target: Target, layer: &str) -> LayerConfiguration {
        let configuration = self.by_target.get(&target).or(self.any.as_ref());
        configuration.map_or_else(LayerConfiguration::default, |c| LayerConfiguration {
            alpha: c.alpha_of(layer),
            rank_stabilised: c.rank_stabilised,
        })
    }
}

impl Configuration {
    fn set(&mut self, field: &str, value: &Value) {
        match (field, value) {
            ("lora_alpha", value) => self.alpha = value.as_f64(),
            ("use_rslora", Value::Bool(value)) => self.rank_stabilised = *value,
            ("alpha_pattern", Value::Object(patterns)) => {
                let numbers = patterns.iter().filter_map(|(k, v)| Some((literal(k), v.as_f64()?)));
                self.by_pattern = numbers.collect();
            }
            _ => {}
        }
    }

    /// As in PEFT, a pattern is a layer's name or its tail; with an anchor, its name.
    fn alpha_of(&self, layer: &str) -> Option<f64> {
        let fits = |pattern: &str| match pattern.strip_prefix('^') {
            Some(name) => layer == name,
            None => {
                let rest = layer.strip_suffix(pattern);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        };
        let pattern = self.by_pattern.iter().find(|(pattern, _)| fits(pattern));
        pattern.map(|(_, alpha)| *alpha).or(self.alpha)
    }
}

/// Patterns are regular expressions; those in files are names with anchors and escaped dots at most.
fn literal(pattern: &str) -> String {
    pattern.strip_suffix('$').unwrap_or(pattern).replace("\\.", ".")
}

fn target_of(component: &str) -> Option<Target> {
    match component {
        "transformer" => Some(Target::Transformer),
        "text_encoder" => Some(Target::TextEncoder),
        "text_encoder_2" => Some(Target::TextEncoder2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_tail_of_a_name_and_beats_the_general_alpha() {
        let mut configuration = Configuration::default();
        configuration.set("lora_alpha", &16.into());
        let patterns = serde_json::json!({ "^blocks\\.0\\.to_q$": 4, "to_k": 2.5 });
        configuration.set("alpha_pattern", &patterns);
        let check =
            |layer, alpha| assert_eq!(configuration.alpha_of(layer), Some(alpha), "{layer}");
        check("blocks.0.to_q", 4.0);
        check("blocks.1.to_q", 16.0);
        check("blocks.1.to_k", 2.5);
        check("blocks.1.not_to_k", 16.0);
        check("more.blocks.0.to_q", 16.0);
    }
}
