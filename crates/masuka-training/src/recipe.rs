//! Everything that decides what an adapter becomes. Two runs with equal recipes, pictures and models give equal bits.

use masuka_diffusion::noise::Seed;
use masuka_diffusion::pipelines::Precision;
use masuka_diffusion::transformers::flux::FluxConfig;
use serde::{Deserialize, Serialize};

use crate::adapter::{AdapterSize, Targets};
use crate::error::{Error, Result};
use crate::optimizer::Decay;
use crate::optimizer::{AdamWConfig, Schedule};

/// The largest rank: above it an adapter is as large as the layers it stands beside.
pub const MAX_RANK: usize = 1024;
/// The most steps of a run.
pub const MAX_STEPS: usize = 1_000_000;

/// How often a picture is all noise at least in a training that keeps the base model as it is.
const PURE_NOISE_BESIDE_PRIOR: f64 = 0.25;
/// A rate that no number of steps is too few for.
const GENTLE_RATE: f64 = 1e-4;
/// Steps from which on a training affords any rate.
const FULL_RATE_STEPS: f64 = 400.0;

/// The parameters of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The word of the captions that the style or subject goes by.
    pub trigger: Option<String>,
    /// Which layers are adapted.
    pub targets: Targets,
    /// Rank and alpha.
    pub size: AdapterSize,
    /// Optimiser steps.
    pub steps: usize,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// The optimiser's constants.
    pub optimizer: AdamWConfig,
    /// Pictures of a forward pass.
    pub batch: usize,
    /// Forward passes of a step.
    pub accumulation: usize,
    /// Gradients are scaled down to this norm.
    pub max_grad_norm: f64,
    /// The side of a square picture; other shapes have about as many pixels.
    pub resolution: usize,
    /// How often a caption is replaced by the empty one, 0…1.
    pub caption_dropout: f64,
    /// The decay of the moving average that becomes the finished adapter; 0 takes the last values.
    pub ema_decay: f64,
    /// What a guidance-distilled model is told of guidance while it is trained.
    #[serde(default = "unguided")]
    pub guidance: f64,
    /// How often a picture is all noise (σ 1), as at the start of every drawing, 0…1; see [`Recipe::share_of_pure_noise`].
    #[serde(default)]
    pub pure_noise: f64,
    /// Pictures of the base model that are mixed in, so that it stays as it is without the trigger word.
    pub prior_pictures: usize,
    /// Of the base model's weights and of what passes through it; the adapter and its gradients are f32 in each.
    #[serde(default = "widest")]
    pub dtype: Precision,
    /// Where all randomness starts.
    pub seed: u64,
}

/// The guidance of trainings that began before recipes named one.
fn unguided() -> f64 {
    1.0
}

/// The precision of trainings that began before recipes named one.
fn widest() -> Precision {
    Precision::F32
}

impl Recipe {
    /// What suits a model of `config` whose pictures have `resolution`.
    pub fn default_for(config: &FluxConfig, resolution: usize) -> Self {
        // A small model learns from many pictures a step at a high rate; a large one cannot afford either.
        let small = config.hidden_size() < 1024;
        Self {
            trigger: None,
            targets: Targets::AllLinear,
            size: AdapterSize { rank: if small { 16 } else { 32 }, alpha: 16.0 },
            steps: 2000,
            schedule: Schedule {
                learning_rate: if small { 1e-3 } else { 1e-4 },
                warmup_steps: if small { 20 } else { 100 },
                decay: Decay::Cosine,
            },
            optimizer: AdamWConfig::default(),
            batch: if small { 8 } else { 1 },
            accumulation: 1,
            max_grad_norm: 1.0,
            resolution,
            caption_dropout: 0.0,
            ema_decay: 0.0,
            // Trainers of FLUX.1-dev take 1 (`train_dreambooth_lora_flux.py`, ai-toolkit), the velocity before
            // distillation; a short training of a small model gets further at the guidance that it is used with.
            guidance: if small { 3.5 } else { 1.0 },
            pure_noise: if small { 0.125 } else { 0.0 },
            prior_pictures: 0,
            // A large model fits into memory in half of its precision only; a small one need not lose any.
            dtype: if small { Precision::F32 } else { Precision::Bf16 },
            seed: 0,
        }
    }

    /// Takes as many steps, with the warm-up and the rate that suit a short training: a high rate first destroys what the
    /// model draws, and only some hundred steps later is anything to be seen again.
    pub fn set_steps(&mut self, steps: usize) {
        self.steps = steps;
        let schedule = &mut self.schedule;
        schedule.warmup_steps = schedule.warmup_steps.min(steps / 10);
        let part = (steps as f64 / FULL_RATE_STEPS).min(1.0);
        schedule.learning_rate =
            schedule.learning_rate.min(GENTLE_RATE.max(schedule.learning_rate * part));
    }

    /// How often a picture is all noise: at least a quarter beside pictures of the base model. A picture's ground shines
    /// through all other noise, so that whether it is to be the style's or the base model's is learned from the ground; only
    /// where nothing is left of the picture can the caption alone say (arXiv:2305.08891, section 3.2, is about the same gap).
    pub fn share_of_pure_noise(&self) -> f64 {
        match self.prior_pictures {
            0 => self.pure_noise,
            _ => self.pure_noise.max(PURE_NOISE_BESIDE_PRIOR),
        }
    }

    /// Checks every parameter against its range; `multiple` is the pixels that one token of the model spans.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first parameter that is outside, its value and the rule.
    pub fn validate(&self, multiple: usize) -> Result<()> {
        if let Some(trigger) = &self.trigger
            && (trigger.trim().is_empty() || trigger.contains([',', '\n']))
        {
            let rule = "is empty or holds a comma or a line break";
            return Err(Error::invalid("trigger", format!("`{trigger}`"), rule));
        }
        within("rank", self.size.rank, 1, MAX_RANK)?;
        positive("alpha", self.size.alpha)?;
        within("steps", self.steps, 1, MAX_STEPS)?;
        positive("learning_rate", self.schedule.learning_rate)?;
        within("warmup_steps", self.schedule.warmup_steps, 0, self.steps)?;
        within("batch", self.batch, 1, 256)?;
        within("gradient_accumulation", self.accumulation, 1, 1024)?;
        positive("max_grad_norm", self.max_grad_norm)?;
        within("resolution", self.resolution, 64, 2048)?;
        if !self.resolution.is_multiple_of(multiple) {
            let rule = format!("is not a multiple of {multiple}");
            return Err(Error::invalid("resolution", self.resolution, rule));
        }
        below_one("caption_dropout", self.caption_dropout)?;
        below_one("ema_decay", self.ema_decay)?;
        below_one("beta1", self.optimizer.beta1)?;
        below_one("beta2", self.optimizer.beta2)?;
        below_one("weight_decay", self.optimizer.weight_decay)?;
        if !(0.0..=20.0).contains(&self.guidance) {
            return Err(Error::invalid("guidance", self.guidance, "is not within 0 and 20"));
        }
        positive("eps", self.optimizer.eps)?;
        below_one("pure_noise", self.pure_noise)?;
        within("prior_pictures", self.prior_pictures, 0, 10_000)?;
        if self.dtype == Precision::Int8 {
            let rule = "has no gradients; train in bf16 or f32";
            return Err(Error::invalid("dtype", self.dtype, rule));
        }
        Seed::new(self.seed)?;
        Ok(())
    }

    /// The seed of all streams.
    ///
    /// # Errors
    /// When it is too large.
    pub fn seed(&self) -> Result<Seed> {
        Ok(Seed::new(self.seed)?)
    }
}

fn within(field: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, value, format!("is not within {min} and {max}")))
}

fn positive(field: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::invalid(field, value, "is not a number above 0"))
}

fn below_one(field: &'static str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, value, "is not at least 0 and below 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let config = serde_json::json!({
            "in_channels": 64, "num_layers": 3, "num_single_layers": 6, "attention_head_dim": 64,
            "num_attention_heads": 3, "joint_attention_dim": 256, "pooled_projection_dim": 128,
        });
        let config: FluxConfig = serde_json::from_value(config).expect("a configuration");
        Recipe::default_for(&config, 128)
    }

    #[track_caller]
    fn check(edit: impl FnOnce(&mut Recipe), expected: &str) {
        let mut recipe = recipe();
        edit(&mut recipe);
        let error = recipe.validate(16).expect_err(expected).to_string();
        assert_eq!(error, expected);
    }

    #[test]
    fn the_defaults_are_valid() {
        recipe().validate(16).expect("valid");
    }

    #[test]
    fn a_training_that_began_before_recipes_named_all_goes_on_as_it_was() {
        let mut older = serde_json::to_value(recipe()).expect("JSON");
        for name in ["guidance", "dtype", "pure_noise"] {
            older.as_object_mut().expect("an object").remove(name).expect("named today");
        }
        let read: Recipe = serde_json::from_value(older).expect("still a recipe");
        assert_eq!(read, Recipe { guidance: 1.0, pure_noise: 0.0, ..recipe() });
        assert_eq!(read.dtype, Precision::F32);
        assert_eq!(read.share_of_pure_noise(), 0.0);
        assert_eq!(Recipe { prior_pictures: 1, ..read }.share_of_pure_noise(), 0.25);
    }

    #[test]
    fn a_short_training_is_gentle() {
        let rate = |learning_rate: f64, steps| {
            let mut recipe = recipe();
            recipe.schedule.learning_rate = learning_rate;
            recipe.set_steps(steps);
            (recipe.schedule.learning_rate, recipe.schedule.warmup_steps)
        };
        assert_eq!(rate(1e-3, 40), (1e-4, 4));
        assert_eq!(rate(1e-3, 200), (5e-4, 20));
        assert_eq!(rate(1e-3, 400), (1e-3, 20));
        assert_eq!(rate(5e-5, 1), (5e-5, 0));
    }

    #[test]
    fn parameters_outside_their_range_are_refused_by_name() {
        check(|r| r.size.rank = 0, "rank 0 is not within 1 and 1024");
        check(|r| r.size.rank = 1 << 20, "rank 1048576 is not within 1 and 1024");
        check(|r| r.size.alpha = f64::NAN, "alpha NaN is not a number above 0");
        check(|r| r.steps = 0, "steps 0 is not within 1 and 1000000");
        check(|r| r.schedule.learning_rate = -1.0, "learning_rate -1 is not a number above 0");
        check(|r| r.resolution = 130, "resolution 130 is not a multiple of 16");
        check(|r| r.caption_dropout = 1.0, "caption_dropout 1 is not at least 0 and below 1");
        check(|r| r.pure_noise = 1.0, "pure_noise 1 is not at least 0 and below 1");
        check(|r| r.dtype = Precision::Int8, "dtype int8 has no gradients; train in bf16 or f32");
        check(|r| r.seed = 1 << 53, "seed 9007199254740992 is not within 0 and 9007199254740991");
        let word = Some("a, b".to_owned());
        check(|r| r.trigger = word, "trigger `a, b` is empty or holds a comma or a line break");
    }
}
