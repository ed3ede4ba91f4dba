//! The starter model is part of the binary. Where a model must lie in files, it is unpacked once into the data folder
//! and checked, byte for byte, each time it is used.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::environment::Environment;
use crate::files::write_atomically;

/// The name by which a user asks for it.
pub const NAME: &str = masuka_storage::base_models::STARTER;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../models/starter/", $name)))),*]
    };
}

/// Every file of `models/starter/` but its recipe.
const FILES: &[(&str, &[u8])] = files![
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/special_tokens_map.json",
    "tokenizer_2/tokenizer.json",
    "tokenizer_2/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Where it is unpacked.
pub fn folder(environment: &Environment) -> PathBuf {
    environment.data_dir().join("models").join(NAME)
}

/// Whether all its files lie there; another process may be unpacking them.
pub fn is_unpacked(environment: &Environment) -> bool {
    let folder = folder(environment);
    let is_there = |(name, content): &(&str, &[u8])| {
        let file = folder.join(name).metadata();
        file.is_ok_and(|file| file.len() == content.len() as u64)
    };
    FILES.iter().all(is_there)
}

/// Makes sure that it lies complete and unchanged in the data folder, and says where.
pub fn unpack(environment: &Environment) -> anyhow::Result<PathBuf> {
    let folder = folder(environment);
    unpack_into(&folder).with_context(|| {
        format!(
            "cannot unpack the starter model into `{}`; set MASUKA_DATA_DIR to a folder that can \
             be written, or choose another model with --model",
            folder.display()
        )
    })?;
    Ok(folder)
}

/// Each file is written under a temporary name and renamed, so that two processes may do this at once.
fn unpack_into(folder: &Path) -> anyhow::Result<()> {
    for (name, content) in FILES {
        let path = folder.join(name);
        if !holds(&path, content).unwrap_or(false) {
            write_atomically(&path, content)?;
        }
    }
    Ok(())
}

fn holds(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    if file.metadata()?.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; 1 << 18];
    for expected in content.chunks(buffer.len()) {
        let read = &mut buffer[..expected.len()];
        file.read_exact(read)?;
        if read != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_model_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    found.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found.retain(|name| !name.starts_with("recipe/"));
        found.sort();
        let mut embedded: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        embedded.sort();
        assert_eq!(embedded, found);
    }

    #[test]
    fn damaged_and_missing_files_are_put_right() {
        let folder = tempfile::tempdir().unwrap();
        unpack_into(folder.path()).unwrap();
        let damaged = folder.path().join("vae/config.json");
        let missing = folder.path().join("tokenizer/vocab.json");
        let expected = [fs::read(&damaged).unwrap(), fs::read(&missing).unwrap()];
        let mut bytes = expected[0].clone();
        bytes[3] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        fs::remove_file(&missing).unwrap();
        unpack_into(folder.path()).unwrap();
        assert_eq!([fs::read(&damaged).unwrap(), fs::read(&missing).unwrap()], expected);
        let names = fs::read_dir(folder.path().join("vae")).unwrap().count();
        assert_eq!(names, 2, "a temporary file was left");
    }
}
