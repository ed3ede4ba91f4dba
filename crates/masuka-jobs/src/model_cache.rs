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
    /// Gives memory that nothing uses any more back to the system.
    pub give_back: fn(),
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
    parts_source: Option<String>,
    pipeline: FluxPipeline,
}

impl Loaded {
    fn is(&self, model: &base_model::Model) -> bool {
        self.id == model.id
            && self.source == model.source
            && self.parts_source == model.parts_source
    }
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

    /// Lets go of everything, as after a panic in the engine.
    pub(crate) fn clear(&mut self) {
        self.loaded.clear();
        (self.options.give_back)();
    }

    /// Lets go of all but those that are `installed`; whether there were others.
    pub(crate) fn keep_only(&mut self, installed: &[base_model::Model]) -> bool {
        let before = self.loaded.len();
        self.loaded.retain(|loaded| installed.iter().any(|model| loaded.is(model)));
        let has_changed = self.loaded.len() < before;
        if has_changed {
            (self.options.give_back)();
        }
        has_changed
    }

    /// The pipeline of `model`, loaded now if it was not; others make room for it.
    pub(crate) fn get(
        &mut self,
        model: &base_model::Model,
        observer: &dyn StepObserver,
    ) -> anyhow::Result<&mut FluxPipeline> {
        let entry = match self.loaded.iter().position(|loaded| loaded.is(model)) {
            Some(place) => self.loaded.remove(place),
            None => {
                self.loaded.retain(|loaded| loaded.id != model.id);
                Loaded {
                    id: model.id.clone(),
                    source: model.source.clone(),
                    parts_source: model.parts_source.clone(),
                    pipeline: self.load(model, observer)?,
                }
            }
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
                    let Loaded { id, .. } = self.loaded.remove(0);
                    (self.options.give_back)();
                    tracing::info!(model = id, "unloaded to make room");
                }
                loaded => return Ok(loaded?),
            }
        }
    }
}
