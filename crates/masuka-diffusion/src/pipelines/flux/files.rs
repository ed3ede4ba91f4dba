//! Which file gives which part of a FLUX.1 model: a folder in diffusers' layout, single files, or both.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::read_json;
use crate::pipelines::{LoadOptions, Precision};
use crate::samplers::ScheduleConfig;
use crate::transformers::flux::FluxTransformer;
use crate::weights::{Checkpoint, Contents, FromShapes, Part, Shapes, TensorSource, Weights};

/// The pipelines whose parts are those of FLUX.1.
const PIPELINES: [&str; 3] = ["FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"];
const MODEL_INDEX: &str = "model_index.json";

/// The files of a FLUX.1 model. A part that is not named comes from `model`, then from `base`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxFiles {
    /// A folder in diffusers' layout, or the transformer in one file; that file may hold other parts too.
    pub model: PathBuf,
    /// The autoencoder: a folder or a file.
    pub vae: Option<PathBuf>,
    /// CLIP: a folder or a file.
    pub text_encoder: Option<PathBuf>,
    /// T5: a folder or a file.
    pub text_encoder_2: Option<PathBuf>,
    /// CLIP's tokenizer: a folder or a file in it.
    pub tokenizer: Option<PathBuf>,
    /// T5's tokenizer: a folder or a file in it.
    pub tokenizer_2: Option<PathBuf>,
    /// A folder in diffusers' layout that gives what is missing.
    pub base: Option<PathBuf>,
}

/// One of the tokenizers.
#[derive(Debug, Clone, Copy)]
pub(super) enum TokenizerOf {
    Clip,
    T5,
}

/// A part's weights, and its configuration where it comes with one.
struct Located {
    checkpoint: Checkpoint,
    config: Option<PathBuf>,
}

impl FluxFiles {
    /// A model that lies in one place.
    pub fn folder(root: &Path) -> Self {
        Self { model: root.to_owned(), ..Self::default() }
    }

    /// What messages call the model.
    pub(super) fn name(&self) -> String {
        self.model.display().to_string()
    }

    /// Refuses folders of other pipelines.
    pub(super) fn check(&self) -> Result<()> {
        self.roots()
            .map(|root| root.join(MODEL_INDEX))
            .try_for_each(|path| check_model_index(&path))
    }

    /// The weights of `part`, by our names.
    pub(super) fn weights(&self, part: Part, options: &LoadOptions) -> Result<Weights> {
        let source = self.locate(part)?.checkpoint;
        let weights = Weights::new(Box::new(source), options.precision.dtype(), &options.device);
        let is_int8 = part == Part::Transformer && options.precision == Precision::Int8;
        Ok(if is_int8 { weights.with_int8(FluxTransformer::takes_int8) } else { weights })
    }

    /// The configuration of `part`: its own; else that of a neighbour of the same sizes, because some settings have no
    /// shape; else what the shapes tell.
    pub(super) fn config<C: FromShapes>(&self, part: Part) -> Result<C> {
        let Located { checkpoint, config } = self.locate(part)?;
        if let Some(path) = config {
            return C::read(&path);
        }
        let found = C::from_shapes(Shapes(&checkpoint))?;
        let beside = checkpoint.path().parent().map(|folder| folder.join("config.json"));
        let of_roots = self.roots().map(|root| root.join(part.folder()).join("config.json"));
        let neighbours = beside.into_iter().chain(of_roots).filter_map(|path| C::read(&path).ok());
        let mut fitting = neighbours.filter(|config| found.fits(config));
        let config = fitting.next().unwrap_or(found);
        config.validate(&checkpoint.path().display().to_string())?;
        Ok(config)
    }

    /// The folder of a tokenizer.
    pub(super) fn tokenizer(&self, of: TokenizerOf) -> Result<PathBuf> {
        let (named, folder, flag) = match of {
            TokenizerOf::Clip => (&self.tokenizer, "tokenizer", "--tokenizer"),
            TokenizerOf::T5 => (&self.tokenizer_2, "tokenizer_2", "--tokenizer-2"),
        };
        if let Some(path) = named {
            let inner = path.join(folder);
            return Ok(match (inner.is_dir(), path.parent()) {
                (true, _) => inner,
                (false, Some(parent)) if path.is_file() => parent.to_owned(),
                (false, _) => path.clone(),
            });
        }
        let found = self.roots().map(|root| root.join(folder)).find(|path| path.is_dir());
        found.ok_or_else(|| self.absent(&format!("`{folder}`"), flag))
    }

    /// The schedule; where no file gives it, that of FLUX.1-dev or, without guidance embedding, of schnell.
    pub(super) fn schedule(&self, guidance_embeds: bool) -> Result<ScheduleConfig> {
        let paths = self.roots().map(|root| root.join("scheduler/scheduler_config.json"));
        let mut paths = paths.filter(|path| path.exists());
        let Some(path) = paths.next() else {
            return Ok(if guidance_embeds {
                ScheduleConfig::flux_dev()
            } else {
                ScheduleConfig::flux_schnell()
            });
        };
        let schedule: ScheduleConfig = read_json(&path, "a schedule")?;
        schedule.validate(&path.display().to_string())?;
        Ok(schedule)
    }

    fn locate(&self, part: Part) -> Result<Located> {
        if let Some(path) = self.named(part) {
            let inner = path.join(part.folder());
            return if inner.is_dir() { in_folder(&inner, part) } else { given(path, part) };
        }
        if self.model.is_file() {
            let checkpoint = Checkpoint::open(&self.model)?;
            let contents = Contents::of(&checkpoint);
            match contents.part(part, &checkpoint) {
                Some(found) => {
                    refuse_strays(&self.model, &contents, &checkpoint)?;
                    return Ok(Located { checkpoint: found, config: None });
                }
                None if part == Part::Transformer => {
                    return Err(is_another(&self.model, &contents, part));
                }
                None => {}
            }
        }
        let found = self.roots().map(|root| root.join(part.folder())).find(|path| path.is_dir());
        match found {
            Some(folder) => in_folder(&folder, part),
            None => Err(self.absent(&part.to_string(), flag(part))),
        }
    }

    fn named(&self, part: Part) -> Option<&Path> {
        match part {
            Part::Transformer => None,
            Part::Autoencoder => self.vae.as_deref(),
            Part::TextEncoder => self.text_encoder.as_deref(),
            Part::TextEncoder2 => self.text_encoder_2.as_deref(),
        }
    }

    /// The folders in diffusers' layout, in the order in which they are asked. `flux1-dev.safetensors` is published
    /// inside of one.
    fn roots(&self) -> impl Iterator<Item = &Path> {
        let around = self.model.parent().filter(|parent| parent.join(MODEL_INDEX).exists());
        let own = if self.model.is_dir() { Some(self.model.as_path()) } else { around };
        own.into_iter().chain(self.base.as_deref())
    }

    /// The error for something that no file gives.
    fn absent(&self, what: &str, flag: &str) -> Error {
        let is_root =
            ["transformer", MODEL_INDEX].iter().any(|name| self.model.join(name).exists());
        if self.model.is_dir() && !is_root {
            return no_model(&self.model);
        }
        let message = format!(
            "has no {what}: give it with `{flag}`, or all that is missing with `--base` and a folder in \
             diffusers' layout"
        );
        Error::model(self.model.display(), message)
    }
}

/// The option that gives a part.
fn flag(part: Part) -> &'static str {
    match part {
        Part::Transformer => "--model",
        Part::Autoencoder => "--vae",
        Part::TextEncoder => "--text-encoder",
        Part::TextEncoder2 => "--text-encoder-2",
    }
}

/// `part` from the place that was named for it.
fn given(path: &Path, part: Part) -> Result<Located> {
    if path.is_dir() {
        return in_folder(path, part);
    }
    let checkpoint = Checkpoint::open(path)?;
    let contents = Contents::of(&checkpoint);
    match contents.part(part, &checkpoint) {
        Some(checkpoint) => Ok(Located { checkpoint, config: None }),
        None => Err(is_another(path, &contents, part)),
    }
}

/// `part` from its folder.
fn in_folder(folder: &Path, part: Part) -> Result<Located> {
    let all = Checkpoint::open(folder)?;
    let contents = Contents::of(&all);
    let config = Some(folder.join("config.json")).filter(|path| path.exists());
    match contents.part(part, &all) {
        Some(checkpoint) => Ok(Located { checkpoint, config }),
        None if contents.is_known() => Err(is_another(folder, &contents, part)),
        // Let the model file say which tensors it misses.
        None => Ok(Located { checkpoint: all, config }),
    }
}

/// Refuses a file of which no part would use every tensor.
fn refuse_strays(path: &Path, contents: &Contents, checkpoint: &Checkpoint) -> Result<()> {
    let names = checkpoint.names();
    let strays = contents.strays(&names);
    let Some(first) = strays.first() else { return Ok(()) };
    let message = format!(
        "holds {} and {} tensors that belong to none of that, the first is `{first}`: is it of another model? \
         (a file without them will do)",
        contents.describe(),
        strays.len()
    );
    Err(Error::model(path.display(), message))
}

fn is_another(path: &Path, contents: &Contents, wanted: Part) -> Error {
    let article = if wanted == Part::Autoencoder { "an" } else { "a" };
    let message =
        format!("holds {}, {article} {wanted} is wanted (`{}`)", contents.describe(), flag(wanted));
    Error::model(path.display(), message)
}

fn no_model(folder: &Path) -> Error {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_checkpoint = |name: &String| name.ends_with(".safetensors") || name.ends_with(".gguf");
    let mut files: Vec<String> = names.filter(is_checkpoint).collect();
    files.sort();
    let remedy = match files.first() {
        Some(file) => {
            format!("to use a checkpoint file, name it: `{}`", folder.join(file).display())
        }
        None => "name a folder that has, or a checkpoint file".to_owned(),
    };
    let message = format!(
        "is no folder in diffusers' layout: it has neither `{MODEL_INDEX}` nor `transformer/`; {remedy}"
    );
    Error::model(folder.display(), message)
}

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
}

fn check_model_index(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let index: ModelIndex = read_json(path, "the index of a pipeline")?;
    if PIPELINES.contains(&index.class_name.as_str()) {
        return Ok(());
    }
    let message = format!(
        "is of a `{}`, which is not supported; FLUX.1 models have a `FluxPipeline`",
        index.class_name
    );
    Err(Error::model(path.display(), message))
}
