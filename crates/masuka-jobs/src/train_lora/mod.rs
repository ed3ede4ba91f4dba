//! A job: pictures and captions become a registered adapter. It goes on from the last published checkpoint, whoever wrote
//! that; what is written carries the lease's epoch in its key or is under the lease in the database.

mod progress; // what is published meanwhile, and what interrupts

use std::path::{Path, PathBuf};
use std::sync::Arc;

use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{LoadOptions, Offload};
use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::lora_model;
use masuka_storage::trainings::{Training as Session, TrainingSpec};
use masuka_storage::{Storage, base_models};
use masuka_training::checkpoint::Checkpoint;
use masuka_training::dataset::{CaptionedPicture, Dataset};
use masuka_training::fingerprint;
use masuka_training::recipe::Recipe;
use masuka_training::samples::Samples;
use masuka_training::trainer::{Outcome, Training};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::failure::Ending;
use crate::model_cache::EngineOptions;

pub(crate) use progress::{Losses, TrainingWatch, Turn};

/// The kind of these jobs in the queue.
pub(crate) const KIND: &str = "train_lora";
/// The most points of the loss curve that an adapter carries with it.
const CURVE_POINTS: usize = 1000;

/// A training with all that it needs; runs on a thread of its own.
pub(crate) struct TrainLora {
    storage: Storage,
    runtime: Arc<Runtime>,
    session: Session,
    spec: TrainingSpec,
    recipe: Recipe,
    files: FluxFiles,
    device: DeviceKind,
    available_bytes: Option<u64>,
}

/// An adapter that is stored and not registered yet.
pub(crate) struct Trained {
    pub(crate) model: lora_model::Model,
}

impl TrainLora {
    /// Reads what was asked for.
    pub(crate) fn open(
        storage: &Storage,
        runtime: &Arc<Runtime>,
        options: &EngineOptions,
        job_id: &str,
    ) -> Result<Self, Ending> {
        let session = runtime.block_on(storage.trainings().find(job_id))?;
        let spec = session.spec()?;
        let base = &session.row.base_model;
        let base = runtime.block_on(base_models::find(storage.database(), base))?;
        let recipe = serde_json::from_value(spec.recipe.clone()).map_err(|error| {
            let message = format!("its recipe is of another version: {error}; ask for it again");
            Ending::failed("invalid_value", message)
        })?;
        Ok(Self {
            storage: storage.clone(),
            runtime: runtime.clone(),
            recipe,
            files: (options.find_files)(&base)?,
            device: options.device,
            available_bytes: (options.available_bytes)(),
            session,
            spec,
        })
    }

    /// Trains to the end, or until something interrupts.
    pub(crate) fn run(self, watch: &TrainingWatch) -> Result<Trained, Ending> {
        watch.stage("preparing");
        let shared = self.storage.training_folder().join(&self.session.row.id);
        let run_folder = shared.join(watch.lease.epoch.to_string());
        let ending = self.train(&shared, &run_folder, watch);
        // What is worth keeping was published.
        remove(if ending.is_ok() { &shared } else { &run_folder });
        ending
    }

    fn train(
        &self,
        shared: &Path,
        run_folder: &Path,
        watch: &TrainingWatch,
    ) -> Result<Trained, Ending> {
        let output = run_folder.join("adapter.safetensors");
        let training = Training {
            dataset: self.dataset()?,
            dataset_name: self.spec.dataset_name.clone(),
            output: output.clone(),
            run_folder: run_folder.to_owned(),
            cache_folder: shared.join("cache"),
            recipe: self.recipe.clone(),
            save_every: self.spec.save_every as usize,
            samples: Samples {
                every: self.spec.sample_every as usize,
                prompts: self.spec.sample_prompts.clone(),
                seed: self.recipe.seed,
                side: self.recipe.resolution,
            },
            base_model: self.session.row.base_model.clone(),
            model_fingerprint: self.fingerprint()?,
            available_bytes: self.available_bytes,
            software: concat!("masuka ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let options = LoadOptions {
            device: self.device.open()?,
            precision: self.recipe.dtype,
            offload: Offload::None,
            available_bytes: None, // the training makes its own estimate
        };
        let mut pipeline = FluxPipeline::open(self.files.clone(), &options)?;
        match training.run(&mut pipeline, self.checkpoint()?, watch)? {
            Outcome::Finished { loss } => {
                watch.flush();
                self.runtime.block_on(self.store(&output, loss))
            }
            Outcome::Stopped { .. } => {
                watch.flush();
                Err(Ending::Interrupted)
            }
        }
    }

    /// Pictures and captions as they were when the training was asked for.
    fn dataset(&self) -> Result<Dataset, Ending> {
        let mut dataset = Dataset::default();
        for picture in self.session.pictures()? {
            let key = BlobKey::parse(&picture.blob_key)?;
            let copy = self.storage.local_copy(&key, &picture.pixel_hash);
            dataset.pictures.push(CaptionedPicture {
                path: self.runtime.block_on(copy)?,
                name: picture.file_name,
                caption: picture.caption,
                width: picture.width as usize,
                height: picture.height as usize,
            });
        }
        Ok(dataset)
    }

    fn fingerprint(&self) -> Result<String, Ending> {
        let FluxFiles { model, vae, text_encoder, text_encoder_2, base, .. } = &self.files;
        let others = [vae, text_encoder, text_encoder_2, base].into_iter().flatten();
        let all = std::iter::once(model).chain(others).map(PathBuf::as_path);
        Ok(fingerprint::of(all)?)
    }

    /// The latest published checkpoint that can be read.
    fn checkpoint(&self) -> Result<Option<Checkpoint>, Ending> {
        let mut error = None;
        for row in self.session.checkpoints.iter().rev() {
            let read = || -> Result<Checkpoint, Ending> {
                let key = BlobKey::parse(&row.blob_key)?;
                let name = row.blob_key.replace('/', "-");
                let file = self.runtime.block_on(self.storage.local_copy(&key, &name))?;
                Ok(Checkpoint::read(&file)?)
            };
            match read() {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => error = Some(e),
            }
        }
        error.map_or(Ok(None), Err)
    }

    /// Stores the finished adapter with its last samples.
    async fn store(&self, file: &Path, loss: f64) -> Result<Trained, Ending> {
        let id = Uuid::now_v7().to_string();
        let key = BlobKey::parse(&format!("models/{id}/lora.safetensors"))?;
        let unreadable = |e| Ending::from(masuka_storage::Error::io(file, e));
        let content = std::fs::read(file).map_err(unreadable)?;
        let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = content.len() as i64;
        self.storage.blobs().put(&key, content).await?;
        let Session { row, .. } = &self.session;
        let model = lora_model::Model {
            name: row.name.clone(),
            version: "1.0".into(),
            model_type: row.model_type.clone(),
            base_model: Some(row.base_model.clone()),
            trigger_word: self.spec.trigger_word.clone(),
            notes: None,
            rank: Some(self.recipe.size.rank as i64),
            alpha: Some(self.recipe.size.alpha),
            bytes,
            sha256,
            format: "diffusers".into(),
            metadata: self.metadata(&id, loss).await?.to_string(),
            blob_key: key.to_string(),
            training_session_id: Some(row.id.clone()),
            created_at_ms: 0,
            deleted_at_ms: None,
            id,
        };
        Ok(Trained { model })
    }

    /// What the adapter tells of itself: it outlives the training.
    async fn metadata(&self, model_id: &str, loss: f64) -> Result<Json, Ending> {
        let session = self.storage.trainings().find(&self.session.row.id).await?;
        let curve = self.storage.trainings().losses(&session.row.id).await?;
        let every = curve.len().div_ceil(CURVE_POINTS).max(1);
        let curve = curve.iter().rev().step_by(every).rev();
        let curve = curve.map(|point| json!([point.step, point.loss, point.smoothed_loss]));
        let last = session.samples.last().map(|sample| sample.step);
        let mut samples = Vec::new();
        for sample in session.samples.iter().filter(|sample| Some(sample.step) == last) {
            let name = format!("models/{model_id}/sample_{}.png", sample.position + 1);
            let picture = self.storage.blobs().get(&BlobKey::parse(&sample.blob_key)?).await?;
            self.storage.blobs().put(&BlobKey::parse(&name)?, picture).await?;
            samples.push(json!({ "prompt": sample.prompt, "blob_key": name }));
        }
        let pictures = self.session.pictures()?.len();
        Ok(json!({
            "training_parameters": self.spec.recipe,
            "dataset": {
                "id": session.row.dataset_id, "name": self.spec.dataset_name, "pictures": pictures,
            },
            "final_loss": loss,
            "loss_curve": curve.collect::<Vec<_>>(),
            "samples": samples,
        }))
    }
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("`{}` is left behind: {error}", folder.display());
        }
        _ => {}
    }
}
