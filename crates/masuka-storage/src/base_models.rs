//! Installed base models, with the defaults and limits that requests are checked against and the web form is drawn
//! from. The engine states them once, at installation; nobody else repeats them.

use std::path::Path;

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::downloads::Hub;
use crate::entities::base_model::{Column, Entity, Model};
use crate::error::{Error, Result};
use crate::settings;

/// The id of the model that is part of the binary.
pub const STARTER: &str = "starter";
/// Ids that no installed model may have: that of the starter, and a word of the HTTP interface's paths.
pub const RESERVED: [&str; 2] = [STARTER, "install"];

/// What a base model suggests, allows and takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseModelFacts {
    /// Where a request says nothing.
    pub defaults: GenerationDefaults,
    /// What is accepted.
    pub limits: GenerationLimits,
    /// What a picture of the default size takes, one entry a memory mode.
    #[serde(default)]
    pub memory: Vec<MemoryNeed>,
}

/// What a picture of the default size takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// The memory mode: `none`, `components` or `blocks`.
    pub offload: String,
    /// The peak.
    pub bytes: u64,
}

/// Where a request says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationDefaults {
    /// Sampler steps.
    pub num_inference_steps: u64,
    /// Embedded guidance.
    pub guidance_scale: f64,
    /// Pixels from left to right.
    pub width: u64,
    /// Pixels from top to bottom.
    pub height: u64,
}

/// What is accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationLimits {
    /// Sides are multiples of this.
    pub size_multiple: u64,
    /// The shortest side.
    pub min_side: u64,
    /// The longest side.
    pub max_side: u64,
    /// The longest prompt, in characters.
    pub max_prompt_chars: u64,
    /// The most pictures of a request.
    pub max_images: u64,
    /// The most steps.
    pub max_steps: u64,
    /// The samplers.
    pub samplers: Vec<String>,
}

impl Model {
    /// Defaults and limits.
    ///
    /// # Errors
    /// When the row was written by another version.
    pub fn facts(&self) -> Result<BaseModelFacts> {
        serde_json::from_str(&self.facts).map_err(|e| Error::corrupt("base model", e))
    }
}

/// A base model to be entered.
#[derive(Debug, Clone)]
pub struct NewBaseModel {
    /// The name by which requests ask for it.
    pub id: String,
    /// `flux`.
    pub family: String,
    /// For people.
    pub name: String,
    /// Where its files are.
    pub source: String,
    /// Where the parts are that `source` lacks.
    pub parts_source: Option<String>,
    /// Defaults and limits.
    pub facts: BaseModelFacts,
}

/// The id of a model that is called `name`: its last part in lower case, with nothing that a URL would have to escape.
pub fn id_of(name: &str) -> String {
    let short = name.rsplit('/').next().unwrap_or(name);
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    short.to_lowercase().chars().map(plain).collect()
}

/// Enters a base model, or what is new about it.
///
/// # Errors
/// When the database refuses.
pub async fn enter(database: &Database, new: &NewBaseModel) -> Result<()> {
    let sql = "INSERT INTO base_models (id, family, name, source, parts_source, facts, created_at_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, NOW_MS) ON CONFLICT (id) DO UPDATE SET \
               family = excluded.family, name = excluded.name, source = excluded.source, \
               parts_source = excluded.parts_source, facts = excluded.facts";
    let facts = serde_json::to_string(&new.facts).map_err(|e| Error::corrupt("base model", e))?;
    let values = [
        new.id.clone().into(),
        new.family.clone().into(),
        new.name.clone().into(),
        new.source.clone().into(),
        new.parts_source.clone().into(),
        facts.into(),
    ];
    database.writer().execute_raw(database.statement(sql, values)).await?;
    Ok(())
}

/// The base model `id`.
///
/// # Errors
/// [`Error::NotFound`], or the database is gone.
pub async fn find(database: &Database, id: &str) -> Result<Model> {
    get(database, id).await?.ok_or_else(|| Error::not_found("base model", id))
}

/// The base model `id`, if there is one.
///
/// # Errors
/// When the database is gone.
pub async fn get(database: &Database, id: &str) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).one(database.reader()).await?)
}

/// All base models, oldest first.
///
/// # Errors
/// When the database is gone.
pub async fn list(database: &Database) -> Result<Vec<Model>> {
    Ok(Entity::find().order_by_asc(Column::CreatedAtMs).all(database.reader()).await?)
}

/// The base model of requests that name none: the one that a user has chosen, else `configured`.
///
/// # Errors
/// When the database is gone.
pub async fn default_id(database: &Database, configured: &str) -> Result<String> {
    let sql = "SELECT b.id FROM settings s JOIN base_models b ON b.id = s.value WHERE s.name = $1";
    let statement = database.statement(sql, [settings::DEFAULT_BASE_MODEL.into()]);
    let row = database.reader().query_one_raw(statement).await?;
    let chosen = row.map(|row| row.try_get("", "id")).transpose()?;
    Ok(chosen.unwrap_or_else(|| configured.to_owned()))
}

/// Chooses the base model of requests that name none.
///
/// # Errors
/// [`Error::NotFound`], or the database refuses.
pub async fn set_default(database: &Database, id: &str) -> Result<()> {
    find(database, id).await?;
    settings::set(database, settings::DEFAULT_BASE_MODEL, id).await
}

/// Takes a base model off the list; its files are nobody's business here. If it was the chosen default, none is.
///
/// # Errors
/// [`Error::ModelInUse`] while jobs that are not over need it, [`Error::NotFound`], or the database refuses.
pub async fn remove(database: &Database, id: &str) -> Result<()> {
    find(database, id).await?;
    let sql = "DELETE FROM base_models WHERE id = $1 AND NOT EXISTS (\
               SELECT 1 FROM jobs WHERE base_model = $1 AND status IN ('queued', 'running', 'paused'))";
    let transaction = database.begin().await?;
    let removed = transaction.execute_raw(database.statement(sql, [id.into()])).await?;
    if removed.rows_affected() == 0 {
        return Err(Error::ModelInUse(id.into()));
    }
    let sql = "DELETE FROM settings WHERE name = $1 AND value = $2";
    let values = [settings::DEFAULT_BASE_MODEL.into(), id.into()];
    transaction.execute_raw(database.statement(sql, values)).await?;
    Ok(transaction.commit().await?)
}

/// As [`remove`], and erases the files, which `hub` has downloaded, with all revisions.
///
/// # Errors
/// Those of [`remove`]; [`Error::FilesElsewhere`] where they are not the hub's, [`Error::BaseModelNeeded`],
/// [`Error::BeingDownloaded`], or the disk refuses.
pub async fn remove_with_files(database: &Database, hub: &Hub, id: &str) -> Result<()> {
    let model = find(database, id).await?;
    let Some(cached) = hub.cached(Path::new(&model.source))? else {
        return Err(Error::FilesElsewhere { id: model.id, source_path: model.source });
    };
    let needs = |other: &Model| {
        let mut files = [Some(&other.source), other.parts_source.as_ref()].into_iter().flatten();
        other.id != id && files.any(|file| cached.holds(Path::new(file)))
    };
    if let Some(other) = list(database).await?.into_iter().find(needs) {
        return Err(Error::BaseModelNeeded { id: model.id, by: other.id });
    }
    remove(database, id).await?;
    cached.erase()
}
