//! Live previews: a small JPEG of the predicted picture, as a `data:` URL that travels with the progress. It is made at
//! most twice a second, whatever the speed of the steps.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use masuka_diffusion::observer::{StepObserver, StepProgress};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::vaes::PreviewFactors;
use masuka_storage::entities::base_model;
use masuka_storage::{Storage, settings};
use tokio::runtime::Runtime;

/// Browsers show no more, and a message must fit a datagram of 64 KiB.
const MAX_SIDE: u32 = 128;
const QUALITY: u8 = 70;
const PAUSE: Duration = Duration::from_millis(500);

/// The factors of a base model: kept in the database, fitted when they are not there.
///
/// # Errors
/// When the autoencoder cannot be used or the database is gone.
pub(crate) fn factors_of(
    storage: &Storage,
    runtime: &Runtime,
    model: &base_model::Model,
    pipeline: &mut FluxPipeline,
    observer: &dyn StepObserver,
) -> anyhow::Result<PreviewFactors> {
    let name = format!("preview_factors {} {}", model.id, model.source);
    let kept = runtime.block_on(settings::get(storage.database(), &name))?;
    if let Some(factors) = kept.and_then(|text| serde_json::from_str(&text).ok()) {
        return Ok(factors);
    }
    let start = Instant::now();
    let factors = pipeline.preview_factors(observer)?;
    let text = serde_json::to_string(&factors)?;
    runtime.block_on(settings::set(storage.database(), &name, &text))?;
    tracing::info!(model = model.id, seconds = start.elapsed().as_secs_f64(), "previews fitted");
    Ok(factors)
}

/// The previews of one job.
pub(crate) struct Previews {
    factors: PreviewFactors,
    latest: Option<Latest>,
}

struct Latest {
    image: usize,
    made: Instant,
    url: String,
}

impl Previews {
    pub(crate) fn new(factors: PreviewFactors) -> Self {
        Self { factors, latest: None }
    }

    /// The preview after `step`: a new one if the last is old or of another picture.
    pub(crate) fn after(&mut self, step: &StepProgress<'_>) -> Option<&str> {
        let is_fresh =
            |latest: &Latest| latest.image == step.image && latest.made.elapsed() < PAUSE;
        if !self.latest.as_ref().is_some_and(is_fresh) {
            match self.factors.render(step.predicted).map_err(anyhow::Error::from).and_then(to_url)
            {
                Ok(url) => {
                    self.latest = Some(Latest { image: step.image, made: Instant::now(), url });
                }
                Err(error) => tracing::debug!("no preview: {error:#}"),
            }
        }
        self.latest.as_ref().map(|latest| latest.url.as_str())
    }
}

fn to_url(picture: RgbImage) -> anyhow::Result<String> {
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    let small = if longer > MAX_SIDE {
        let side = |pixels: u32| (pixels * MAX_SIDE / longer).max(1);
        image::imageops::thumbnail(&picture, side(width), side(height))
    } else {
        picture
    };
    let mut bytes = Vec::new();
    small.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
