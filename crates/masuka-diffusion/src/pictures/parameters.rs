//! Everything needed to make a picture again, as JSON. Our own pictures hold every field; those of other tools
//! may tell less, so that only the prompt is certain.

use serde::{Deserialize, Serialize};

/// How a picture was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// What should be seen.
    pub prompt: String,
    /// What should not be seen; used when `true_cfg` is above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// The scale of true classifier-free guidance; 1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub true_cfg: Option<f64>,
    /// The seed of this very picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Sampler steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// The sampler's name in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// The value fed to the distilled guidance embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Pixels from left to right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Pixels from top to bottom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// The base model's name: its folder or file, without path and extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The precision of the weights, `f32` or `bf16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The adapters, in the order in which they were given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraUse>,
    /// The program and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One adapter of a picture.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraUse {
    /// The file's name, without its folder: pictures are shared, home folders are not.
    pub file: String,
    /// How strongly it was applied.
    pub weight: f64,
    /// SHA-256 of the whole file, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The first 12 digits of the SHA-256 of the tensor data, by which other tools and model sites know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autov3: Option<String>,
}

impl LoraUse {
    /// The file's name without `.safetensors`.
    pub fn name(&self) -> &str {
        self.file.strip_suffix(".safetensors").unwrap_or(&self.file)
    }
}
