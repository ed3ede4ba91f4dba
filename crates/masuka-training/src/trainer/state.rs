//! What every step changes, and a checkpoint holds.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use sha2::{Digest, Sha256};

use super::Training;
use crate::adapter::TrainedAdapter;
use crate::checkpoint::Checkpoint;
use crate::curve::LossCurve;
use crate::dataset::BatchOrder;
use crate::encoded::EncodedPicture;
use crate::error::{Error, Result};
use crate::optimizer::{AdamW, MovingAverage};
use crate::recipe::Recipe;

/// A training between two steps.
pub(super) struct State {
    pub(super) adapter: TrainedAdapter,
    pub(super) optimizer: AdamW,
    pub(super) average: Option<MovingAverage>,
    pub(super) curve: LossCurve,
    pub(super) order: BatchOrder,
    /// The hash of the pictures and captions.
    pictures: String,
}

impl State {
    pub(super) fn start(
        training: &Training,
        pipeline: &mut FluxPipeline,
        checkpoint: Option<Checkpoint>,
        pictures: &[EncodedPicture],
        device: &Device,
    ) -> Result<Self> {
        let recipe = &training.recipe;
        let seed = recipe.seed()?;
        let hash = hash_of(pictures);
        let slots = pipeline.transformer()?.adapters();
        let buckets = pictures.iter().map(|picture| picture.bucket).collect();
        let mut order = BatchOrder::new(buckets, recipe.batch, seed);
        let Some(checkpoint) = checkpoint else {
            let adapter = TrainedAdapter::new(slots, recipe.targets, recipe.size, seed, device)?;
            let optimizer = AdamW::new(recipe.optimizer, adapter.parameters())?;
            let average = (recipe.ema_decay > 0.0)
                .then(|| MovingAverage::start(recipe.ema_decay, adapter.parameters()))
                .transpose()?;
            let curve = LossCurve::default();
            return Ok(Self { adapter, optimizer, average, curve, order, pictures: hash });
        };
        check_same(training, &checkpoint, &hash)?;
        let tensors = &checkpoint.tensors;
        let adapter =
            TrainedAdapter::from_tensors(slots, recipe.targets, recipe.size, tensors, device)?;
        let names = adapter.names();
        let all = |kind: &str| names.iter().map(|name| take(tensors, kind, name, device)).collect();
        let (means, squares): (Vec<_>, Vec<_>) = (all_of(all("mean"))?, all_of(all("square"))?);
        let moments = means.into_iter().zip(squares).map(|(mean, square)| [mean, square]);
        let optimizer = AdamW::resume(recipe.optimizer, checkpoint.step(), moments.collect());
        let average = (recipe.ema_decay > 0.0)
            .then(|| Ok::<_, Error>(MovingAverage::new(recipe.ema_decay, all_of(all("ema"))?)))
            .transpose()?;
        for _ in 0..checkpoint.step() * recipe.accumulation {
            order.next_batch()?;
        }
        let curve = LossCurve::new(checkpoint.losses);
        Ok(Self { adapter, optimizer, average, curve, order, pictures: hash })
    }

    /// What the finished adapter would be if this step were the last.
    pub(super) fn values(&self) -> Vec<Tensor> {
        match &self.average {
            Some(average) => average.values().to_vec(),
            None => {
                self.adapter.parameters().iter().map(candle_core::Var::as_detached_tensor).collect()
            }
        }
    }

    pub(super) fn checkpoint(&self, recipe: &Recipe) -> Checkpoint {
        let names = self.adapter.names();
        let mut tensors = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            let [mean, square] = &self.optimizer.moments()[index];
            let value = self.adapter.parameters()[index].as_detached_tensor();
            tensors.insert(name.clone(), value);
            tensors.insert(format!("mean.{name}"), mean.clone());
            tensors.insert(format!("square.{name}"), square.clone());
            if let Some(average) = &self.average {
                tensors.insert(format!("ema.{name}"), average.values()[index].clone());
            }
        }
        let (pictures, losses) = (self.pictures.clone(), self.curve.losses().to_vec());
        Checkpoint { recipe: recipe.clone(), pictures, losses, tensors }
    }
}

fn all_of(tensors: Vec<Result<Tensor>>) -> Result<Vec<Tensor>> {
    tensors.into_iter().collect()
}

fn take(
    tensors: &HashMap<String, Tensor>,
    kind: &str,
    name: &str,
    device: &Device,
) -> Result<Tensor> {
    let name = format!("{kind}.{name}");
    match tensors.get(&name) {
        Some(tensor) => Ok(tensor.to_device(device)?),
        None => Err(Error::invalid("tensor", format!("`{name}`"), "is missing in the checkpoint")),
    }
}

fn check_same(training: &Training, checkpoint: &Checkpoint, pictures: &str) -> Result<()> {
    if checkpoint.recipe != training.recipe {
        let message =
            "holds a checkpoint of another recipe; resume with the parameters of its start";
        return Err(Error::unusable(training.checkpoints(), message));
    }
    if checkpoint.pictures != pictures {
        let message = "are not those of the checkpoint: pictures, captions or the base model have changed; \
                       start a new training";
        return Err(Error::unusable(&training.dataset_name, message));
    }
    Ok(())
}

/// Says which pictures and captions were encoded by which model.
fn hash_of(pictures: &[EncodedPicture]) -> String {
    let mut hash = Sha256::new();
    for picture in pictures {
        hash.update(picture.key());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
