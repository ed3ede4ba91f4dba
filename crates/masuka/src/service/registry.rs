//! Which base models there are, and where their files lie: the starter always, and the one of `MASUKA_BASE_MODEL`.

use std::path::Path;

use anyhow::{Context, bail};
use masuka_diffusion::pipelines::flux::FluxFiles;
use masuka_jobs::base_models::{FLUX, describe};
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
    enter_one(storage, starter::NAME, starter::NAME, &find(starter::NAME, environment)?).await?;
    let named = environment.base_model.as_deref().filter(|name| *name != starter::NAME);
    if let Some(source) = named {
        let files = find(source, environment)?;
        default = base_models::id_of(&files.name());
        enter_one(storage, &default, source, &files).await?;
    }
    Ok(default)
}

/// A model that lies on this machine, as it would be entered under `id`, or under its name.
pub fn examine(
    environment: &Environment,
    path: &Path,
    name: Option<String>,
    id: Option<String>,
) -> anyhow::Result<NewBaseModel> {
    let source = path.display().to_string();
    let files = find(&source, environment)?;
    let name = name.unwrap_or_else(|| files.name());
    let id = base_models::id_of(id.as_ref().unwrap_or(&name));
    if base_models::RESERVED.contains(&id.as_str()) {
        bail!(Usage(format!("`{id}` is taken by the program itself; choose another with --id")));
    }
    describe_as(&id, name, &source, &files)
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
    // Links stay: those of the hub's cache lead to files whose names say nothing of their format.
    let source = match std::path::absolute(source) {
        Ok(path) if path.exists() => path.display().to_string(),
        _ => source.to_owned(),
    };
    Ok(NewBaseModel { id: id.to_owned(), family: FLUX.into(), name, source, facts })
}

/// The files that a base model's row means on this machine.
pub fn files_of(model: &base_model::Model, environment: &Environment) -> anyhow::Result<FluxFiles> {
    Ok(engine::flux_files(&find(&model.source, environment)?))
}

fn find(source: &str, environment: &Environment) -> anyhow::Result<ModelFiles> {
    let args = ModelArgs { model: Some(source.into()), ..ModelArgs::default() };
    ModelFiles::choose(&args, environment)
}
