//! A request's values, checked against the base model's limits and completed from its defaults.

use masuka_storage::base_models::BaseModelFacts;
use masuka_storage::entities::base_model;
use masuka_storage::generations::{GenerationSpec, LoraChoice};
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::views::generation::GenerateBody;

/// The largest seed that every JSON reader keeps exactly.
const MAX_SEED: i64 = (1 << 53) - 1;
const WEIGHTS: std::ops::RangeInclusive<f64> = -2.0..=2.0;
const PRIORITIES: std::ops::RangeInclusive<i64> = -10..=10;
const DEFAULT_LORA_WEIGHT: f64 = 0.8;
const MAX_LORAS: usize = 8;

/// The request as it will be stored.
pub(crate) fn resolve(
    body: GenerateBody,
    model: &base_model::Model,
    max_pixels: u64,
) -> ApiResult<GenerationSpec> {
    let BaseModelFacts { defaults, limits, .. } = model.facts()?;
    check_prompt("prompt", &body.prompt, limits.max_prompt_chars, 1)?;
    if let Some(negative) = &body.negative_prompt {
        check_prompt("negative_prompt", negative, limits.max_prompt_chars, 0)?;
    }
    let side = |field, value: Option<i64>, default| {
        let value = whole(field, value, limits.min_side..=limits.max_side, default)?;
        if value % limits.size_multiple == 0 {
            return Ok(value);
        }
        let message = format!("{field} {value} is not a multiple of {}", limits.size_multiple);
        Err(ApiError::invalid(field, message))
    };
    let width = side("width", body.width, defaults.width)?;
    let height = side("height", body.height, defaults.height)?;
    if width * height > max_pixels {
        let message =
            format!("width {width} times height {height} is more than {max_pixels} pixels");
        return Err(ApiError::invalid("width", message));
    }
    let sampler =
        body.sampler.unwrap_or_else(|| limits.samplers.first().cloned().unwrap_or_default());
    if !limits.samplers.contains(&sampler) {
        let message = format!("sampler `{sampler}` is not one of {}", limits.samplers.join(", "));
        return Err(ApiError::invalid("sampler", message));
    }
    let steps = ("num_inference_steps", body.num_inference_steps);
    let num_images = whole("num_images", body.num_images, 1..=limits.max_images, 1)?;
    Ok(GenerationSpec {
        true_cfg_scale: float("true_cfg_scale", body.true_cfg_scale, 1.0..=20.0, 1.0)?,
        num_inference_steps: whole(
            steps.0,
            steps.1,
            1..=limits.max_steps,
            defaults.num_inference_steps,
        )?,
        guidance_scale: float(
            "guidance_scale",
            body.guidance_scale,
            0.0..=20.0,
            defaults.guidance_scale,
        )?,
        seed: seed(body.seed, num_images)?,
        loras: loras(body.model_id, body.lora_weight, body.loras)?,
        config: config(body.config, &model.family)?,
        prompt: body.prompt,
        negative_prompt: body.negative_prompt,
        base_model: model.id.clone(),
        sampler,
        num_images,
        width,
        height,
    })
}

/// The priority, checked.
pub(crate) fn priority(value: Option<i64>) -> ApiResult<i64> {
    let value = value.unwrap_or(0);
    if PRIORITIES.contains(&value) {
        return Ok(value);
    }
    Err(ApiError::invalid("priority", format!("priority {value} is not within -10 and 10")))
}

fn check_prompt(field: &str, prompt: &str, max_chars: u64, min_chars: usize) -> ApiResult<()> {
    let chars = prompt.chars().count();
    if chars < min_chars || prompt.trim().len() < min_chars {
        return Err(ApiError::invalid(
            field,
            format!("{field} `{prompt}` is empty; say what should be seen"),
        ));
    }
    if prompt.contains('\0') {
        return Err(ApiError::invalid(field, format!("{field} holds the character NUL")));
    }
    if chars as u64 > max_chars {
        let message =
            format!("{field} of {chars} characters is longer than {max_chars} characters");
        return Err(ApiError::invalid(field, message));
    }
    Ok(())
}

fn whole(
    field: &str,
    value: Option<i64>,
    range: std::ops::RangeInclusive<u64>,
    default: u64,
) -> ApiResult<u64> {
    let Some(value) = value else { return Ok(default) };
    match u64::try_from(value) {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => {
            let message =
                format!("{field} {value} is not within {} and {}", range.start(), range.end());
            Err(ApiError::invalid(field, message))
        }
    }
}

fn float(
    field: &str,
    value: Option<f64>,
    range: std::ops::RangeInclusive<f64>,
    default: f64,
) -> ApiResult<f64> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let message = format!("{field} {value} is not within {} and {}", range.start(), range.end());
    Err(ApiError::invalid(field, message))
}

/// The seed that was asked for, or one below 2³², where every seed gives other noise.
fn seed(value: Option<i64>, num_images: u64) -> ApiResult<u64> {
    let Some(value) = value else { return Ok(Uuid::new_v4().as_u128() as u64 & 0xffff_ffff) };
    let last = MAX_SEED - (num_images as i64 - 1);
    if (0..=last).contains(&value) {
        return Ok(value.unsigned_abs());
    }
    Err(ApiError::invalid("seed", format!("seed {value} is not within 0 and {last}")))
}

fn loras(
    model_id: Option<String>,
    lora_weight: Option<f64>,
    more: Option<Vec<crate::views::generation::LoraBody>>,
) -> ApiResult<Vec<LoraChoice>> {
    let weight = float("lora_weight", lora_weight, WEIGHTS, DEFAULT_LORA_WEIGHT)?;
    let mut chosen: Vec<_> =
        model_id.into_iter().map(|model_id| LoraChoice { model_id, weight }).collect();
    for lora in more.unwrap_or_default() {
        let weight = float("loras.weight", lora.weight, WEIGHTS, DEFAULT_LORA_WEIGHT)?;
        chosen.push(LoraChoice { model_id: lora.model_id, weight });
    }
    if chosen.len() > MAX_LORAS {
        let message =
            format!("loras of {} entries, at most {MAX_LORAS} can be stacked", chosen.len());
        return Err(ApiError::invalid("loras", message));
    }
    Ok(chosen)
}

/// No family has extras so far that are not fields of their own.
fn config(
    given: Option<serde_json::Map<String, serde_json::Value>>,
    family: &str,
) -> ApiResult<serde_json::Map<String, serde_json::Value>> {
    let given = given.unwrap_or_default();
    match given.keys().next() {
        Some(key) => {
            let message =
                format!("config has an option `{key}` that models of family {family} do not know");
            Err(ApiError::invalid("config", message))
        }
        None => Ok(given),
    }
}
