//! Many requests, one synchronisation of the disk: whoever holds the turn stores everything that has gathered
//! meanwhile. Nobody waits for company.

use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};

use super::{Generations, NewGeneration};
use crate::error::{Error, Result};

type Waiting = (NewGeneration, oneshot::Sender<Result<()>>);

/// Stores generations, gathered.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    generations: Generations,
    limit: u64,
    waiting: Arc<std::sync::Mutex<Vec<Waiting>>>,
    turn: Arc<Mutex<()>>,
}

impl GroupCommit {
    /// At most `limit` jobs may wait in the queue.
    pub fn new(generations: Generations, limit: u64) -> Self {
        Self { generations, limit, waiting: Arc::default(), turn: Arc::default() }
    }

    /// Stores and queues `new`; returns once that is on disk.
    ///
    /// # Errors
    /// [`Error::QueueFull`], or the database refuses.
    pub async fn create(&self, new: NewGeneration) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.lock_waiting().push((new, sender));
        let this = self.clone();
        // A client that leaves must not take the turn of the others with it.
        tokio::spawn(async move {
            let _turn = this.turn.lock().await;
            let gathered = std::mem::take(&mut *this.lock_waiting());
            this.store(gathered).await;
        });
        let lost = || Error::Config("the database's writer ended early".into());
        receiver.await.map_err(|_| lost())?
    }

    async fn store(&self, gathered: Vec<Waiting>) {
        if gathered.is_empty() {
            return;
        }
        let (new, senders): (Vec<_>, Vec<_>) = gathered.into_iter().unzip();
        match self.generations.create_all(&new, self.limit).await {
            Ok(results) => {
                for (sender, result) in senders.into_iter().zip(results) {
                    drop(sender.send(result));
                }
            }
            Err(error) => {
                let message = error.to_string();
                for sender in senders {
                    let error = sea_orm::DbErr::Custom(message.clone());
                    drop(sender.send(Err(error.into())));
                }
            }
        }
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
