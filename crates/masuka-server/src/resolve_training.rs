//! A request for a training, checked against dataset and base model and completed from what suits them.

use masuka_storage::entities::dataset_image;
use masuka_storage::queue::{NewJob, TRAINING};
use masuka_storage::trainings::{NewTraining, TrainingPicture, TrainingSpec};

use crate::app::App;
use crate::desk::{TrainingPlan, TrainingWishes};
use crate::error::{ApiError, ApiResult};
use crate::handlers::datasets::{check_name, check_trigger};
use crate::resolve;
use crate::views::training::TrainingBody;

const MODEL_TYPE: &str = "flux_image";
const OPTIMIZER: &str = "adamw";
const SAVE_EVERY: u64 = 100;
/// How often samples are drawn where the request says nothing.
const SAMPLE_TIMES: u64 = 5;
const SAMPLES: usize = 4;
const MAX_SAMPLES: usize = 16;

/// The training as it will be stored.
pub(crate) async fn resolve(app: &App, body: TrainingBody, id: &str) -> ApiResult<NewTraining> {
    check_name("name", &body.name)?;
    one_of("model_type", body.model_type.as_deref(), MODEL_TYPE)?;
    one_of("optimizer", body.optimizer.as_deref(), OPTIMIZER)?;
    let priority = resolve::priority(body.priority)?;
    let base = app.base_model(body.base_model.as_deref()).await?;
    if body.dataset_id.contains('\0') {
        return Err(ApiError::not_found("not_found", "there is no such dataset"));
    }
    let dataset = app.storage.datasets().find(&body.dataset_id).await?;
    let trigger_word = body.trigger_word.clone().or(dataset.row.trigger_word);
    trigger_word.as_deref().map(check_trigger).transpose()?;
    let images = app.storage.datasets().images(&body.dataset_id).await?;
    let pictures = pictures(images, trigger_word.as_deref(), &body.dataset_id)?;
    let wishes = wishes(&body, trigger_word.clone())?;
    let (desk, asked) = (app.desk.clone(), base.clone());
    let planned = tokio::task::spawn_blocking(move || desk.plan_training(&asked, &wishes)).await;
    let planned = planned.map_err(|_| ApiError::unavailable("the base model cannot be opened"))?;
    let plan = planned.map_err(|refused| ApiError::invalid(&refused.field, refused.message))?;
    let spec = spec(&body, plan, trigger_word, &pictures, dataset.row.name)?;
    let job = NewJob {
        id: id.to_owned(),
        queue: TRAINING,
        kind: "train_lora",
        base_model: base.id,
        priority,
        max_attempts: app.options.max_attempts,
    };
    let TrainingBody { name, dataset_id, .. } = body;
    let model_type = MODEL_TYPE.to_owned();
    Ok(NewTraining { name, model_type, dataset_id, spec, pictures, job })
}

fn one_of(field: &str, given: Option<&str>, known: &str) -> ApiResult<()> {
    match given {
        Some(given) if given != known => {
            Err(ApiError::invalid(field, format!("{field} `{given}` is not one of {known}")))
        }
        _ => Ok(()),
    }
}

/// Pictures and captions as they are; a picture without a caption is called by the trigger word alone.
fn pictures(
    images: Vec<dataset_image::Model>,
    trigger: Option<&str>,
    dataset_id: &str,
) -> ApiResult<Vec<TrainingPicture>> {
    let captions = format!("POST /api/datasets/{dataset_id}/captions");
    if images.is_empty() {
        let message = format!(
            "dataset_id `{dataset_id}` has no pictures; send some to POST /api/datasets/{dataset_id}/upload"
        );
        return Err(ApiError::invalid("dataset_id", message));
    }
    let mut pictures = Vec::with_capacity(images.len());
    let mut without = Vec::new();
    for image in images {
        let Some(caption) = image.caption.clone().or(trigger.map(str::to_owned)) else {
            let message = format!(
                "trigger_word is missing and `{}` has no caption; give a trigger_word, or captions with {captions}",
                image.file_name
            );
            return Err(ApiError::invalid("trigger_word", message));
        };
        if trigger.is_some_and(|trigger| !caption.contains(trigger)) {
            without.push(caption.clone());
        }
        pictures.push(TrainingPicture {
            file_name: image.file_name,
            blob_key: image.blob_key,
            pixel_hash: image.pixel_hash,
            width: image.width.unsigned_abs(),
            height: image.height.unsigned_abs(),
            caption,
        });
    }
    match (without.first(), trigger) {
        (Some(first), Some(trigger)) => {
            let message = format!(
                "trigger_word `{trigger}` is not in {} captions, the first is `{first}`; \
                 {captions} {{\"trigger_word\": \"{trigger}\"}} puts it in",
                without.len()
            );
            Err(ApiError::invalid("trigger_word", message))
        }
        _ => Ok(pictures),
    }
}

/// What the engine is asked for.
fn wishes(body: &TrainingBody, trigger: Option<String>) -> ApiResult<TrainingWishes> {
    Ok(TrainingWishes {
        trigger,
        rank: count("network_dim", body.network_dim)?,
        alpha: body.network_alpha,
        steps: count("steps", body.steps)?,
        learning_rate: body.learning_rate,
        lr_scheduler: body.lr_scheduler.clone(),
        warmup_steps: count("warmup_steps", body.warmup_steps)?,
        batch_size: count("batch_size", body.batch_size)?,
        gradient_accumulation: count("gradient_accumulation", body.gradient_accumulation)?,
        resolution: count("resolution", body.resolution)?,
        target_modules: body.target_modules.clone(),
        caption_dropout: body.caption_dropout,
        seed: count("seed", body.seed)?,
        draws_samples: body.sample_every != Some(0),
        config: body.config.clone().unwrap_or_default(),
    })
}

/// What is counted is not negative; upper limits are the engine's to know.
fn count(field: &str, value: Option<i64>) -> ApiResult<Option<u64>> {
    let refused = |value: i64| ApiError::invalid(field, format!("{field} {value} is below 0"));
    value.map(|value| u64::try_from(value).map_err(|_| refused(value))).transpose()
}

fn spec(
    body: &TrainingBody,
    plan: TrainingPlan,
    trigger_word: Option<String>,
    pictures: &[TrainingPicture],
    dataset_name: String,
) -> ApiResult<TrainingSpec> {
    let save_every = count("save_every", body.save_every)?.unwrap_or(SAVE_EVERY);
    if save_every == 0 {
        return Err(ApiError::invalid("save_every", "save_every 0 is not at least 1"));
    }
    let captions = || {
        let captions = pictures.iter().map(|picture| picture.caption.clone());
        captions.take(SAMPLES).collect()
    };
    let sample_prompts: Vec<String> = body.sample_prompts.clone().unwrap_or_else(captions);
    if sample_prompts.len() > MAX_SAMPLES {
        let message =
            format!("sample_prompts of {} entries, at most {MAX_SAMPLES}", sample_prompts.len());
        return Err(ApiError::invalid("sample_prompts", message));
    }
    if sample_prompts.iter().any(|prompt| prompt.trim().is_empty() || prompt.contains('\0')) {
        let message = "sample_prompts holds one that is empty or holds the character NUL";
        return Err(ApiError::invalid("sample_prompts", message));
    }
    let sample_every = count("sample_every", body.sample_every)?;
    Ok(TrainingSpec {
        sample_every: sample_every.unwrap_or_else(|| plan.steps.div_ceil(SAMPLE_TIMES)),
        trigger_word,
        recipe: plan.recipe,
        steps: plan.steps,
        save_every,
        sample_prompts,
        dataset_name,
        memory_bytes: plan.memory_bytes,
    })
}
