//! LoRA that were used lately: read and hashed once, with the branches that were made for the base model, so that the
//! next job with the same ones only points to them.

use std::path::Path;
use std::sync::Arc;

use masuka_diffusion::adapters::LoraAdapter;
use masuka_diffusion::pictures::{FileHashes, hash_safetensors};
use masuka_storage::entities::lora_model;

use crate::failure::Ending;

/// The most that is kept, in bytes of files; about as much again is taken by what computes in the layers.
const MAX_BYTES: u64 = 2 << 30;

/// A LoRA in memory.
#[derive(Debug, Clone)]
pub(crate) struct OpenLora {
    pub(crate) adapter: Arc<LoraAdapter>,
    /// What other programs know the file by.
    pub(crate) autov3: String,
}

struct Kept {
    sha256: String,
    bytes: u64,
    lora: OpenLora,
}

/// The LoRA in memory, the last used last.
#[derive(Default)]
pub(crate) struct LoraCache {
    kept: Vec<Kept>,
    loads: u64,
}

impl LoraCache {
    /// The LoRA with the content of `sha256`, if it was used lately.
    pub(crate) fn find(&mut self, sha256: &str) -> Option<OpenLora> {
        let place = self.kept.iter().position(|kept| kept.sha256 == sha256)?;
        let kept = self.kept.remove(place);
        let lora = kept.lora.clone();
        self.kept.push(kept);
        Some(lora)
    }

    /// Reads the LoRA `model` from `file`, checks that it is what was stored, and keeps it.
    pub(crate) fn open(
        &mut self,
        model: &lora_model::Model,
        file: &Path,
    ) -> Result<OpenLora, Ending> {
        let FileHashes { sha256, autov3 } = hash_safetensors(file)?;
        if sha256 != model.sha256 {
            let message = format!(
                "the file of LoRA `{}` is damaged: its sha256 is {sha256}, not {}; import it again",
                model.name, model.sha256
            );
            return Err(Ending::failed("file_damaged", message));
        }
        let lora = OpenLora { adapter: Arc::new(LoraAdapter::open(file)?), autov3 };
        self.loads += 1;
        self.keep(Kept { sha256, bytes: model.bytes.unsigned_abs(), lora: lora.clone() });
        Ok(lora)
    }

    fn keep(&mut self, kept: Kept) {
        self.kept.push(kept);
        while self.kept.iter().map(|kept| kept.bytes).sum::<u64>() > MAX_BYTES {
            self.kept.remove(0);
        }
    }

    /// Lets go of all; whether there were any.
    pub(crate) fn clear(&mut self) -> bool {
        let were_any = !self.kept.is_empty();
        self.kept.clear();
        were_any
    }

    /// Lets go of all but those that are `imported`.
    pub(crate) fn keep_only(&mut self, imported: &[lora_model::Model]) {
        self.kept.retain(|kept| imported.iter().any(|model| model.sha256 == kept.sha256));
    }

    /// How often a file was read.
    pub(crate) fn loads(&self) -> u64 {
        self.loads
    }
}

#[cfg(test)]
mod tests {
    use masuka_diffusion::adapters::Updates;

    use super::*;

    fn keep(cache: &mut LoraCache, sha256: &str, bytes: u64) {
        let adapter = Arc::new(LoraAdapter::from_updates(Path::new("x"), Updates::new()));
        let lora = OpenLora { adapter, autov3: String::new() };
        cache.keep(Kept { sha256: sha256.into(), bytes, lora });
    }

    fn kept(cache: &LoraCache) -> Vec<&str> {
        cache.kept.iter().map(|kept| kept.sha256.as_str()).collect()
    }

    #[test]
    fn who_was_not_used_for_longest_leaves_first() {
        let mut cache = LoraCache::default();
        keep(&mut cache, "a", MAX_BYTES / 2);
        keep(&mut cache, "b", MAX_BYTES / 2);
        assert!(cache.find("a").is_some() && cache.find("c").is_none());
        keep(&mut cache, "c", MAX_BYTES / 2);
        assert_eq!(kept(&cache), ["a", "c"]);
        keep(&mut cache, "larger than all", MAX_BYTES + 1);
        assert_eq!(kept(&cache), [""; 0]);
    }
}
