//! The third part of the walk: from noise to latents.

use candle_core::Tensor;

use super::encode_prompt::{EncodedPrompt, PromptPair};
use crate::error::Result;
use crate::latents::Latents;
use crate::observer::{self, StepObserver, StepProgress};
use crate::pipelines::GenerateRequest;
use crate::samplers::{FlowMatchSchedule, ScheduleConfig, sampler};
use crate::transformers::flux::{FluxTransformer, Prepared};

/// What is walked, along which schedule.
pub(super) struct Walk<'a> {
    pub request: &'a GenerateRequest,
    pub prompts: &'a PromptPair,
    pub schedule: &'a ScheduleConfig,
    /// The place in the request of the first picture.
    pub first_image: usize,
}

/// Walks every picture's noise to its latents.
pub(super) fn denoise(
    transformer: &FluxTransformer,
    walk: &Walk<'_>,
    noise: &[Latents],
    observer: &dyn StepObserver,
) -> Result<Vec<Latents>> {
    let Some(first) = noise.first() else { return Ok(Vec::new()) };
    let request = walk.request;
    let grid = first.layout().token_grid(request.size);
    let schedule = FlowMatchSchedule::new(walk.schedule, request.steps, grid.0 * grid.1);
    let guidance = Guided::prepare(transformer, request, walk.prompts, grid)?;
    let walk_one = |(index, noise): (usize, &Latents)| {
        let mut latents = noise.clone();
        for (step, (sigma, next)) in schedule.steps().enumerate() {
            observer::proceed(observer)?;
            let mut velocity = |tensor: &Tensor, sigma: f32| {
                guidance.velocity(&latents.with(tensor.clone()), sigma, observer)
            };
            let reached =
                sampler(request.sampler).step(latents.tensor(), sigma, next, &mut velocity)?;
            latents = latents.with(reached.latents);
            // A card works off what it was given later; progress tells of what is done, and a cancelled one does no more.
            latents.tensor().device().synchronize()?;
            observer.step(&StepProgress {
                step: step + 1,
                total_steps: request.steps,
                image: walk.first_image + index,
                images: request.num_images,
                predicted: &reached.predicted.squeeze(0)?,
            });
        }
        Ok(latents)
    };
    noise.iter().enumerate().map(walk_one).collect()
}

/// A denoiser with everything that no step changes, for one prompt or two.
struct Guided<'a> {
    transformer: &'a FluxTransformer,
    positive: Prepared,
    negative: Option<(Prepared, f64)>,
}

impl<'a> Guided<'a> {
    fn prepare(
        transformer: &'a FluxTransformer,
        request: &GenerateRequest,
        prompts: &PromptPair,
        grid: (usize, usize),
    ) -> Result<Self> {
        let scale = [request.guidance.embedded as f32];
        let prepare =
            |prompt: &EncodedPrompt| transformer.prepare(&prompt.conditioning, grid, &scale);
        let negative = match (&prompts.negative, request.guidance.true_cfg()) {
            (Some(prompt), Some(negative)) => Some((prepare(prompt)?, negative.scale)),
            _ => None,
        };
        Ok(Self { transformer, positive: prepare(&prompts.positive)?, negative })
    }

    /// The velocity (1, c, y, x); with a negative prompt v⁻ + scale · (v⁺ − v⁻).
    fn velocity(
        &self,
        latents: &Latents,
        sigma: f32,
        observer: &dyn StepObserver,
    ) -> Result<Tensor> {
        let tokens = latents.pack()?;
        let positive = self.transformer.forward(&tokens, &[sigma], &self.positive, observer)?;
        let Some((prepared, scale)) = &self.negative else { return latents.unpack(&positive) };
        let negative = self.transformer.forward(&tokens, &[sigma], prepared, observer)?;
        let difference = ((positive - &negative)? * *scale)?;
        latents.unpack(&(negative + difference)?)
    }
}
