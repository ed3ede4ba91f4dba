//! Which base models there are, and where their files lie: the starter always, and the one of `MASUKA_BASE_MODEL`.

use anyhow::{Context, bail};
use masuka_diffusion::pipelines::flux::FluxFiles;
use masuka_jobs::base_models::{FLUX, describe};
use masuka_server::desk::BaseModelFiles;
use masuka_storage::Storage;
use masuka_storage::base_models::{self, NewBaseModel};
use masuka_storage::entities::base_model;

use crate::cli::ModelArgs;
use crate::engine;
use crate::environment::Environment;
use crate::exit::Usage;
use crate::models::ModelFiles;
use crate::starter;

/// Enters the base models of this installation; the id of the default one.
pub async fn enter(storage: &Storage, environment: &Environment) -> anyhow::Result<String> {
    let mut default = starter::NAME.to_owned();
    enter_one(storage, starter::NAME, starter::NAME, &find(starter::NAME, None, environment)?)
        .await?;
    let named = environment.base_model.as_deref().filter(|name| *name != starter::NAME);
    if let Some(source) = named {
        let files = find(source, None, environment)?;
        default = base_models::id_of(&files.name());
        enter_one(storage, &default, source, &files).await?;
    }
    Ok(default)
}

/// A model that lies on this machine, as it would be entered under `id`, or under its name.
pub fn examine(
    environment: &Environment,
    BaseModelFiles { path, name, parts }: &BaseModelFiles,
    id: Option<&str>,
) -> anyhow::Result<NewBaseModel> {
    let source = path.display().to_string();
    let files = find(&source, parts.as_deref(), environment)?;
    let name = name.clone().unwrap_or_else(|| files.name());
    let id = base_models::id_of(id.unwrap_or(&name));
    if base_models::RESERVED.contains(&id.as_str()) {
        bail!(Usage(format!("`{id}` is taken by the program itself; choose another with --id")));
    }
    let new = describe_as(&id, name, &source, &files)?;
    Ok(NewBaseModel { parts_source: parts.as_deref().map(absolute), ..new })
}

async fn enter_one(
    storage: &Storage,
    id: &str,
    source: &str,
    files: &ModelFiles,
) -> anyhow::Result<()> {
    let new = describe_as(id, files.name(), source, files)?;
    Ok(base_models::enter(storage.database(), &new).await?)
}

fn describe_as(
    id: &str,
    name: String,
    source: &str,
    files: &ModelFiles,
) -> anyhow::Result<NewBaseModel> {
    let facts = describe(engine::flux_files(files), engine::DEFAULT_PRECISION)
        .with_context(|| format!("base model `{source}` cannot be used"))?;
    let source = absolute(source);
    let (id, family) = (id.to_owned(), FLUX.to_owned());
    Ok(NewBaseModel { id, family, name, source, parts_source: None, facts })
}

/// Links stay: those of the hub's cache lead to files whose names say nothing of their format.
fn absolute(source: &str) -> String {
    match std::path::absolute(source) {
        Ok(path) if path.exists() => path.display().to_string(),
        _ => source.to_owned(),
    }
}

/// The files that a base model's row means on this machine.
pub fn files_of(model: &base_model::Model, environment: &Environment) -> anyhow::Result<FluxFiles> {
    let files = find(&model.source, model.parts_source.as_deref(), environment)?;
    Ok(engine::flux_files(&files))
}

fn find(
    source: &str,
    parts: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<ModelFiles> {
    let base = parts.map(Into::into);
    let args = ModelArgs { model: Some(source.into()), base, ..ModelArgs::default() };
    ModelFiles::choose(&args, environment)
}
