//! What comes out of a pipeline.

use std::time::Duration;

use candle_core::{DType, Tensor};
use image::RgbImage;

use crate::error::{Error, Result};
use crate::noise::Seed;
use crate::observer::Stage;

/// A picture before it is rounded to 8 bits.
#[derive(Debug, Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Red, green, blue of each pixel, 0…1.
    values: Vec<f32>,
}

impl Picture {
    /// From decoded pixels (1, 3, y, x) in −1…1.
    ///
    /// # Errors
    /// When `pixels` has another shape, or holds values that are not numbers.
    pub fn from_decoded(pixels: &Tensor) -> Result<Self> {
        let (_, _, height, width) = pixels.dims4()?;
        let unit = ((pixels.to_dtype(DType::F32)? * 0.5)? + 0.5)?.clamp(0f32, 1f32)?;
        let values = unit.squeeze(0)?.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?; // (y, x, 3)
        if values.iter().any(|v| !v.is_finite()) {
            let message = "the model produced values that are not numbers; try `--dtype f32`, and \
                           check the model's and the LoRA's files";
            return Err(Error::model("picture", message));
        }
        Ok(Self { width, height, values })
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green, blue of each pixel, row by row, 0…1.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Rounded to 8 bits a channel.
    pub fn to_rgb8(&self) -> RgbImage {
        let bytes = self.values.iter().map(|v| (v * 255.0).round_ties_even() as u8).collect();
        RgbImage::from_vec(self.width as u32, self.height as u32, bytes)
            .unwrap_or_else(|| RgbImage::new(self.width as u32, self.height as u32))
    }
}

/// A picture of a request.
#[derive(Debug, Clone)]
pub struct GeneratedPicture {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The seed of its noise.
    pub seed: Seed,
    /// The picture.
    pub picture: Picture,
}

/// What a generation tells besides its pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationReport {
    /// Tokens of the prompt that T5 saw, its end mark included.
    pub t5_tokens: usize,
    /// Tokens of the prompt that CLIP saw, its marks included.
    pub clip_tokens: usize,
    /// What a user should know: prompts that were cut, values without effect.
    pub warnings: Vec<String>,
    /// Where the time went.
    pub timings: Timings,
}

/// Wall time by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Reading weights.
    pub load: Duration,
    /// Text encoders.
    pub encode_prompt: Duration,
    /// All sampler steps.
    pub denoise: Duration,
    /// The autoencoder.
    pub decode_latents: Duration,
}

impl Timings {
    /// Adds `time` to `stage`.
    pub(crate) fn add(&mut self, stage: Stage, time: Duration) {
        *self.of(stage) += time;
    }

    fn of(&mut self, stage: Stage) -> &mut Duration {
        match stage {
            Stage::Load => &mut self.load,
            Stage::EncodePrompt => &mut self.encode_prompt,
            Stage::Denoise => &mut self.denoise,
            Stage::DecodeLatents => &mut self.decode_latents,
        }
    }
}
