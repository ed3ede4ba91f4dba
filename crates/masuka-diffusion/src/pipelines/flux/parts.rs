//! What a trainer takes from a pipeline: captions and pictures as the denoiser sees them, and the denoiser itself.

use candle_core::{Device, Tensor};

use super::load;
use super::{FluxFiles, FluxPipeline, Run};
use crate::conditioning::Conditioning;
use crate::error::Result;
use crate::latents::Latents;
use crate::observer::StepObserver;
use crate::pipelines::{LoadOptions, Precision, Timings};
use crate::samplers::ScheduleConfig;
use crate::transformers::flux::FluxTransformer;
use crate::vaes::Tiling;

impl FluxPipeline {
    /// Opens a model of which each component is loaded when its turn comes; with [`Offload::None`] it then stays until
    /// it is released.
    ///
    /// # Errors
    /// When files are missing, damaged or of another architecture.
    ///
    /// [`Offload::None`]: crate::pipelines::Offload::None
    pub fn open(files: FluxFiles, options: &LoadOptions) -> Result<Self> {
        load::open(files, options)
    }

    /// The same model in another precision, of which nothing is loaded.
    ///
    /// # Errors
    /// When the precision is not for its device, or files have gone.
    pub fn in_precision(self, precision: Precision) -> Result<Self> {
        load::open(self.files, &LoadOptions { precision, ..self.options })
    }

    /// What the denoiser is told of `prompt`.
    ///
    /// # Errors
    /// When the encoders cannot be loaded, or `observer` cancels.
    pub fn conditioning(
        &mut self,
        prompt: &str,
        observer: &dyn StepObserver,
    ) -> Result<Conditioning> {
        let mut run = Run { observer, timings: Timings::default() };
        Ok(self.encode_prompt(prompt, &mut run)?.conditioning.clone())
    }

    /// The packed latents (1, l, c) in f32 of a picture (1, 3, y, x) in −1…1: the means of what the autoencoder sees.
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded, the size is not the model's, or `observer` cancels.
    pub fn encode_picture(
        &mut self,
        picture: &Tensor,
        observer: &dyn StepObserver,
    ) -> Result<Tensor> {
        let layout = self.layout;
        let vae = self.vae.get()?;
        let seen = vae.encode(picture, Tiling::Whole, observer)?;
        Latents::new(vae.scale(&seen.mean)?, layout).pack()
    }

    /// The transformer, with the slots of its adapters.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn transformer(&mut self) -> Result<&FluxTransformer> {
        self.transformer.get()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// How the model's sampler spaces its steps.
    pub fn schedule(&self) -> &ScheduleConfig {
        &self.schedule
    }

    /// T5 tokens of a prompt.
    pub fn text_tokens(&self) -> usize {
        self.prompter.t5_length
    }

    /// Gives back the memory of the text encoders and the autoencoder.
    pub fn release_encoders(&mut self) {
        self.text_encoders.release();
        self.vae.release();
    }
}
