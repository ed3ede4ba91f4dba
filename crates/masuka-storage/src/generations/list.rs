//! Newest first, filtered, page by page. A page starts after the last row of the one before, so that new rows shift
//! nothing.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, Func, LikeExpr, Query};
use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
};

use super::{Generation, Generations};
use crate::entities::{generation, job, output};
use crate::error::{Error, Result};
use crate::queue::JobStatus;

/// Which generations.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub status: Option<JobStatus>,
    /// Made with this LoRA.
    pub model_id: Option<String>,
    /// Made with this base model.
    pub base_model: Option<String>,
    /// With this text in the prompt, whatever its case.
    pub text: Option<String>,
    /// Liked or not.
    pub favorite: Option<bool>,
    /// Asked for after this time.
    pub created_after_ms: Option<i64>,
    /// Asked for before this time.
    pub created_before_ms: Option<i64>,
    /// After the last row of the page before.
    pub after: Option<Cursor>,
}

/// A place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the row.
    pub created_at_ms: i64,
    /// Its id, among rows of one time.
    pub id: String,
}

impl Cursor {
    /// As an opaque word for URLs.
    pub fn encode(&self) -> String {
        format!("{:x}-{}", self.created_at_ms, self.id)
    }

    /// The place that `word` stands for, if it is one of ours.
    pub fn decode(word: &str) -> Option<Self> {
        let (time, id) = word.split_once('-')?;
        let created_at_ms = i64::from_str_radix(time, 16).ok()?;
        Some(Self { created_at_ms, id: id.to_owned() })
    }
}

impl Generations {
    /// At most `limit` generations of `filter`, newest first.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn list(&self, filter: &Filter, limit: u64) -> Result<Vec<Generation>> {
        let reader = self.database.reader();
        let rows = self.query(filter).limit(limit).all(reader).await?;
        let pairs = rows.into_iter().map(|(row, job)| {
            let job = job.ok_or_else(|| Error::not_found("job", &row.id))?;
            Ok((row, job))
        });
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let mut outputs = outputs_of(reader, pairs.iter().map(|(row, _)| row.id.clone())).await?;
        let with_outputs = |(row, job): (generation::Model, job::Model)| Generation {
            outputs: outputs.remove(&row.id).unwrap_or_default(),
            row,
            job,
        };
        Ok(pairs.into_iter().map(with_outputs).collect())
    }

    fn query(&self, filter: &Filter) -> sea_orm::SelectTwo<generation::Entity, job::Entity> {
        use generation::Column;
        let mut query = generation::Entity::find()
            .filter(Column::DeletedAtMs.is_null())
            .order_by_desc(Column::CreatedAtMs)
            .order_by_desc(Column::Id);
        if let Some(base_model) = &filter.base_model {
            query = query.filter(Column::BaseModel.eq(base_model));
        }
        if let Some(favorite) = filter.favorite {
            query = query.filter(Column::Favorite.eq(favorite));
        }
        if let Some(after) = filter.created_after_ms {
            query = query.filter(Column::CreatedAtMs.gt(after));
        }
        if let Some(before) = filter.created_before_ms {
            query = query.filter(Column::CreatedAtMs.lt(before));
        }
        if let Some(text) = &filter.text {
            let pattern = format!("%{}%", escape_like(&text.to_lowercase()));
            let prompt = Expr::expr(Func::lower(Expr::col((generation::Entity, Column::Prompt))));
            query = query.filter(prompt.like(LikeExpr::new(pattern).escape('\\')));
        }
        if let Some(model_id) = &filter.model_id {
            let using = Query::select()
                .column("generation_id")
                .from("generation_loras")
                .and_where(Expr::col("model_id").eq(model_id))
                .to_owned();
            query = query.filter(Column::Id.in_subquery(using));
        }
        if let Some(Cursor { created_at_ms, id }) = &filter.after {
            let same_time = Column::CreatedAtMs.eq(*created_at_ms).and(Column::Id.lt(id));
            query = query.filter(Column::CreatedAtMs.lt(*created_at_ms).or(same_time));
        }
        let relation: sea_orm::RelationDef =
            generation::Entity::belongs_to(job::Entity).from(Column::Id).to(job::Column::Id).into();
        let mut joined = query.join(JoinType::InnerJoin, relation).select_also(job::Entity);
        if let Some(status) = filter.status {
            joined = joined.filter(job::Column::Status.eq(status.name()));
        }
        joined
    }
}

/// The text itself, where `%` and `_` would stand for others.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

async fn outputs_of(
    reader: &DatabaseConnection,
    ids: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, Vec<output::Model>>> {
    let rows = output::Entity::find()
        .filter(output::Column::JobId.is_in(ids))
        .order_by_asc(output::Column::Position)
        .all(reader)
        .await?;
    let mut outputs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        outputs.entry(row.job_id.clone()).or_default().push(row);
    }
    Ok(outputs)
}
