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
        default = id_of(&files);
        enter_one(storage, &default, source, &files).await?;
    }
    Ok(default)
}

/// Enters a model that lies on this machine under `id`, or under its name; the id.
pub async fn install(
    storage: &Storage,
    environment: &Environment,
    path: &Path,
    name: Option<String>,
    id: Option<String>,
) -> anyhow::Result<String> {
    let source = path.display().to_string();
    let files = find(&source, environment)?;
    let name = name.unwrap_or_else(|| files.name());
    let short = name.rsplit('/').next().unwrap_or(&name);
    let id = plain(&id.unwrap_or_else(|| short.to_owned()));
    if id == starter::NAME {
        bail!(Usage(format!("`{id}` is the model of the binary; choose another with --id")));
    }
    enter_as(storage, &id, name, &source, &files).await?;
    Ok(id)
}

async fn enter_one(
    storage: &Storage,
    id: &str,
    source: &str,
    files: &ModelFiles,
) -> anyhow::Result<()> {
    enter_as(storage, id, files.name(), source, files).await
}

async fn enter_as(
    storage: &Storage,
    id: &str,
    name: String,
    source: &str,
    files: &ModelFiles,
) -> anyhow::Result<()> {
    let facts = describe(engine::flux_files(files))
        .with_context(|| format!("base model `{source}` cannot be used"))?;
    let source = match Path::new(source).canonicalize() {
        Ok(path) => path.display().to_string(),
        Err(_) => source.to_owned(),
    };
    let new = NewBaseModel { id: id.to_owned(), family: FLUX.into(), name, source, facts };
    Ok(base_models::enter(storage.database(), &new).await?)
}

/// The files that a base model's row means on this machine.
pub fn files_of(model: &base_model::Model, environment: &Environment) -> anyhow::Result<FluxFiles> {
    Ok(engine::flux_files(&find(&model.source, environment)?))
}

fn find(source: &str, environment: &Environment) -> anyhow::Result<ModelFiles> {
    let args = ModelArgs { model: Some(source.into()), ..ModelArgs::default() };
    ModelFiles::choose(&args, environment)
}

/// The model's name in lower case, as ids are.
fn id_of(files: &ModelFiles) -> String {
    plain(&files.name())
}

fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    name.to_lowercase().chars().map(plain).collect()
}
