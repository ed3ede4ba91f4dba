//! Answers of the engine for the server, which knows none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use masuka_diffusion::adapters::{ExportFormat, Fit, LoraAdapter};
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::pipelines::{LoadOptions, Offload, Precision};
use masuka_diffusion::tokenizers::TokenizedPrompt;
use masuka_diffusion::weights::summary::CheckpointSummary;
use masuka_server::desk::{
    BaseModelFiles, EngineDesk, LoraFacts, PictureFacts, PictureSize, Refusal, TensorCounts,
    TokenCount, TokenCounts, TrainingPlan, TrainingSizes, TrainingWishes,
};
use masuka_storage::base_models::NewBaseModel;
use masuka_storage::entities::base_model;
use masuka_training::dataset::{self, Buckets};
use serde_json::json;

use super::{registry, training_plan};
use crate::engine;
use crate::environment::Environment;
use crate::machine::{Memory, Processor};

/// The header's keys that name the trigger word, by the trainers that write them.
const TRIGGER_KEYS: [&str; 3] = ["trigger_word", "modelspec.trigger_phrase", "trigger"];

/// Where the files of a base model are, and those that it lacks.
type Sources = (String, Option<String>);

fn sources(model: &base_model::Model) -> Sources {
    (model.source.clone(), model.parts_source.clone())
}

/// Answers from what lies on this machine. Weights are never loaded here.
pub struct Desk {
    environment: Environment,
    /// Models without weights: configuration and tokenizers.
    opened: Mutex<HashMap<Sources, FluxPipeline>>,
}

impl Desk {
    /// Answers for the models that `environment` knows.
    pub fn new(environment: &Environment) -> Self {
        Self { environment: environment.clone(), opened: Mutex::default() }
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Sources, FluxPipeline>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `question` finds in a model, which is opened once.
    fn ask<T>(
        &self,
        model: &base_model::Model,
        question: impl FnOnce(&FluxPipeline) -> T,
    ) -> Result<T, String> {
        let mut opened = self.opened();
        let pipeline = match opened.entry(sources(model)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                free.insert(self.open(model).map_err(|error| format!("{error:#}"))?)
            }
        };
        Ok(question(pipeline))
    }

    fn open(&self, model: &base_model::Model) -> anyhow::Result<FluxPipeline> {
        let options = LoadOptions {
            device: DeviceKind::Cpu.open()?,
            precision: Precision::F32,
            offload: Offload::Components,
            available_bytes: None,
        };
        let files = registry::files_of(model, &self.environment)?;
        Ok(FluxPipeline::open(files, &options)?)
    }
}

/// The conventions that LoRA are written in, by their names in the HTTP interface.
const EXPORTS: [(&str, ExportFormat); 3] = [
    ("diffusers", ExportFormat::Diffusers),
    ("kohya", ExportFormat::Kohya),
    ("comfyui", ExportFormat::ComfyUi),
];

impl EngineDesk for Desk {
    fn count_tokens(&self, model: &base_model::Model, prompt: &str) -> Result<TokenCounts, String> {
        let tokens = self.ask(model, |pipeline| pipeline.tokenize(prompt))?;
        let tokens = tokens.map_err(|error| error.to_string())?;
        Ok(TokenCounts { t5: count(tokens.t5), clip: count(tokens.clip) })
    }

    fn examine_base_model(&self, files: &BaseModelFiles, id: &str) -> Result<NewBaseModel, String> {
        let examined = registry::examine(&self.environment, files, Some(id));
        let is_alone = files.path.is_file() && files.parts.is_none();
        let remedy = match is_alone {
            true => "; `base` names an installed base model that gives what a file lacks",
            false => "",
        };
        examined.map_err(|error| format!("{error:#}{remedy}"))
    }

    fn close_base_model(&self, model: &base_model::Model) {
        self.opened().remove(&sources(model));
    }

    fn examine_lora(&self, file: &Path, model: &base_model::Model) -> Result<LoraFacts, String> {
        let own_words = |error: masuka_diffusion::Error| {
            error.to_string().replace(&format!("`{}`: ", file.display()), "file ")
        };
        let adapter = LoraAdapter::open(file).map_err(own_words)?;
        let Fit { counts, first_unknown } =
            self.ask(model, |pipeline| pipeline.fit(&adapter))?.map_err(own_words)?;
        let summary = CheckpointSummary::read(file).map_err(own_words)?;
        let report = adapter.report();
        let only = |mut values: Vec<f64>| values.pop().filter(|_| values.is_empty());
        let rank = only(report.ranks.keys().map(|rank| *rank as f64).collect());
        let trigger = TRIGGER_KEYS.into_iter().find_map(|key| summary.metadata.get(key));
        Ok(LoraFacts {
            format: report.format.to_string(),
            rank: rank.map(|rank| rank as u64),
            alpha: only(report.alphas.clone()),
            trigger_word: trigger.cloned(),
            header: json!(summary.metadata),
            tensors: TensorCounts {
                applied: counts.applied as u64,
                ignored: counts.ignored as u64,
                unknown: counts.unknown as u64,
            },
            first_unknown,
        })
    }

    fn examine_picture(&self, file: &Path) -> Result<PictureFacts, String> {
        let examined = dataset::examine(file)?;
        let (width, height) = (examined.width as u64, examined.height as u64);
        Ok(PictureFacts {
            size: PictureSize { width, height },
            pixel_hash: examined.pixel_hash,
            extension: examined.extension,
            upright: examined.upright,
            thumbnail: examined.thumbnail,
        })
    }

    fn buckets(&self, sizes: &TrainingSizes, pictures: &[PictureSize]) -> Vec<Option<PictureSize>> {
        let buckets = Buckets::new(sizes.resolution as usize, sizes.multiple as usize);
        let nearest = |picture: &PictureSize| {
            let bucket = buckets.nearest(picture.width as usize, picture.height as usize)?;
            let (width, height) = (bucket.width as u64, bucket.height as u64);
            Some(PictureSize { width, height })
        };
        pictures.iter().map(nearest).collect()
    }

    fn export_lora(&self, file: &Path, format: &str, into: &Path) -> Result<(), String> {
        let known = EXPORTS.into_iter().find(|(name, _)| *name == format);
        let (_, format) = known.ok_or_else(|| {
            let names = EXPORTS.map(|(name, _)| name).join(", ");
            format!("format `{format}` is not one of {names}")
        })?;
        let adapter = LoraAdapter::open(file).map_err(|error| error.to_string())?;
        let exported = adapter.export(format).map_err(|error| error.to_string())?;
        exported.save(into).map_err(|error| error.to_string())
    }

    fn plan_training(
        &self,
        model: &base_model::Model,
        wishes: &TrainingWishes,
    ) -> Result<TrainingPlan, Refusal> {
        let unusable = |error: anyhow::Error| Refusal {
            field: "base_model".into(),
            message: format!("base_model `{}` cannot be trained on: {error:#}", model.id),
        };
        let pipeline = self.open(model).map_err(unusable)?;
        training_plan::plan(pipeline, wishes)
    }

    fn machine(&self) -> serde_json::Value {
        let Processor { model, features, threads } = Processor::detect();
        let devices = DeviceKind::ALL.into_iter().filter(|kind| kind.compiled_in());
        json!({
            "processor": model,
            "features": features,
            "threads": threads,
            "kernels": engine::level().name(),
            "devices": devices.map(DeviceKind::name).collect::<Vec<_>>(),
            "memory": Memory::detect().map(|memory| json!({
                "total_bytes": memory.total_bytes,
                "available_bytes": memory.available_bytes,
            })),
        })
    }
}

fn count(prompt: TokenizedPrompt) -> TokenCount {
    TokenCount {
        tokens: prompt.used as u64,
        max_tokens: prompt.ids.len() as u64,
        cut_tokens: prompt.cut_tokens as u64,
        cut: prompt.cut,
    }
}
