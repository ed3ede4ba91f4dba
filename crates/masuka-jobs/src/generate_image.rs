//! A job: a stored request becomes pictures in storage. What is written carries the lease's epoch in its key; nothing
//! is published before the fenced finish.

use std::time::Instant;

use masuka_diffusion::adapters::ChosenAdapter;
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::StepObserver;
use masuka_diffusion::pictures::{LoraUse, Parameters, RgbImage, encode_png};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, Guidance, Negative, PictureSize, Timings,
};
use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::output;
use masuka_storage::generations::{GenerationReport, GenerationSpec};
use masuka_storage::queue::Lease;
use masuka_storage::{Storage, base_models};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::failure::Ending;
use crate::lora_cache::{LoraCache, OpenLora};
use crate::model_cache::ModelCache;
use crate::previews::{self, Previews};
use crate::watch::Watch;

/// The kind of these jobs in the queue.
pub(crate) const KIND: &str = "generate_image";
/// The longer side of a thumbnail, in pixels.
const THUMBNAIL_SIDE: u32 = 384;
const THUMBNAIL_QUALITY: u8 = 82;

/// A request with all that it needs.
pub(crate) struct GenerateImage<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) runtime: &'a Runtime,
    pub(crate) models: &'a mut ModelCache,
    pub(crate) watch: &'a Watch,
}

/// What is to be published.
pub(crate) struct Pictures {
    pub(crate) outputs: Vec<output::Model>,
    pub(crate) report: GenerationReport,
    /// Sampler steps of all of them.
    pub(crate) steps: u64,
}

impl GenerateImage<'_> {
    /// Draws and stores the pictures of the job.
    pub(crate) fn run(self) -> Result<Pictures, Ending> {
        let Self { storage, runtime, models, watch } = self;
        let lease = &watch.lease;
        let generation = runtime.block_on(storage.generations().find(&lease.job_id))?;
        let spec = generation.spec()?;
        let model = runtime.block_on(base_models::find(storage.database(), &spec.base_model))?;
        let (adapters, loras) = open_loras(storage, runtime, models.loras(), &spec)?;
        let request = to_request(&spec)?;
        let precision = models.options().precision;
        let parameters = describe(&spec, &request, precision.name(), loras);
        let (loads, start) = (models.loads(), Instant::now());
        let pipeline = models.get(&model, Some(request.size), watch)?;
        let waited = start.elapsed();
        pipeline.set_adapters(adapters)?;
        match previews::factors_of(storage, runtime, &model, pipeline, watch) {
            Ok(factors) => watch.show_previews(Previews::new(factors)),
            Err(_) if !watch.proceed() => {} // what follows ends, too
            Err(error) => tracing::warn!(job = lease.job_id, "no previews: {error}"),
        }

        let (mut outputs, mut lost) = (Vec::new(), None);
        let mut deliver = |picture: GeneratedPicture| {
            match runtime.block_on(store(storage, lease, &picture, &parameters)) {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    lost = Some(Ending::not_stored(&error));
                    return Err(masuka_diffusion::Error::Cancelled);
                }
            }
            Ok(())
        };
        let generated = pipeline.generate(&request, watch, &mut deliver);
        if let Some(ending) = lost {
            return Err(ending);
        }
        let mut told = generated?;
        if models.loads() > loads {
            told.timings.load += waited;
        }
        let report = GenerationReport {
            t5_tokens: told.t5_tokens as u64,
            clip_tokens: told.clip_tokens as u64,
            warnings: told.warnings,
            timings: seconds(told.timings),
        };
        Ok(Pictures { outputs, report, steps: spec.num_inference_steps * spec.num_images })
    }
}

/// The stored request in the engine's terms.
fn to_request(spec: &GenerationSpec) -> Result<GenerateRequest, Ending> {
    let negative = spec.negative_prompt.clone();
    Ok(GenerateRequest {
        prompt: spec.prompt.clone(),
        guidance: Guidance {
            embedded: spec.guidance_scale,
            negative: negative.map(|prompt| Negative { prompt, scale: spec.true_cfg_scale }),
        },
        steps: spec.num_inference_steps as usize,
        sampler: spec.sampler.parse()?,
        size: PictureSize { width: spec.width as usize, height: spec.height as usize },
        seed: Seed::new(spec.seed)?,
        num_images: spec.num_images as usize,
    })
}

type Loras = (Vec<ChosenAdapter>, Vec<LoraUse>);

/// The adapters of a request, and what its pictures will say about them.
fn open_loras(
    storage: &Storage,
    runtime: &Runtime,
    cache: &mut LoraCache,
    spec: &GenerationSpec,
) -> Result<Loras, Ending> {
    let (mut adapters, mut uses) = (Vec::new(), Vec::new());
    for choice in &spec.loras {
        let model = runtime.block_on(storage.lora_models().find(&choice.model_id))?;
        let OpenLora { adapter, autov3 } = match cache.find(&model.sha256) {
            Some(lora) => lora,
            None => {
                let key = BlobKey::parse(&model.blob_key)?;
                let file = runtime.block_on(storage.local_copy(&key, &model.sha256))?;
                cache.open(&model, &file)?
            }
        };
        adapters.push(ChosenAdapter { adapter, weight: choice.weight, allow_partial: true });
        uses.push(LoraUse {
            file: format!("{}.safetensors", model.name),
            weight: choice.weight,
            sha256: Some(model.sha256),
            autov3: Some(autov3),
        });
    }
    Ok((adapters, uses))
}

/// What every picture of the request will say about itself, but for its own seed.
fn describe(
    spec: &GenerationSpec,
    request: &GenerateRequest,
    dtype: &str,
    loras: Vec<LoraUse>,
) -> Parameters {
    Parameters {
        prompt: spec.prompt.clone(),
        negative: spec.negative_prompt.clone(),
        true_cfg: Some(request.guidance.negative.as_ref().map_or(1.0, |negative| negative.scale)),
        seed: Some(spec.seed),
        steps: Some(request.steps),
        sampler: Some(spec.sampler.clone()),
        guidance: Some(spec.guidance_scale),
        width: Some(request.size.width),
        height: Some(request.size.height),
        model: Some(spec.base_model.clone()),
        dtype: Some(dtype.to_owned()),
        loras,
        version: Some(concat!("masuka ", env!("CARGO_PKG_VERSION")).to_owned()),
    }
}

/// Stores a picture and its thumbnail under the lease's epoch.
async fn store(
    storage: &Storage,
    lease: &Lease,
    picture: &GeneratedPicture,
    parameters: &Parameters,
) -> anyhow::Result<output::Model> {
    let number = picture.index + 1;
    let key = |name: String| BlobKey::picture(&lease.job_id, lease.epoch, &name);
    let (png_key, thumbnail_key) =
        (key(format!("image_{number}.png"))?, key(format!("image_{number}_small.jpg"))?);
    let seed = picture.seed.value();
    let rgb = picture.picture.to_rgb8();
    let png = encode_png(&rgb, &Parameters { seed: Some(seed), ..parameters.clone() })?;
    let output = output::Model {
        job_id: lease.job_id.clone(),
        position: picture.index as i64,
        blob_key: png_key.to_string(),
        thumbnail_key: Some(thumbnail_key.to_string()),
        seed: seed as i64,
        width: rgb.width().into(),
        height: rgb.height().into(),
        bytes: png.len() as i64,
        sha256: hex(&Sha256::digest(&png)),
    };
    storage.blobs().put(&thumbnail_key, thumbnail(&rgb)?).await?;
    storage.blobs().put(&png_key, png).await?;
    Ok(output)
}

fn thumbnail(picture: &RgbImage) -> anyhow::Result<Vec<u8>> {
    let (width, height) = picture.dimensions();
    let scale = f64::from(THUMBNAIL_SIDE) / f64::from(width.max(height).max(THUMBNAIL_SIDE));
    let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
    let small = image::imageops::thumbnail(picture, side(width), side(height));
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL_QUALITY);
    small.write_with_encoder(encoder)?;
    Ok(bytes)
}

fn seconds(timings: Timings) -> std::collections::BTreeMap<String, f64> {
    let stages = [
        ("load", timings.load),
        ("encode_prompt", timings.encode_prompt),
        ("denoise", timings.denoise),
        ("decode_latents", timings.decode_latents),
    ];
    stages.into_iter().map(|(name, time)| (name.to_owned(), time.as_secs_f64())).collect()
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
