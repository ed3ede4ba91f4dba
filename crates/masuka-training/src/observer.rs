//! Progress, pause and stopping: the one way by which anything outside sees or ends a running training.

use std::path::Path;

use masuka_diffusion::observer::StepObserver;
use masuka_diffusion::pipelines::Picture;

use crate::dataset::Dataset;
use crate::memory::MemoryEstimate;

/// What the training should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Write a checkpoint after this step, then go on.
    Save,
    /// Write a checkpoint of the last full step, then end.
    Stop,
}

/// A part of the work before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Pictures of the base model are drawn.
    Priors,
    /// Captions and pictures pass the encoders.
    Encode,
}

/// Where the training stands after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps in all.
    pub total_steps: usize,
    /// The step's loss.
    pub loss: f64,
    /// The loss with the noise of single steps taken out.
    pub smoothed_loss: f64,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// The norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Of this process's steps, pauses and samples left out.
    pub steps_per_second: f64,
    /// What is left, in seconds.
    pub eta_seconds: f64,
    /// Passes over the pictures that were begun.
    pub epoch: u64,
}

/// A picture drawn with the adapter as it is.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Steps done.
    pub step: usize,
    /// The place of its prompt in the list, from 0.
    pub index: usize,
    /// The prompt.
    pub prompt: &'a str,
    /// The picture.
    pub picture: &'a Picture,
    /// Its PNG.
    pub path: &'a Path,
}

/// Sees the progress of a training and may stop it.
///
/// Implementations are called from the training's thread and must be quick; to pause, [`wish`](Self::wish) blocks until
/// the work may go on.
pub trait TrainingObserver: Send + Sync {
    /// The pictures have been read and the memory estimated.
    fn dataset(&self, _dataset: &Dataset, _memory: &MemoryEstimate) {}

    /// `done` of `total` pieces of a preparation are ready.
    fn preparing(&self, _what: Preparation, _done: usize, _total: usize) {}

    /// Steps begin, after those that were done before.
    fn training(&self, _steps_done: usize, _total_steps: usize) {}

    /// A step is done.
    fn step(&self, _report: &StepReport) {}

    /// A sample is drawn.
    fn sample(&self, _sample: &Sample<'_>) {}

    /// A checkpoint is on disk.
    fn checkpoint(&self, _path: &Path, _step: usize) {}

    /// Asked between transformer blocks and steps.
    fn wish(&self) -> Wish {
        Wish::Continue
    }
}

/// Watches nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl TrainingObserver for Unobserved {}

/// A training's observer as the engine sees it.
pub(crate) struct Engine<'a>(pub &'a dyn TrainingObserver);

impl StepObserver for Engine<'_> {
    fn proceed(&self) -> bool {
        self.0.wish() != Wish::Stop
    }
}
