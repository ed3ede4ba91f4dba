//! Generations as readers see them: request, job, place in the queue and pictures in one statement, so that all of it
//! is of one moment. The database answers with one JSON text: a page of 20 has 500 values, and to fetch each by itself
//! takes longer than to find them.

use std::cmp::Reverse;

use sea_orm::{ConnectionTrait, Value};
use serde::Deserialize;

use super::{Generation, Generations};
use crate::database::Database;
use crate::entities::output;
use crate::error::{Error, Result};

/// What is read of each: the fields of [`Row`] in their order. What a completed job was told of its progress follows
/// from its request.
const COLUMNS: &str = "g.id, g.prompt, g.negative_prompt, g.parameters, g.report, \
     CASE WHEN g.favorite THEN 1 ELSE 0 END, g.created_at_ms, j.status, \
     CASE WHEN j.status = 'queued' THEN \
         (SELECT COUNT(*) FROM jobs b WHERE b.status = 'queued' AND b.queue = j.queue \
          AND (b.due_ms < j.due_ms OR (b.due_ms = j.due_ms AND b.id < j.id))) END, \
     CASE WHEN j.status <> 'completed' THEN j.progress END, \
     j.error_code, j.error_message, j.started_at_ms, j.finished_at_ms, j.priority, j.attempts, \
     JSON_ARRAY(o.position, o.blob_key, o.thumbnail_key, o.seed, o.width, o.height, o.bytes, o.sha256)";

/// A generation with one of its pictures, or with none.
#[derive(Deserialize)]
struct Row {
    id: String,
    prompt: String,
    negative_prompt: Option<String>,
    parameters: String,
    report: Option<String>,
    favorite: u8,
    created_at_ms: i64,
    status: String,
    queue_position: Option<u64>,
    progress: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    started_at_ms: Option<i64>,
    finished_at_ms: Option<i64>,
    priority: i64,
    attempts: i64,
    picture: Picture,
}

/// A row of `outputs`; without position and key where there is none.
#[derive(Deserialize)]
struct Picture {
    position: Option<i64>,
    blob_key: Option<String>,
    thumbnail_key: Option<String>,
    seed: Option<i64>,
    width: Option<i64>,
    height: Option<i64>,
    bytes: Option<i64>,
    sha256: Option<String>,
}

/// Which generations are read: conditions on `generations g` and `jobs j`, with their values.
#[derive(Default)]
pub(super) struct Chosen {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Chosen {
    /// Those only for which `condition` holds, in which each `?` is the next of `values`.
    pub(super) fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        let mut numbered = String::with_capacity(condition.len() + N);
        for (i, part) in condition.split('?').enumerate() {
            if i > 0 {
                numbered += &format!("${}", self.values.len() + i);
            }
            numbered += part;
        }
        self.conditions.push(numbered);
        self.values.extend(values);
    }
}

/// At most `limit` of the `chosen`, newest first.
pub(super) async fn read(
    database: &Database,
    chosen: Chosen,
    limit: u64,
) -> Result<Vec<Generation>> {
    let Chosen { conditions, values } = chosen;
    // SQLite plans a statement anew for each run in which a limit is a value.
    let sql = format!(
        "SELECT CAST(JSON_LIST(JSON_ARRAY({COLUMNS})) AS TEXT) AS found FROM \
             (SELECT g.id FROM generations g JOIN jobs j ON j.id = g.id WHERE {} \
              ORDER BY g.created_at_ms DESC, g.id DESC LIMIT {limit}) page \
         JOIN generations g ON g.id = page.id JOIN jobs j ON j.id = g.id LEFT JOIN outputs o ON o.job_id = g.id",
        conditions.join(" AND "),
    );
    let row = database.reader().query_one_raw(database.statement(&sql, values)).await?;
    let text: Option<String> = row.map(|row| row.try_get("", "found")).transpose()?.flatten();
    let rows = text.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text));
    together(rows.map_err(|error| Error::corrupt("generations", error))?)
}

/// Each generation once, newest first, with its pictures in order.
fn together(mut rows: Vec<Row>) -> Result<Vec<Generation>> {
    rows.sort_by(|a, b| {
        let newest = |row: &Row| Reverse(row.created_at_ms);
        newest(a)
            .cmp(&newest(b))
            .then_with(|| b.id.cmp(&a.id))
            .then_with(|| a.picture.position.cmp(&b.picture.position))
    });
    let mut found: Vec<Generation> = Vec::with_capacity(rows.len());
    for row in rows {
        let (generation, picture) = row.split()?;
        match found.last_mut() {
            Some(last) if last.id == generation.id => last.outputs.extend(picture),
            _ => found.push(Generation { outputs: picture.into_iter().collect(), ..generation }),
        }
    }
    Ok(found)
}

impl Generations {
    /// The generation `id`, unless it was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn find(&self, id: &str) -> Result<Generation> {
        let mut chosen = Chosen::default();
        chosen.and("g.id = ? AND g.deleted_at_ms IS NULL", [id.into()]);
        let found = read(&self.database, chosen, 1).await?;
        found.into_iter().next().ok_or_else(|| Error::not_found("job", id))
    }
}

impl Row {
    /// The generation without pictures, and the picture if there is one.
    fn split(self) -> Result<(Generation, Option<output::Model>)> {
        let picture = self.picture.of(&self.id);
        let generation = Generation {
            id: self.id,
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            parameters: self.parameters,
            report: self.report,
            favorite: self.favorite != 0,
            created_at_ms: self.created_at_ms,
            status: self.status.parse()?,
            queue_position: self.queue_position,
            progress: self.progress,
            error_code: self.error_code,
            error_message: self.error_message,
            started_at_ms: self.started_at_ms,
            finished_at_ms: self.finished_at_ms,
            priority: self.priority,
            attempts: self.attempts,
            outputs: Vec::new(),
        };
        Ok((generation, picture))
    }
}

impl Picture {
    /// As a row of `job_id`, if there is one: no column but the thumbnail's may be empty there.
    fn of(self, job_id: &str) -> Option<output::Model> {
        Some(output::Model {
            job_id: job_id.to_owned(),
            position: self.position?,
            blob_key: self.blob_key?,
            thumbnail_key: self.thumbnail_key,
            seed: self.seed?,
            width: self.width?,
            height: self.height?,
            bytes: self.bytes?,
            sha256: self.sha256?,
        })
    }
}
