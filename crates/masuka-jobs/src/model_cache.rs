//! What is loaded: base models stay between jobs as long as memory lasts; who was not used for longest leaves first.

use std::fmt;
use std::sync::Arc;

use masuka_diffusion::Error;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::observer::StepObserver;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{LoadOptions, Offload, PictureSize, Precision};
use masuka_storage::entities::{base_model, lora_model};

use crate::lora_cache::LoraCache;

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
    loras: LoraCache,
}

impl ModelCache {
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self { options, loaded: Vec::new(), loads: 0, loras: LoraCache::default() }
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The LoRA that were used lately.
    pub(crate) fn loras(&mut self) -> &mut LoraCache {
        &mut self.loras
    }

    /// How often a file of a LoRA was read.
    pub(crate) fn lora_loads(&self) -> u64 {
        self.loras.loads()
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

    /// Whether no base model is loaded.
    pub(crate) fn is_empty(&self) -> bool {
        self.loaded.is_empty()
    }

    /// Lets go of everything, as after a panic in the engine.
    pub(crate) fn clear(&mut self) {
        self.loaded.clear();
        self.loras.clear();
        (self.options.give_back)();
    }

    /// Lets go of all but what is `installed` and `imported`; whether there were other base models.
    pub(crate) fn keep_only(
        &mut self,
        installed: &[base_model::Model],
        imported: &[lora_model::Model],
    ) -> bool {
        self.loras.keep_only(imported);
        let before = self.loaded.len();
        self.loaded.retain(|loaded| installed.iter().any(|model| loaded.is(model)));
        let has_changed = self.loaded.len() < before;
        if has_changed {
            (self.options.give_back)();
        }
        has_changed
    }

    /// The pipeline of `model`, loaded now if it was not; others make room for it, and for a picture of `size`.
    pub(crate) fn get(
        &mut self,
        model: &base_model::Model,
        size: Option<PictureSize>,
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
        if let Some(size) = size {
            self.make_room(size)?;
        }
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
                Err(Error::OutOfMemory(_)) if self.let_go(0) => {}
                loaded => return Ok(loaded?),
            }
        }
    }

    /// Lets others go until the base model that was used last has room for a picture of `size`.
    fn make_room(&mut self, size: PictureSize) -> masuka_diffusion::Result<()> {
        let mut is_first = true;
        loop {
            let free_bytes = (self.options.available_bytes)();
            let Some(last) = self.loaded.last_mut() else { return Ok(()) };
            last.pipeline.grant(free_bytes)?;
            match last.pipeline.check_room(size) {
                // What former pictures took counts as taken until it is given back.
                Err(Error::OutOfMemory(_)) if is_first => (self.options.give_back)(),
                Err(Error::OutOfMemory(_)) if self.let_go(1) => {}
                checked => return checked,
            }
            is_first = false;
        }
    }

    /// Lets go of the LoRA, then of a base model, but of none of the `kept` that were used last; whether there was one.
    fn let_go(&mut self, kept: usize) -> bool {
        if self.loras.clear() {
            tracing::info!("LoRA are let go to make room");
        } else if self.loaded.len() > kept {
            let Loaded { id, .. } = self.loaded.remove(0);
            tracing::info!(model = id, "unloaded to make room");
        } else {
            return false;
        }
        (self.options.give_back)();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use masuka_diffusion::observer::Unobserved;

    use super::*;

    const PLENTY: u64 = 64 << 30;
    const LITTLE: u64 = 1 << 20;
    const LARGE: PictureSize = PictureSize { width: 1024, height: 1024 };
    /// What the machine has left, and how much that is each time something is given back.
    static FREE: AtomicU64 = AtomicU64::new(PLENTY);
    static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);
    static HELPS_AT: AtomicU64 = AtomicU64::new(u64::MAX);

    fn give_back() {
        let count = GIVEN_BACK.fetch_add(1, Ordering::SeqCst) + 1;
        if count == HELPS_AT.load(Ordering::SeqCst) {
            FREE.store(PLENTY, Ordering::SeqCst);
        }
    }

    /// Little is left, until memory is given back for the `count`th time.
    fn little_until(count: u64) {
        FREE.store(LITTLE, Ordering::SeqCst);
        GIVEN_BACK.store(0, Ordering::SeqCst);
        HELPS_AT.store(count, Ordering::SeqCst);
    }

    fn cache() -> ModelCache {
        let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
        ModelCache::new(EngineOptions {
            device: DeviceKind::Cpu,
            precision: Precision::Bf16,
            offload: Offload::None,
            available_bytes: Arc::new(|| Some(FREE.load(Ordering::SeqCst))),
            give_back,
            find_files: Arc::new(move |_| Ok(FluxFiles::folder(&starter))),
        })
    }

    fn model(id: &str) -> base_model::Model {
        let text = String::new;
        base_model::Model {
            id: id.into(),
            family: text(),
            name: text(),
            source: text(),
            parts_source: None,
            facts: text(),
            created_at_ms: 0,
        }
    }

    #[test]
    fn others_leave_when_a_large_picture_needs_their_room() {
        let mut cache = cache();
        let draw = |cache: &mut ModelCache, id| {
            cache.get(&model(id), Some(LARGE), &Unobserved).map(|_| ())
        };
        draw(&mut cache, "a").unwrap();
        draw(&mut cache, "b").unwrap();
        assert_eq!(cache.ids(), ["a", "b"]);
        little_until(1); // what former pictures took is enough
        draw(&mut cache, "b").unwrap();
        assert_eq!(cache.ids(), ["a", "b"]);
        little_until(2);
        draw(&mut cache, "b").unwrap();
        assert_eq!(cache.ids(), ["b"]);
        little_until(u64::MAX);
        let error = draw(&mut cache, "b").unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::OutOfMemory(_))), "{error}");
        assert_eq!((cache.ids(), cache.loads()), (vec!["b".to_owned()], 2));
    }
}
