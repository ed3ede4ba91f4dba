//! Progress, pause and cancellation: the one way by which anything outside sees or stops a running generation.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// A part of the work whose start and end are worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Weights are read from disk.
    Load,
    /// The prompt passes the text encoders.
    EncodePrompt,
    /// The sampler walks from noise to latents.
    Denoise,
    /// The autoencoder turns latents into pixels.
    DecodeLatents,
}

impl Stage {
    /// The stage's name in logs, timings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::EncodePrompt => "encode_prompt",
            Self::Denoise => "denoise",
            Self::DecodeLatents => "decode_latents",
        }
    }
}

/// Where the sampler stands after a step.
#[derive(Debug)]
pub struct StepProgress<'a> {
    /// Steps done for this picture, from 1.
    pub step: usize,
    /// Steps this picture takes.
    pub total_steps: usize,
    /// The picture of the batch, from 0.
    pub image: usize,
    /// Pictures in the batch.
    pub images: usize,
    /// The predicted clean latents, (channels, height, width) in f32, for a live preview.
    pub predicted: &'a Tensor,
}

/// Sees the progress of a generation and may stop it.
///
/// Implementations are called from the engine's thread and must be quick; to pause, [`proceed`](Self::proceed)
/// blocks until the work may go on.
pub trait StepObserver: Send + Sync {
    /// A stage begins.
    fn stage_started(&self, _stage: Stage) {}

    /// A stage has ended.
    fn stage_finished(&self, _stage: Stage) {}

    /// A sampler step is done.
    fn step(&self, _progress: &StepProgress<'_>) {}

    /// Asked between transformer blocks, autoencoder tiles and steps; `false` cancels.
    fn proceed(&self) -> bool {
        true
    }
}

/// Watches nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl StepObserver for Unobserved {}

/// Runs `work` as `stage`, telling `observer` of its start and end.
pub(crate) fn in_stage<T>(
    observer: &dyn StepObserver,
    stage: Stage,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    observer.stage_started(stage);
    let result = work();
    observer.stage_finished(stage);
    result
}

/// [`Error::Cancelled`] when `observer` wants the work to stop.
pub(crate) fn proceed(observer: &dyn StepObserver) -> Result<()> {
    if observer.proceed() { Ok(()) } else { Err(Error::Cancelled) }
}
