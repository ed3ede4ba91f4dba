//! What is loaded: base models stay between jobs as long as memory lasts; who was not used for longest leaves first.

use std::fmt;
use std::sync::Arc;

use masuka_diffusion::Error;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::observer::StepObserver;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{LoadOptions, Offload, Precision};
use masuka_storage::entities::base_model;

/// Finds the files of a base model on this machine.
pub type FindFiles = Arc<dyn Fn(&base_model::Model) -> anyhow::Result<FluxFiles> + Send + Sync>;

/// Where and how the engine computes.
#[derive(Clone)]
pub struct EngineOptions {
    /// The device.
    pub device: DeviceKind,
    /// The precision of weights and activations.
    pub precision: Precision,
    /// What stays in memory.
    pub offload: Offload,
    /// Memory that can be had, in bytes, asked before each load.
    pub available_bytes: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// Where the files of a base model are.
    pub find_files: FindFiles,
}

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, precision, offload, .. } = self;
        write!(f, "EngineOptions {{ {device}, {precision}, offload {offload} }}")
    }
}

/// A base model in memory.
struct Loaded {
    id: String,
    /// Where its files were; another revision lies elsewhere.
    source: String,
    pipeline: FluxPipeline,
}

/// The loaded base models, the last used last.
pub(crate) struct ModelCache {
    options: EngineOptions,
    loaded: Vec<Loaded>,
    loads: u64,
}

impl ModelCache {
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self { options, loaded: Vec::new(), loads: 0 }
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The base model that was used last.
    pub(crate) fn last_used(&self) -> Option<&str> {
        self.loaded.last().map(|loaded| loaded.id.as_str())
    }

    /// Ids of all that are loaded.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.loaded.iter().map(|loaded| loaded.id.clone()).collect()
    }

    /// How often a base model was loaded.
    pub(crate) fn loads(&self) -> u64 {
        self.loads
    }

    /// Forgets everything, as after a panic in the engine.
    pub(crate) fn clear(&mut self) {
        self.loaded.clear();
    }

    /// The pipeline of `model`, loaded now if it was not; others make room for it.
    pub(crate) fn get(
        &mut self,
        model: &base_model::Model,
        observer: &dyn StepObserver,
    ) -> anyhow::Result<&mut FluxPipeline> {
        let place = self.loaded.iter().position(|loaded| loaded.id == model.id);
        let known = place.map(|place| self.loaded.remove(place));
        let entry = match known.filter(|loaded| loaded.source == model.source) {
            Some(loaded) => loaded,
            None => Loaded {
                id: model.id.clone(),
                source: model.source.clone(),
                pipeline: self.load(model, observer)?,
            },
        };
        self.loaded.push(entry);
        let last = self.loaded.len() - 1;
        Ok(&mut self.loaded[last].pipeline)
    }

    fn load(
        &mut self,
        model: &base_model::Model,
        observer: &dyn StepObserver,
    ) -> anyhow::Result<FluxPipeline> {
        let files = (self.options.find_files)(model)?;
        self.loads += 1;
        loop {
            let options = LoadOptions {
                device: self.options.device.open()?,
                precision: self.options.precision,
                offload: self.options.offload,
                available_bytes: (self.options.available_bytes)(),
            };
            match FluxPipeline::load(files.clone(), &options, observer) {
                Err(Error::OutOfMemory(_)) if !self.loaded.is_empty() => {
                    let unused = self.loaded.remove(0);
                    tracing::info!(model = unused.id, "unloaded to make room");
                }
                loaded => return Ok(loaded?),
            }
        }
    }
}
