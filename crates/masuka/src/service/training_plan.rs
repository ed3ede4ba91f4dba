//! A training as wished, completed from what suits the base model, and checked before anything is queued.

use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_server::desk::{Refusal, TrainingPlan, TrainingWishes};
use masuka_training::Error;
use masuka_training::gradients::Keep;
use masuka_training::recipe::Recipe;
use masuka_training::trainer::estimate_memory;
use serde_json::Value as Json;

use crate::machine::Memory;

/// The engine's names of parameters, and those of the HTTP interface where they differ.
const NAMES: [(&str, &str); 5] = [
    ("trigger", "trigger_word"),
    ("rank", "network_dim"),
    ("alpha", "network_alpha"),
    ("batch", "batch_size"),
    ("targets", "target_modules"),
];
/// What `config` may hold.
const CONFIG: [&str; 9] = [
    "beta1",
    "beta2",
    "eps",
    "weight_decay",
    "max_grad_norm",
    "ema_decay",
    "guidance",
    "prior_pictures",
    "dtype",
];

/// The training that `wishes` mean on the model of `pipeline`, whose weights are not read.
pub fn plan(pipeline: FluxPipeline, wishes: &TrainingWishes) -> Result<TrainingPlan, Refusal> {
    let recipe = recipe(&pipeline, wishes)?;
    recipe.validate(pipeline.layout().size_multiple()).map_err(refusal)?;
    let pipeline = pipeline.in_precision(recipe.dtype).map_err(|error| refusal(error.into()))?;
    let estimate = estimate_memory(&pipeline, &recipe, wishes.draws_samples).map_err(refusal)?;
    let available = Memory::detect().map(|memory| memory.available_bytes);
    let keep = estimate.choose(available).map_err(refusal)?;
    let unwritable = |e: serde_json::Error| refused("config", e.to_string());
    Ok(TrainingPlan {
        steps: recipe.steps as u64,
        memory_bytes: estimate.peak(if available.is_some() { keep } else { Keep::Inputs }),
        recipe: serde_json::to_value(&recipe).map_err(unwritable)?,
    })
}

fn recipe(pipeline: &FluxPipeline, wishes: &TrainingWishes) -> Result<Recipe, Refusal> {
    let mut recipe = Recipe::default_for(pipeline.config(), pipeline.defaults().size.width);
    let set = |to: &mut usize, wish: Option<u64>| {
        if let Some(wish) = wish {
            *to = usize::try_from(wish).unwrap_or(usize::MAX);
        }
    };
    recipe.trigger.clone_from(&wishes.trigger);
    if let Some(steps) = wishes.steps {
        recipe.set_steps(usize::try_from(steps).unwrap_or(usize::MAX));
    }
    set(&mut recipe.size.rank, wishes.rank);
    recipe.size.alpha = wishes.alpha.unwrap_or(recipe.size.alpha);
    recipe.schedule.learning_rate = wishes.learning_rate.unwrap_or(recipe.schedule.learning_rate);
    if let Some(name) = &wishes.lr_scheduler {
        recipe.schedule.decay = name.parse().map_err(|_| {
            let message = format!("lr_scheduler `{name}` is not one of constant, cosine");
            refused("lr_scheduler", message)
        })?;
    }
    set(&mut recipe.schedule.warmup_steps, wishes.warmup_steps);
    set(&mut recipe.batch, wishes.batch_size);
    set(&mut recipe.accumulation, wishes.gradient_accumulation);
    set(&mut recipe.resolution, wishes.resolution);
    if let Some(name) = &wishes.target_modules {
        recipe.targets = name.parse().map_err(refusal)?;
    }
    recipe.caption_dropout = wishes.caption_dropout.unwrap_or(recipe.caption_dropout);
    recipe.seed = wishes.seed.unwrap_or(recipe.seed);
    for (key, value) in &wishes.config {
        set_config(&mut recipe, key, value)?;
    }
    Ok(recipe)
}

fn set_config(recipe: &mut Recipe, key: &str, value: &Json) -> Result<(), Refusal> {
    let number = value
        .as_f64()
        .ok_or_else(|| refused("config", format!("config.{key} {value} is not a number")));
    match key {
        "beta1" => recipe.optimizer.beta1 = number?,
        "beta2" => recipe.optimizer.beta2 = number?,
        "eps" => recipe.optimizer.eps = number?,
        "weight_decay" => recipe.optimizer.weight_decay = number?,
        "max_grad_norm" => recipe.max_grad_norm = number?,
        "ema_decay" => recipe.ema_decay = number?,
        "guidance" => recipe.guidance = number?,
        "dtype" => {
            let name = value.as_str().unwrap_or_default();
            recipe.dtype = name.parse().map_err(|_| {
                refused("config", format!("config.dtype {value} is not one of f32, bf16"))
            })?;
        }
        "prior_pictures" => {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            recipe.prior_pictures = count.ok_or_else(|| {
                refused("config", format!("config.prior_pictures {value} is not a whole number"))
            })?;
        }
        _ => {
            let message = format!("config has an option `{key}`, expected {}", CONFIG.join(", "));
            return Err(refused("config", message));
        }
    }
    Ok(())
}

fn refused(field: &str, message: String) -> Refusal {
    Refusal { field: field.to_owned(), message }
}

/// The engine's error in the words of the HTTP interface.
fn refusal(error: Error) -> Refusal {
    let message = error.to_string();
    let Error::Invalid { field, .. } = error else { return refused("batch_size", message) };
    let own = NAMES.iter().find(|(name, _)| *name == field).map(|(_, own)| *own);
    let rest = message.strip_prefix(field).unwrap_or(&message);
    if CONFIG.contains(&field) {
        return refused("config", format!("config.{message}"));
    }
    let field = own.unwrap_or(field);
    refused(field, format!("{field}{rest}"))
}
