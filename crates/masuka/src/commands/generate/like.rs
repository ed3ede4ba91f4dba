//! What an older picture asks for.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use masuka_diffusion::pictures::{LoraUse, Parameters, hash_safetensors, read_png};

use super::wishes::Wishes;
use crate::cli::{GenerateArgs, LoraArg};
use crate::environment::Environment;

/// Reads the picture at `path`. What the flags give anyway is not looked at, so that it cannot fail.
pub fn wishes_of(
    path: &Path,
    args: &GenerateArgs,
    environment: &Environment,
) -> anyhow::Result<Wishes> {
    let Some(parameters) = read_png(path)?.parameters else {
        bail!(
            "`{}` does not say how it was made; messengers and editors remove that",
            path.display()
        );
    };
    let folders = lora_folders(path, environment);
    let loras: &[LoraUse] = if args.loras.is_empty() { &parameters.loras } else { &[] };
    let loras =
        loras.iter().map(|lora| find_lora(lora, &folders)).collect::<anyhow::Result<_>>()?;
    let sampler = if args.sampler.is_none() { known_sampler(&parameters, path)? } else { None };
    Ok(Wishes {
        prompt: parameters.prompt,
        negative: parameters.negative,
        true_cfg: parameters.true_cfg,
        seed: parameters.seed,
        steps: parameters.steps,
        sampler,
        guidance: parameters.guidance,
        width: parameters.width,
        height: parameters.height,
        precision: parameters.dtype.and_then(|dtype| dtype.parse().ok()),
        loras,
        num_images: 1,
        made_with: parameters.model,
    })
}

fn known_sampler(
    parameters: &Parameters,
    path: &Path,
) -> anyhow::Result<Option<masuka_diffusion::pipelines::SamplerName>> {
    let sampler = parameters.sampler.as_deref().map(str::parse).transpose();
    sampler.with_context(|| format!("`{}`; choose another with --sampler", path.display()))
}

/// Pictures name LoRA files without their folder; these are the folders where they are looked for.
fn lora_folders(picture: &Path, environment: &Environment) -> Vec<PathBuf> {
    let beside = picture.parent().unwrap_or(Path::new("")).to_owned();
    vec![PathBuf::new(), beside, environment.data_dir().join("loras")]
}

fn find_lora(lora: &LoraUse, folders: &[PathBuf]) -> anyhow::Result<LoraArg> {
    let file_name = Path::new(&lora.file).file_name().unwrap_or_default();
    let found = folders.iter().map(|folder| folder.join(file_name)).filter(|path| path.is_file());
    let mut other = None;
    for file in found {
        let hashes = hash_safetensors(&file)?;
        let same = match (&lora.sha256, &lora.autov3) {
            (Some(sha256), _) => *sha256 == hashes.sha256,
            (None, Some(autov3)) => *autov3 == hashes.autov3,
            (None, None) => true,
        };
        if same {
            return Ok(LoraArg { file, weight: lora.weight });
        }
        other = Some(file);
    }
    let remedy = format!("give it as --lora FILE:{}", lora.weight);
    Err(match other {
        Some(file) => anyhow!(
            "`{}` is not the LoRA of the same name that the picture was made with; {remedy}",
            file.display()
        ),
        None => anyhow!("the picture's LoRA `{}` was not found; {remedy}", lora.file),
    })
}
