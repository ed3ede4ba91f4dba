//! Which model is meant: the one of the command line, else of the environment, else the starter model.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::cli::ModelArgs;
use crate::environment::Environment;
use crate::starter;

/// The files of a model, as the user named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFiles {
    /// A folder in the layout of diffusers, or the transformer in one file.
    pub model: PathBuf,
    /// The autoencoder, if it is elsewhere.
    pub vae: Option<PathBuf>,
    /// CLIP, if it is elsewhere.
    pub text_encoder: Option<PathBuf>,
    /// T5, if it is elsewhere.
    pub text_encoder_2: Option<PathBuf>,
    /// CLIP's tokenizer, if it is elsewhere.
    pub tokenizer: Option<PathBuf>,
    /// T5's tokenizer, if it is elsewhere.
    pub tokenizer_2: Option<PathBuf>,
    /// A folder in the layout of diffusers that gives every part that is not named.
    pub base: Option<PathBuf>,
}

impl ModelFiles {
    /// The files that are meant by `args`, checked to be there.
    pub fn choose(args: &ModelArgs, environment: &Environment) -> anyhow::Result<Self> {
        let from_environment = environment.base_model.as_ref().map(PathBuf::from);
        let is_set_by = if args.model.is_some() { "--model" } else { "MASUKA_BASE_MODEL" };
        let model = match args.model.clone().or(from_environment) {
            Some(model) => resolve(&model, environment, is_set_by)?,
            None => starter::unpack(environment)?,
        };
        let part = |path: &Option<PathBuf>, flag| {
            path.as_ref().map(|path| resolve(path, environment, flag)).transpose()
        };
        Ok(Self {
            model,
            vae: part(&args.vae, "--vae")?,
            text_encoder: part(&args.text_encoder, "--text-encoder")?,
            text_encoder_2: part(&args.text_encoder_2, "--text-encoder-2")?,
            tokenizer: part(&args.tokenizer, "--tokenizer")?,
            tokenizer_2: part(&args.tokenizer_2, "--tokenizer-2")?,
            base: part(&args.base, "--base")?,
        })
    }

    /// The model's name in pictures: its folder or file without path and extension.
    pub fn name(&self) -> String {
        let path = self.model.canonicalize().unwrap_or_else(|_| self.model.clone());
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// `starter` means the model within, unless something here is called so.
fn resolve(path: &Path, environment: &Environment, is_set_by: &str) -> anyhow::Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    if path == Path::new(starter::NAME) {
        return starter::unpack(environment);
    }
    bail!(
        "`{}` of {is_set_by} does not exist; name a folder in the layout of diffusers, a \
         checkpoint file or `starter`",
        path.display()
    )
}
