//! The one door to the pipelines: everything a command wants from them passes here.

use std::sync::Arc;

use anyhow::Context;
use masuka_diffusion::adapters::{ChosenAdapter, ImportReport, LoraAdapter, TensorCounts};
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::observer::{StepObserver, Unobserved};
use masuka_diffusion::pipelines::flux::{Defaults, FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, GenerationReport, LoadOptions, Offload, Precision,
};
use masuka_kernels::{Level, Simd, set_level_limit, threads};

use crate::cli::LoraArg;
use crate::environment::Environment;
use crate::machine;
use crate::models::ModelFiles;

/// Where and how a model computes.
#[derive(Debug, Clone, Copy)]
pub struct Compute {
    /// The device.
    pub device: DeviceKind,
    /// The precision of weights and activations.
    pub precision: Precision,
    /// What stays in memory.
    pub offload: Offload,
}

/// A loaded model.
pub struct Engine {
    pipeline: FluxPipeline,
}

/// Limits the computing threads of this process; to be called once, before anything computes.
pub fn use_threads(count: usize) -> anyhow::Result<()> {
    threads::set_count(count);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    pool.build_global().context("cannot set the number of threads")
}

/// Keeps the processor to the level of instructions that the environment permits; to be called before a model is loaded.
pub fn use_level(environment: &Environment) -> anyhow::Result<()> {
    if let Some(name) = &environment.cpu_level {
        set_level_limit(name.parse().context("MASUKA_CPU_LEVEL")?);
    }
    Ok(())
}

/// The level of instructions that the processor's kernels use.
pub fn level() -> Level {
    Simd::active().level()
}

/// The precision where the user names none.
pub const DEFAULT_PRECISION: Precision = Precision::Bf16;

impl Engine {
    /// Loads the model of `files`.
    pub fn load(
        files: &ModelFiles,
        compute: Compute,
        observer: &dyn StepObserver,
    ) -> anyhow::Result<Self> {
        let options = LoadOptions {
            device: compute.device.open()?,
            precision: compute.precision,
            offload: compute.offload,
            available_bytes: machine::available_bytes(compute.device),
        };
        let pipeline = FluxPipeline::load(flux_files(files), &options, observer)?;
        Ok(Self { pipeline })
    }

    /// Puts `loras` into effect; each is read and checked against the model. Says what became of each.
    pub fn use_loras(
        &mut self,
        loras: &[LoraArg],
        allow_partial: bool,
    ) -> anyhow::Result<Vec<(ImportReport, TensorCounts)>> {
        let choose = |lora: &LoraArg| {
            let adapter = Arc::new(LoraAdapter::open(&lora.file)?);
            Ok(ChosenAdapter { adapter, weight: lora.weight, allow_partial })
        };
        let chosen = loras.iter().map(choose).collect::<anyhow::Result<Vec<_>>>()?;
        let reports: Vec<_> = chosen.iter().map(|choice| choice.adapter.report()).collect();
        let counts = self.pipeline.set_adapters(chosen)?;
        Ok(reports.into_iter().zip(counts).collect())
    }

    /// What the model suggests where the user says nothing.
    pub fn defaults(&self) -> Defaults {
        self.pipeline.defaults()
    }

    /// The pixels of which width and height must be multiples.
    pub fn size_multiple(&self) -> usize {
        self.pipeline.layout().size_multiple()
    }

    /// Draws the pictures of `request`; `deliver` gets each as soon as it is there.
    pub fn generate(
        &mut self,
        request: &GenerateRequest,
        observer: &dyn StepObserver,
        deliver: &mut dyn FnMut(GeneratedPicture) -> masuka_diffusion::Result<()>,
    ) -> anyhow::Result<GenerationReport> {
        Ok(self.pipeline.generate(request, observer, deliver)?)
    }
}

/// What a picture of the model's default size takes in each memory mode, in bytes. Reads no weights.
pub fn memory_by_mode(
    files: &ModelFiles,
    device: DeviceKind,
) -> anyhow::Result<Vec<(Offload, u64)>> {
    let options = LoadOptions {
        device: device.open()?,
        precision: DEFAULT_PRECISION,
        offload: Offload::Components,
        available_bytes: None,
    };
    let pipeline = FluxPipeline::load(flux_files(files), &options, &Unobserved)?;
    let estimate = pipeline.estimate_memory(pipeline.defaults().size)?;
    let modes = [Offload::None, Offload::Components, Offload::Blocks];
    Ok(modes.map(|mode| (mode, estimate.peak(mode))).into())
}

/// Opens a model to be trained on, whose weights are not read yet.
pub fn open_for_training(files: &ModelFiles, device: DeviceKind) -> anyhow::Result<FluxPipeline> {
    let options = LoadOptions {
        device: device.open()?,
        precision: Precision::F32,
        offload: Offload::None,
        available_bytes: None,
    };
    Ok(FluxPipeline::open(flux_files(files), &options)?)
}

/// The files in the terms of the pipelines.
pub fn flux_files(files: &ModelFiles) -> FluxFiles {
    let ModelFiles { model, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, base } =
        files.clone();
    FluxFiles { model, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, base }
}
