//! What the hub says a model consists of, and which of that is needed.

use serde::Deserialize;

use super::HubModel;
use crate::error::{Error, Result};

/// The folders of a model in diffusers' layout that are needed to draw with it.
const PARTS: [&str; 7] = [
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "transformer",
    "vae",
];
const EXTENSIONS: [&str; 4] = ["json", "model", "safetensors", "txt"];
const INDEX: &str = "model_index.json";

/// What the hub says about a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    pub(super) sha: String,
    pub(super) siblings: Vec<Sibling>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(rename = "blobId")]
    pub(super) blob_id: Option<String>,
    pub(super) lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Lfs {
    pub(super) sha256: String,
}

impl Sibling {
    /// The name of its blob: the sha256 of large files, git's own of small ones.
    pub(super) fn id(&self) -> Result<&str> {
        let id = self.lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(self.blob_id.as_deref());
        let fits = |id: &&str| !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit());
        id.filter(fits).ok_or_else(|| Error::download(&self.rfilename, "the hub gives it no hash"))
    }

    /// Whether its name stays within the snapshot.
    fn is_safe(&self) -> bool {
        self.rfilename.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    }
}

/// The files of a model that are needed.
pub(super) fn choose(model: &HubModel, siblings: Vec<Sibling>) -> Result<Vec<Sibling>> {
    let siblings: Vec<_> = siblings.into_iter().filter(Sibling::is_safe).collect();
    let names: Vec<_> = siblings.iter().map(|file| file.rfilename.clone()).collect();
    if let Some(wanted) = &model.file {
        let found: Vec<_> = siblings.into_iter().filter(|file| file.rfilename == *wanted).collect();
        return match found.is_empty() {
            true => Err(Error::download(&model.repo, format!("it has no file `{wanted}`"))),
            false => Ok(found),
        };
    }
    if !names.iter().any(|name| name == INDEX) {
        let single =
            names.iter().find(|name| [".safetensors", ".gguf"].iter().any(|e| name.ends_with(e)));
        let example =
            single.map_or(String::new(), |file| format!(", such as `{}:{file}`", model.repo));
        let reason = format!("it is not in diffusers' layout; name one of its files{example}");
        return Err(Error::download(&model.repo, reason));
    }
    Ok(siblings.into_iter().filter(|file| is_needed(&file.rfilename, &names)).collect())
}

fn is_needed(name: &str, names: &[String]) -> bool {
    let Some((folder, file)) = name.split_once('/') else { return name == INDEX };
    let extension = file.rsplit('.').next().unwrap_or_default();
    if !PARTS.contains(&folder) || !EXTENSIONS.contains(&extension) {
        return false;
    }
    // `model.fp16.safetensors` beside `model.safetensors` is the same in other numbers.
    let mut parts = file.split('.');
    let plain = parts.next().map(|stem| format!("{folder}/{stem}.{extension}"));
    let is_variant = parts.count() > 1 && extension == "safetensors";
    !(is_variant && plain.is_some_and(|plain| names.contains(&plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_drawn_with_is_fetched() {
        let all = [
            "README.md",
            "flux1-dev.safetensors",
            "model_index.json",
            "transformer/config.json",
            "transformer/model-00001-of-00002.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer_2/spiece.model",
            "safety_checker/x.json",
        ];
        let names: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
        let needed: Vec<_> = all.into_iter().filter(|name| is_needed(name, &names)).collect();
        assert_eq!(
            needed,
            [
                "model_index.json",
                "transformer/config.json",
                "transformer/model-00001-of-00002.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
                "text_encoder/model.fp16.safetensors",
                "tokenizer/merges.txt",
                "tokenizer_2/spiece.model",
            ]
        );
    }
}
