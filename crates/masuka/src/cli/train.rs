//! The words of `masuka train`.

use std::path::PathBuf;

use clap::Args;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::Precision;
use masuka_training::adapter::Targets;
use masuka_training::optimizer::Decay;

use super::{ModelArgs, one_of};

/// `masuka train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A folder of pictures (.png, .jpg, .webp), each with a caption in a .txt of the same name
    pub dataset: PathBuf,

    /// The finished adapter [default: the folder's name with .safetensors]
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: Option<PathBuf>,

    /// The word that the captions call the style or subject by
    #[arg(long, value_name = "WORD")]
    pub trigger: Option<String>,

    /// Go on from the last checkpoint of this output, with the parameters that it was begun with
    #[arg(long)]
    pub resume: bool,

    /// Throw the checkpoints of this output away and begin anew
    #[arg(long, conflicts_with = "resume")]
    pub restart: bool,

    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,

    /// What decides the adapter.
    #[command(flatten)]
    pub recipe: RecipeArgs,

    /// Steps between checkpoints
    #[arg(long, value_name = "STEPS", default_value_t = 100, help_heading = "Meanwhile")]
    pub save_every: usize,

    /// Steps between sample pictures; 0 for none
    #[arg(long, value_name = "STEPS", default_value_t = 0, help_heading = "Meanwhile")]
    pub sample_every: usize,

    /// What the samples show; may be given several times [default: the first four captions]
    #[arg(long = "sample-prompt", value_name = "PROMPT", help_heading = "Meanwhile")]
    pub sample_prompts: Vec<String>,

    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Of the base model; the adapter is f32 in each [default: bf16 for a large model, f32 for a small one]
    #[arg(long, value_parser = one_of::<Precision>(&["f32", "bf16"]), help_heading = "Computing")]
    pub dtype: Option<Precision>,

    /// [default: MASUKA_DEVICE or the fastest that is there]
    #[arg(long, value_parser = one_of::<DeviceKind>(&["cpu", "cuda", "metal"]), help_heading = "Computing")]
    pub device: Option<DeviceKind>,

    /// How many threads compute [default: as many as the processor has]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Computing")]
    pub threads: Option<u16>,
}

/// What decides the adapter; what is not given suits the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeArgs {
    /// Rows of the adapter's matrices, 1 to 1024
    #[arg(long)]
    pub rank: Option<usize>,

    /// The adapter's effect is scaled by alpha / rank
    #[arg(long)]
    pub alpha: Option<f64>,

    /// Optimiser steps
    #[arg(long)]
    pub steps: Option<usize>,

    /// Learning rate
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,

    /// How the learning rate moves after the warm-up
    #[arg(long, value_parser = ["constant", "cosine"])]
    pub lr_schedule: Option<String>,

    /// Steps of a rising learning rate
    #[arg(long, value_name = "STEPS")]
    pub warmup: Option<usize>,

    /// Side of a square picture in pixels; other shapes get as many pixels
    #[arg(long, value_name = "PIXELS")]
    pub resolution: Option<usize>,

    /// Pictures of a forward pass
    #[arg(long, value_name = "COUNT")]
    pub batch: Option<usize>,

    /// Forward passes of a step
    #[arg(long, value_name = "COUNT")]
    pub accumulate: Option<usize>,

    /// Which layers are adapted
    #[arg(long, value_parser = ["attention", "all_linear"])]
    pub targets: Option<String>,

    /// Where all randomness starts
    #[arg(long)]
    pub seed: Option<u64>,

    /// What a guidance-distilled model is told of guidance, 0 to 20
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f64>,

    /// How often a picture is all noise, 0 to 1; beside --prior at least 0.25
    #[arg(long, value_name = "SHARE")]
    pub pure_noise: Option<f64>,

    /// Pictures of the base model without the trigger word that are mixed in, so that it stays as it is [without a
    /// count: as many as the folder has]
    #[arg(long, value_name = "COUNT", num_args = 0..=1)]
    pub prior: Option<Option<usize>>,

    /// How often a caption is left out, 0 to 1
    #[arg(long, value_name = "RATE")]
    pub caption_dropout: Option<f64>,

    /// Decay of the moving average that becomes the adapter; 0 for none
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f64>,

    /// What each step takes off the adapter, as a part of the learning rate
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f64>,

    /// Gradients are scaled down to this norm
    #[arg(long, value_name = "NORM")]
    pub max_grad_norm: Option<f64>,
}

impl RecipeArgs {
    /// The layers, if given; the parser knows only right names.
    pub fn targets(&self) -> Option<Targets> {
        self.targets.as_deref().and_then(|name| name.parse().ok())
    }

    /// The schedule, if given; the parser knows only right names.
    pub fn decay(&self) -> Option<Decay> {
        self.lr_schedule.as_deref().and_then(|name| name.parse().ok())
    }
}
