//! Newest first, filtered, page by page. A page starts after the last row of the one before, so that new rows shift
//! nothing.

use super::read::{Chosen, read};
use super::{Generation, Generations};
use crate::error::Result;
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
        let mut chosen = filter.chosen();
        chosen.and("g.deleted_at_ms IS NULL", []);
        read(&self.database, chosen, limit).await
    }
}

impl Filter {
    /// As conditions on `generations g` and `jobs j`.
    fn chosen(&self) -> Chosen {
        let mut chosen = Chosen::default();
        if let Some(base_model) = &self.base_model {
            chosen.and("g.base_model = ?", [base_model.into()]);
        }
        if let Some(favorite) = self.favorite {
            chosen.and("g.favorite = ?", [favorite.into()]);
        }
        if let Some(after) = self.created_after_ms {
            chosen.and("g.created_at_ms > ?", [after.into()]);
        }
        if let Some(before) = self.created_before_ms {
            chosen.and("g.created_at_ms < ?", [before.into()]);
        }
        if let Some(text) = &self.text {
            let pattern = format!("%{}%", escape_like(&text.to_lowercase()));
            chosen.and("LOWER(g.prompt) LIKE ? ESCAPE '\\'", [pattern.into()]);
        }
        if let Some(model_id) = &self.model_id {
            let using = "g.id IN (SELECT generation_id FROM generation_loras WHERE model_id = ?)";
            chosen.and(using, [model_id.into()]);
        }
        if let Some(Cursor { created_at_ms, id }) = &self.after {
            let later = "(g.created_at_ms, g.id) < (?, ?)";
            chosen.and(later, [(*created_at_ms).into(), id.into()]);
        }
        if let Some(status) = self.status {
            chosen.and("j.status = ?", [status.name().into()]);
        }
        chosen
    }
}

/// The text itself, where `%` and `_` would stand for others.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
