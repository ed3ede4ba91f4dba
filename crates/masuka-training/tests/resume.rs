//! A training that is broken off and resumed ends in the same bits as one that ran through.

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::starter::{self, starter};
use common::tensors;
use masuka_diffusion::pipelines::Precision;
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_training::checkpoint::Checkpoint;
use masuka_training::dataset::Dataset;
use masuka_training::observer::{StepReport, TrainingObserver, Unobserved, Wish};
use masuka_training::recipe::Recipe;
use masuka_training::samples::Samples;
use masuka_training::trainer::{Outcome, Training};
use masuka_training::{Error, Result};

/// Four pictures of two shapes with captions.
fn dataset(folder: &Path) -> PathBuf {
    let dataset = folder.join("photos");
    std::fs::create_dir_all(&dataset).expect("a folder");
    for (index, (width, height)) in [(64, 64), (80, 48), (64, 64), (96, 60)].into_iter().enumerate()
    {
        let picture = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 3) as u8, (y * 4) as u8, (index * 60) as u8])
        });
        picture.save(dataset.join(format!("{index}.png"))).expect("a picture");
        let caption = format!("thing {index}, TOK style\n");
        std::fs::write(dataset.join(format!("{index}.txt")), caption).expect("a caption");
    }
    dataset
}

fn training(folder: &Path, name: &str, steps: usize) -> Training {
    let pipeline = starter();
    let mut recipe = Recipe {
        trigger: Some("TOK".to_owned()),
        steps,
        batch: 2,
        accumulation: 2,
        caption_dropout: 0.3,
        ema_decay: 0.9,
        seed: 7,
        ..Recipe::default_for(pipeline.config(), 64)
    };
    recipe.size.rank = 4;
    recipe.schedule.warmup_steps = 2.min(steps - 1);
    let dataset = Dataset::open(&dataset(folder), Some("TOK")).expect("pictures");
    starter::training(&folder.join(name), dataset, recipe)
}

/// Stops in the middle of step `after` + 1.
struct StopAfter {
    after: usize,
    steps: AtomicUsize,
    asked: AtomicUsize,
}

impl TrainingObserver for StopAfter {
    fn step(&self, report: &StepReport) {
        self.steps.store(report.step, Ordering::SeqCst);
    }

    fn wish(&self) -> Wish {
        let in_last = self.steps.load(Ordering::SeqCst) >= self.after;
        let is_late = in_last && self.asked.fetch_add(1, Ordering::SeqCst) > 5;
        if is_late { Wish::Stop } else { Wish::Continue }
    }
}

fn pipeline_for(training: &Training) -> FluxPipeline {
    starter().in_precision(training.recipe.dtype).expect("the starter opens")
}

fn run(training: &Training, from: Option<Checkpoint>) -> Result<Outcome> {
    training.run(&mut pipeline_for(training), from, &Unobserved)
}

#[test]
fn half_and_half_equals_the_whole_to_the_bit() {
    for dtype in [Precision::F32, Precision::Bf16] {
        half_and_half(dtype);
    }
}

fn half_and_half(dtype: Precision) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = training(folder.path(), "whole", 12);
    (whole.recipe.dtype, whole.recipe.prior_pictures) = (dtype, 1);
    let prompts = vec!["thing 9, TOK style".to_owned()];
    whole.samples = Samples { every: 12, prompts, seed: 1, side: 64 };
    run(&whole, None).expect("it trains");

    let mut halves = training(folder.path(), "halves", 12);
    halves.recipe = whole.recipe.clone();
    halves.samples = whole.samples.clone();
    let (steps, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = StopAfter { after: 6, steps, asked };
    let outcome = halves.run(&mut pipeline_for(&halves), None, &stop).expect("it stops");
    assert!(matches!(outcome, Outcome::Stopped { step: 6, checkpoint: Some(_) }), "{outcome:?}");
    assert!(!halves.output.exists());
    let checkpoint = Checkpoint::latest(&halves.checkpoints()).expect("it is read");
    run(&halves, checkpoint).expect("it goes on");

    let last = |training: &Training| {
        Checkpoint::latest(&training.checkpoints()).expect("it is read").expect("it is there")
    };
    let (a, b) = (last(&whole), last(&halves));
    assert_eq!(a.losses, b.losses);
    assert_eq!(a.tensors.len(), b.tensors.len());
    assert!(a.tensors.keys().any(|name| name.starts_with("ema.")));
    let bits = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers");
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for (name, tensor) in &a.tensors {
        assert_eq!(bits(tensor), bits(&b.tensors[name]), "{name}");
    }
    let finished = |training: &Training| std::fs::read(&training.output).expect("an adapter");
    assert_eq!(finished(&whole).len(), finished(&halves).len());
    let sample = |training: &Training| {
        std::fs::read(training.run_folder.join("samples/step-00000012-1.png")).expect("a sample")
    };
    assert_eq!(sample(&whole), sample(&halves));
    let (a, b) = (tensors(&whole.output), tensors(&halves.output));
    for (name, tensor) in &a {
        assert_eq!(bits(tensor), bits(&b[name]), "{name}");
    }
}

#[test]
fn only_the_same_recipe_and_the_same_pictures_are_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut training = training(folder.path(), "run", 1);
    run(&training, None).expect("it trains");
    let checkpoint = || Checkpoint::latest(&training.checkpoints()).expect("it is read");
    let (first, second) = (checkpoint(), checkpoint());
    training.dataset.pictures[0].caption = "another, TOK style".to_owned();
    let error = run(&training, first).expect_err("a refusal").to_string();
    assert!(error.contains("pictures, captions or the base model have changed"), "{error}");
    training.recipe.seed = 8;
    let error = run(&training, second).expect_err("a refusal").to_string();
    assert!(error.contains("checkpoint of another recipe"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_with_the_pictures_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut training = training(folder.path(), "wild", 40);
    training.recipe.schedule.learning_rate = 1e30;
    training.recipe.schedule.warmup_steps = 0;
    training.save_every = 1;
    let error = run(&training, None).expect_err("it stops");
    let Error::NotFinite { step, samples, .. } = &error else { panic!("{error}") };
    assert!(samples.contains(".png"), "{error}");
    assert!(!training.output.exists());
    let kept = Checkpoint::latest(&training.checkpoints()).expect("it is read").expect("one");
    assert_eq!(kept.step() + 1, *step);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut training = training(folder.path(), "run", 3);
    training.save_every = 1;
    run(&training, None).expect("it trains");
    let newest = training.checkpoints().join("step-00000003.safetensors");
    let bytes = std::fs::read(&newest).expect("a checkpoint");
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).expect("a damaged one");
    let latest = Checkpoint::latest(&training.checkpoints()).expect("it is read").expect("one");
    assert_eq!(latest.step(), 2);
}
