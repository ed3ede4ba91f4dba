//! What a user asks for. Every value is resolved here: defaults are filled in by the caller from the model.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::noise::Seed;

/// The longest prompt, in characters.
pub const MAX_PROMPT_CHARS: usize = 4_000;
/// The most pictures of one request.
pub const MAX_IMAGES: usize = 4;
/// The most sampler steps.
pub const MAX_STEPS: usize = 100;
/// The smallest and largest side of a picture, in pixels.
pub const SIDE_RANGE: std::ops::RangeInclusive<usize> = 64..=2048;

/// The walk from noise to latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SamplerName {
    /// First order: one denoiser call a step.
    #[default]
    Euler,
    /// Second order: two denoiser calls a step, but for the last.
    Heun,
}

impl SamplerName {
    /// All samplers, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Euler, Self::Heun];

    /// The name in requests and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::Heun => "heun",
        }
    }
}

impl fmt::Display for SamplerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SamplerName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|sampler| sampler.name() == name);
        known.ok_or_else(|| Error::invalid("sampler", name, "is not one of euler, heun"))
    }
}

/// Width and height of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
}

/// How strongly the prompt pulls.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// The value fed to a distilled guidance embedding; without effect on models that have none.
    pub embedded: f64,
    /// True classifier-free guidance, if asked for.
    pub negative: Option<Negative>,
}

impl Guidance {
    /// The negative prompt, where it has an effect: as in diffusers, above a scale of 1.
    pub fn true_cfg(&self) -> Option<&Negative> {
        self.negative.as_ref().filter(|negative| negative.scale > 1.0)
    }
}

/// True classifier-free guidance (arXiv:2207.12598): a second pass a step, for what is not wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Negative {
    /// The negative prompt, possibly empty.
    pub prompt: String,
    /// The scale, above 1.
    pub scale: f64,
}

/// A validated request for pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What should be seen; an empty prompt leaves it to the model.
    pub prompt: String,
    /// How strongly the prompt pulls.
    pub guidance: Guidance,
    /// Sampler steps.
    pub steps: usize,
    /// The sampler.
    pub sampler: SamplerName,
    /// The pictures' size.
    pub size: PictureSize,
    /// Picture *i* starts from noise of seed + *i*.
    pub seed: Seed,
    /// How many pictures.
    pub num_images: usize,
}

impl GenerateRequest {
    /// Checks every field against its range; `multiple` is the pixels that one token of the model spans.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is outside, its value and the rule.
    pub fn validate(&self, multiple: usize) -> Result<()> {
        check_prompt("prompt", &self.prompt)?;
        check_side("width", self.size.width, multiple)?;
        check_side("height", self.size.height, multiple)?;
        check_range("num_inference_steps", self.steps, 1, MAX_STEPS)?;
        check_range("num_images", self.num_images, 1, MAX_IMAGES)?;
        self.seed.offset(self.num_images as u64 - 1)?;
        check_float("guidance_scale", self.guidance.embedded, 0.0, 20.0)?;
        if let Some(negative) = &self.guidance.negative {
            check_prompt("negative_prompt", &negative.prompt)?;
            check_float("true_cfg_scale", negative.scale, 1.0, 20.0)?;
        }
        Ok(())
    }
}

fn check_prompt(field: &'static str, prompt: &str) -> Result<()> {
    let chars = prompt.chars().count();
    if chars <= MAX_PROMPT_CHARS {
        return Ok(());
    }
    let rule = format!("is longer than {MAX_PROMPT_CHARS} characters");
    Err(Error::invalid(field, format!("of {chars} characters"), rule))
}

fn check_side(field: &'static str, side: usize, multiple: usize) -> Result<()> {
    if !side.is_multiple_of(multiple) {
        return Err(Error::invalid(field, side, format!("is not a multiple of {multiple}")));
    }
    check_range(field, side, *SIDE_RANGE.start(), *SIDE_RANGE.end())
}

fn check_range(field: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, value, format!("is not within {min} and {max}")))
}

fn check_float(field: &'static str, value: f64, min: f64, max: f64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, value, format!("is not within {min} and {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> GenerateRequest {
        GenerateRequest {
            prompt: "red apple".to_owned(),
            guidance: Guidance { embedded: 3.5, negative: None },
            steps: 20,
            sampler: SamplerName::Euler,
            size: PictureSize { width: 128, height: 64 },
            seed: Seed::new(7).expect("a seed"),
            num_images: 1,
        }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut GenerateRequest), message: &str) {
        let mut request = valid();
        request.validate(16).expect("valid before the change");
        change(&mut request);
        assert_eq!(request.validate(16).expect_err("a refusal").to_string(), message);
    }

    #[test]
    fn every_field_is_refused_by_name_value_and_rule() {
        let negative = |prompt: String, scale| Some(Negative { prompt, scale });
        refused(
            |r| r.prompt = "ä".repeat(4001),
            "prompt of 4001 characters is longer than 4000 characters",
        );
        refused(
            |r| r.guidance.negative = negative("b".repeat(4001), 2.0),
            "negative_prompt of 4001 characters is longer than 4000 characters",
        );
        refused(
            |r| r.guidance.negative = negative(String::new(), 0.5),
            "true_cfg_scale 0.5 is not within 1 and 20",
        );
        refused(|r| r.guidance.embedded = f64::NAN, "guidance_scale NaN is not within 0 and 20");
        refused(|r| r.size.width = 1000, "width 1000 is not a multiple of 16");
        refused(|r| r.size.height = 2064, "height 2064 is not within 64 and 2048");
        refused(|r| r.steps = 0, "num_inference_steps 0 is not within 1 and 100");
        refused(|r| r.num_images = 5, "num_images 5 is not within 1 and 4");
        let last = Seed::new(Seed::MAX).expect("the largest seed");
        refused(
            |r| (r.seed, r.num_images) = (last, 2),
            "seed 9007199254740992 is not within 0 and 9007199254740991",
        );
    }
}
