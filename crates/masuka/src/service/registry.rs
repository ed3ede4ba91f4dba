//! Which base models there are, and where their files lie: the starter always, and the one of `MASUKA_BASE_MODEL`.

use std::path::Path;

use anyhow::Context;
use masuka_diffusion::pipelines::flux::FluxFiles;
use masuka_jobs::base_models::{FLUX, describe};
use masuka_storage::Storage;
use masuka_storage::base_models::{self, NewBaseModel};
use masuka_storage::entities::base_model;

use crate::cli::ModelArgs;
use crate::engine;
use crate::environment::Environment;
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

async fn enter_one(
    storage: &Storage,
    id: &str,
    source: &str,
    files: &ModelFiles,
) -> anyhow::Result<()> {
    let facts = describe(engine::flux_files(files))
        .with_context(|| format!("base model `{source}` cannot be used"))?;
    let source = match Path::new(source).canonicalize() {
        Ok(path) => path.display().to_string(),
        Err(_) => source.to_owned(),
    };
    let new =
        NewBaseModel { id: id.to_owned(), family: FLUX.into(), name: files.name(), source, facts };
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
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    files.name().to_lowercase().chars().map(plain).collect()
}
