//! The autoencoder of Stable Diffusion and FLUX (arXiv:2112.10752), as diffusers' `AutoencoderKL` computes it.

use candle_core::{DType, Tensor};

use super::bands::{Tiling, Walk};
use super::config::AutoencoderKlConfig;
use super::decoder::Decoder;
use super::encoder::Encoder;
use crate::error::{Error, Result};
use crate::layers::Conv2d;
use crate::observer::StepObserver;
use crate::ops::Conv2dArgs;
use crate::weights::Weights;

/// Pictures to latents and back.
pub struct AutoencoderKl {
    config: AutoencoderKlConfig,
    dtype: DType,
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
}

impl AutoencoderKl {
    /// Loads both sides from where `weights` stands.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &AutoencoderKlConfig) -> Result<Self> {
        let pointwise = |name: &str, c: usize| {
            Conv2d::load(&weights.at(name), c, c, 1, Conv2dArgs::same_size(1))
        };
        let latent = config.latent_channels;
        let quant_conv = || pointwise("quant_conv", 2 * latent);
        let post_quant_conv = || pointwise("post_quant_conv", latent);
        Ok(Self {
            dtype: weights.dtype(),
            encoder: Encoder::load(&weights.at("encoder"), config)?,
            quant_conv: config.use_quant_conv.then(quant_conv).transpose()?,
            post_quant_conv: config.use_post_quant_conv.then(post_quant_conv).transpose()?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            config: config.clone(),
        })
    }

    /// The sizes it was loaded with.
    pub fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// Pictures (b, 3, y, x) in [-1, 1] as latents of (b, c, y/f, x/f), one picture at a time.
    ///
    /// # Errors
    /// When the shape is not that of pictures, or `observer` cancels.
    pub fn encode(
        &self,
        pictures: &Tensor,
        tiling: Tiling,
        observer: &dyn StepObserver,
    ) -> Result<LatentDistribution> {
        let (_, _, height, width) = pictures.dims4()?;
        let factor = self.config.spatial_factor();
        for (field, size) in [("height", height), ("width", width)] {
            if size < factor {
                return Err(Error::invalid(field, size, format!("is less than {factor}")));
            }
        }
        let walk = Walk { tiling, observer };
        let moments = one_by_one(pictures, |picture| {
            let mut moments = self.encoder.forward(&picture.to_dtype(self.dtype)?, walk)?;
            if let Some(conv) = &self.quant_conv {
                moments = conv.forward(&moments)?;
            }
            Ok(moments.to_dtype(DType::F32)?) // (1, 2c, y/f, x/f)
        })?;
        LatentDistribution::from_moments(&moments)
    }

    /// Latents (b, c, y, x) as the denoiser sees them as pictures (b, 3, f·y, f·x) in f32, nominally in
    /// [-1, 1], one picture at a time.
    ///
    /// # Errors
    /// When the shape is not that of latents, or `observer` cancels.
    pub fn decode(
        &self,
        latents: &Tensor,
        tiling: Tiling,
        observer: &dyn StepObserver,
    ) -> Result<Tensor> {
        let walk = Walk { tiling, observer };
        one_by_one(latents, |latents| {
            let mut latents = self.unscale(&latents)?.to_dtype(self.dtype)?;
            if let Some(conv) = &self.post_quant_conv {
                latents = conv.forward(&latents)?;
            }
            Ok(self.decoder.forward(&latents, walk)?.to_dtype(DType::F32)?)
        })
    }

    /// An encoder's latents as the denoiser sees them, in f32.
    ///
    /// # Errors
    /// When the device fails.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = latents.to_dtype(DType::F32)?;
        Ok(((latents - self.config.shift_factor)? * self.config.scaling_factor)?)
    }

    /// The denoiser's latents as the decoder sees them, in f32.
    fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = latents.to_dtype(DType::F32)?;
        Ok(((latents / self.config.scaling_factor)? + self.config.shift_factor)?)
    }
}

/// What an encoder knows of a picture's latents: a normal distribution for each of their numbers, in f32 and not
/// yet scaled for the denoiser.
#[derive(Debug, Clone)]
pub struct LatentDistribution {
    /// (b, c, y, x)
    pub mean: Tensor,
    /// The natural logarithm of the variance, from -30 to 20, (b, c, y, x).
    pub logvar: Tensor,
}

impl LatentDistribution {
    fn from_moments(moments: &Tensor) -> Result<Self> {
        let channels = moments.dim(1)? / 2;
        let mean = moments.narrow(1, 0, channels)?.contiguous()?;
        let logvar = moments.narrow(1, channels, channels)?.clamp(-30f32, 20f32)?;
        Ok(Self { mean, logvar })
    }

    /// The standard deviation, (b, c, y, x).
    ///
    /// # Errors
    /// When the device fails.
    pub fn std(&self) -> Result<Tensor> {
        Ok((&self.logvar * 0.5)?.exp()?)
    }

    /// The latents that standard normal `noise` (b, c, y, x) picks.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok((&self.mean + (self.std()? * noise)?)?)
    }
}

/// `work` on each (1, c, y, x) of `batch` (b, c, y, x), so that a batch takes the memory of one.
fn one_by_one(batch: &Tensor, work: impl Fn(Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let results = (0..batch.dim(0)?).map(|i| work(batch.narrow(0, i, 1)?.contiguous()?));
    Ok(Tensor::cat(&results.collect::<Result<Vec<_>>>()?, 0)?)
}
