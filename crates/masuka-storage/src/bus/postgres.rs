//! Notices by PostgreSQL's `NOTIFY`.

use sea_orm::sqlx::postgres::{PgConnection, PgListener};
use sea_orm::sqlx::{self, Connection};
use tokio::sync::mpsc;

use super::far::Ear;
use crate::secret::Secret;

const CHANNEL: &str = "masuka";
/// PostgreSQL refuses a payload of 8,000 bytes.
pub(super) const MAX_BYTES: usize = 7_999;

/// The database that passes notices on.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) url: Secret,
}

impl Line {
    /// Until the sender of `receiver` is dropped.
    pub(super) async fn pass_on(
        &self,
        ear: &Ear,
        receiver: &mut mpsc::Receiver<String>,
    ) -> Result<(), String> {
        self.listen(ear, receiver).await.map_err(|error| error.to_string())
    }

    async fn listen(&self, ear: &Ear, receiver: &mut mpsc::Receiver<String>) -> sqlx::Result<()> {
        let mut listener = PgListener::connect(self.url.expose()).await?;
        listener.listen(CHANNEL).await?;
        let mut connection = PgConnection::connect(self.url.expose()).await?;
        loop {
            tokio::select! {
                notice = listener.recv() => ear.hear(notice?.payload().as_bytes()),
                text = receiver.recv() => {
                    let Some(text) = text else { return Ok(()) };
                    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(text);
                    notify.execute(&mut connection).await?;
                }
            }
        }
    }
}
