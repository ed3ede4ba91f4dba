//! `masuka train`: pictures become an adapter.

mod progress; // what a person sees meanwhile

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_training::checkpoint::Checkpoint;
use masuka_training::dataset::{self, Dataset};
use masuka_training::fingerprint;
use masuka_training::recipe::Recipe;
use masuka_training::samples::Samples;
use masuka_training::trainer::{Outcome, Training};
use serde::Serialize;

use crate::cli::{RecipeArgs, TrainArgs};
use crate::engine;
use crate::environment::Environment;
use crate::exit::Usage;
use crate::interrupt::Interrupt;
use crate::machine;
use crate::models::ModelFiles;

use progress::TrainingProgress;

const DEFAULT_SAMPLES: usize = 4;

/// Trains the adapter of `args`.
pub fn run(args: &TrainArgs, environment: &Environment) -> anyhow::Result<()> {
    let start = Instant::now();
    let output = output(args)?;
    let device_kind = choose_device(args, environment)?;
    let files = ModelFiles::choose(&args.model, environment)?;
    engine::use_level(environment)?;
    if let Some(count) = args.threads {
        engine::use_threads(count.into())?;
    }
    let mut pipeline = engine::open_for_training(&files, device_kind)?;
    let run_folder = output.with_extension("training");
    let checkpoint = checkpoint(args, &run_folder)?;
    let mut recipe = recipe(args, &pipeline, checkpoint.as_ref())?;
    pipeline = pipeline.in_precision(recipe.dtype)?;
    let dataset = Dataset::open(&args.dataset, recipe.trigger.as_deref())?;
    if checkpoint.is_none() && args.recipe.prior == Some(None) {
        recipe.prior_pictures = dataset.pictures.len();
    }
    let training = Training {
        samples: samples(args, &recipe, &dataset),
        dataset,
        dataset_name: dataset::file_name(&args.dataset),
        output,
        cache_folder: run_folder.join("cache"),
        run_folder,
        recipe,
        save_every: args.save_every,
        base_model: files.name(),
        model_fingerprint: fingerprint::of([files.model.as_path()])?,
        available_bytes: machine::available_bytes(device_kind),
        software: concat!("masuka ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let progress = TrainingProgress::new(Interrupt::listen()?);
    let outcome = training.run(&mut pipeline, checkpoint, &progress);
    progress.end();
    report(args, &training, &outcome?, start.elapsed().as_secs_f64())
}

/// The adapter's file.
fn output(args: &TrainArgs) -> anyhow::Result<PathBuf> {
    let named = args.output.clone();
    let output = match named {
        Some(output) => output,
        None => {
            let folder = args.dataset.canonicalize().unwrap_or_else(|_| args.dataset.clone());
            let name = folder.file_name().unwrap_or("adapter".as_ref()).to_owned();
            PathBuf::from(name).with_extension("safetensors")
        }
    };
    if output.extension().is_none_or(|e| e != "safetensors") {
        return Err(Usage(format!("`{}` must end in .safetensors", output.display())).into());
    }
    Ok(output)
}

fn choose_device(args: &TrainArgs, environment: &Environment) -> anyhow::Result<DeviceKind> {
    let named = environment.device.as_deref().map(str::parse::<DeviceKind>).transpose();
    match args.device {
        Some(device) => Ok(device),
        None => Ok(named.context("MASUKA_DEVICE")?.unwrap_or_else(DeviceKind::best)),
    }
}

/// Where a resumed training goes on.
fn checkpoint(args: &TrainArgs, run_folder: &Path) -> anyhow::Result<Option<Checkpoint>> {
    let folder = run_folder.join("checkpoints");
    if args.restart && folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot delete `{}`", folder.display()))?;
    }
    let latest = Checkpoint::latest(&folder)?;
    match (latest, args.resume) {
        (Some(checkpoint), false) => {
            let message = format!(
                "`{}` holds a training that was begun and has done {} steps: add --resume to go on with it, or \
                 --restart to throw it away",
                run_folder.display(),
                checkpoint.step()
            );
            Err(Usage(message).into())
        }
        (None, true) => {
            let message = format!("`{}` holds no checkpoint to resume from", folder.display());
            Err(Usage(message).into())
        }
        (latest, _) => Ok(latest),
    }
}

/// The flags over what suits the model, or over what the resumed training was begun with.
fn recipe(
    args: &TrainArgs,
    pipeline: &FluxPipeline,
    checkpoint: Option<&Checkpoint>,
) -> anyhow::Result<Recipe> {
    let side = pipeline.defaults().size.width;
    let base = match checkpoint {
        Some(checkpoint) => checkpoint.recipe.clone(),
        None => Recipe::default_for(pipeline.config(), side),
    };
    let mut recipe = with_flags(base.clone(), &args.recipe);
    recipe.trigger = args.trigger.clone().or(recipe.trigger);
    recipe.dtype = args.dtype.unwrap_or(recipe.dtype);
    if checkpoint.is_some() && recipe != base {
        let message = "the flags are not those of the training to be resumed; leave them out, or \
                       begin anew with --restart";
        return Err(Usage(message.to_owned()).into());
    }
    recipe.validate(pipeline.layout().size_multiple())?;
    Ok(recipe)
}

fn with_flags(base: Recipe, args: &RecipeArgs) -> Recipe {
    let mut recipe = base;
    if let Some(steps) = args.steps.filter(|steps| *steps != recipe.steps) {
        recipe.set_steps(steps);
    }
    recipe.schedule.warmup_steps = args.warmup.unwrap_or(recipe.schedule.warmup_steps);
    if let Some(rank) = args.rank {
        recipe.size.rank = rank;
        recipe.size.alpha = rank as f64;
    }
    recipe.size.alpha = args.alpha.unwrap_or(recipe.size.alpha);
    recipe.schedule.learning_rate = args.lr.unwrap_or(recipe.schedule.learning_rate);
    recipe.schedule.decay = args.decay().unwrap_or(recipe.schedule.decay);
    recipe.resolution = args.resolution.unwrap_or(recipe.resolution);
    recipe.batch = args.batch.unwrap_or(recipe.batch);
    recipe.accumulation = args.accumulate.unwrap_or(recipe.accumulation);
    recipe.targets = args.targets().unwrap_or(recipe.targets);
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    recipe.guidance = args.guidance.unwrap_or(recipe.guidance);
    recipe.pure_noise = args.pure_noise.unwrap_or(recipe.pure_noise);
    recipe.prior_pictures = args.prior.flatten().unwrap_or(recipe.prior_pictures);
    recipe.caption_dropout = args.caption_dropout.unwrap_or(recipe.caption_dropout);
    recipe.ema_decay = args.ema.unwrap_or(recipe.ema_decay);
    recipe.optimizer.weight_decay = args.weight_decay.unwrap_or(recipe.optimizer.weight_decay);
    recipe.max_grad_norm = args.max_grad_norm.unwrap_or(recipe.max_grad_norm);
    recipe
}

fn samples(args: &TrainArgs, recipe: &Recipe, dataset: &Dataset) -> Samples {
    let mut prompts = args.sample_prompts.clone();
    if prompts.is_empty() {
        let captions = dataset.pictures.iter().map(|picture| picture.caption.clone());
        prompts = captions.take(DEFAULT_SAMPLES).collect();
    }
    let (every, seed, side) = (args.sample_every, recipe.seed, recipe.resolution);
    Samples { every, prompts, seed, side }
}

/// What is told at the end.
#[derive(Debug, Serialize)]
struct Report {
    output: PathBuf,
    steps: usize,
    loss: f64,
    seconds: f64,
    recipe: Recipe,
}

fn report(
    args: &TrainArgs,
    training: &Training,
    outcome: &Outcome,
    seconds: f64,
) -> anyhow::Result<()> {
    let (output, steps) = (training.output.display(), training.recipe.steps);
    match outcome {
        Outcome::Finished { loss } => {
            eprintln!("wrote {output}: {steps} steps, loss {loss:.4}, {seconds:.0} s");
            eprintln!("use it with: masuka generate \"…\" --lora {output}:1");
            if args.json {
                let (output, recipe) = (training.output.clone(), training.recipe.clone());
                super::print_json(&Report { output, steps, loss: *loss, seconds, recipe })?;
            }
            Ok(())
        }
        Outcome::Stopped { step, checkpoint } => {
            let dataset = args.dataset.display();
            if checkpoint.is_some() {
                eprintln!("stopped after step {step} of {steps}; all of it is kept");
                eprintln!("go on with: masuka train {dataset} -o {output} --resume");
            }
            Err(masuka_diffusion::Error::Cancelled.into())
        }
    }
}
