//! The final word about a job: said until the database takes it, with the files that are left behind removed.

use std::time::Duration;

use masuka_storage::blobs::BlobKey;
use masuka_storage::queue::{Failure, Finished, Lease};
use serde_json::json;

use super::Worker;
use crate::control::{Control, Interruption};
use crate::failure::Ending;
use crate::generate_image::Pictures;
use crate::train_lora::Trained;

/// How often a word that the database did not take is said again, and after which pause.
const RETRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a job made, to be published.
pub(super) enum Made {
    Pictures(Pictures),
    Adapter(Box<Trained>),
}

impl Worker {
    /// Says the final word, repeatedly if the database does not answer.
    pub(super) fn finish(
        &mut self,
        lease: &Lease,
        control: &Control,
        ending: Result<Made, Ending>,
    ) {
        let ending = self.spare(lease, ending);
        for attempt in 1..=RETRIES {
            let said = self.runtime.block_on(self.say(lease, control, &ending));
            match said {
                Ok(Finished::Accepted) if ending.is_ok() => return,
                Ok(_) => return self.runtime.block_on(self.remove_unpublished(lease, &ending)),
                Err(error) if attempt < RETRIES => {
                    tracing::warn!(job = lease.job_id, "the end is not written down yet: {error}");
                    std::thread::sleep(RETRY_AFTER);
                }
                Err(error) => {
                    // The lease runs out, and another worker does the job again.
                    tracing::error!(job = lease.job_id, "the end cannot be written down: {error}");
                }
            }
        }
    }

    async fn say(
        &self,
        lease: &Lease,
        control: &Control,
        ending: &Result<Made, Ending>,
    ) -> masuka_storage::Result<Finished> {
        let queue = self.storage.queue();
        match ending {
            Ok(Made::Adapter(trained)) => {
                self.storage.trainings().complete(lease, &trained.model).await
            }
            Ok(Made::Pictures(pictures)) => {
                // Before the end is written down: afterwards nobody would come back for them.
                self.remove_older_files(lease).await;
                let report = json!(pictures.report);
                queue.complete_generation(lease, pictures.outputs.clone(), &report).await
            }
            Err(Ending::Failed(failure)) => {
                let Failure { code, message } = failure;
                tracing::warn!(job = lease.job_id, code, "job failed: {message}");
                queue.fail(lease, failure).await
            }
            Err(Ending::Interrupted) => match control.interruption() {
                Some(Interruption::Cancelled) => queue.finish_cancelled(lease).await,
                Some(Interruption::Paused) => {
                    queue.finish_paused(lease).await?;
                    Ok(Finished::Fenced)
                }
                Some(Interruption::Lost) => Ok(Finished::Fenced),
                Some(Interruption::Stopped) | None => {
                    queue.put_back(lease).await?;
                    Ok(Finished::Fenced)
                }
            },
        }
    }

    /// A picture that does not fit beside a training waits for the training's end instead of failing.
    fn spare(&mut self, lease: &Lease, ending: Result<Made, Ending>) -> Result<Made, Ending> {
        match ending {
            Err(Ending::Failed(failure))
                if self.is_between_steps && failure.code == "out_of_memory" =>
            {
                let message = failure.message;
                tracing::warn!(job = lease.job_id, "waits for the training's end: {message}");
                self.spared.push(lease.job_id.clone());
                Err(Ending::Interrupted)
            }
            ending => ending,
        }
    }

    /// Files that were stored and are not published.
    async fn remove_unpublished(&self, lease: &Lease, ending: &Result<Made, Ending>) {
        self.remove_own_files(lease).await;
        let Ok(Made::Adapter(trained)) = ending else { return };
        let folder = BlobKey::parse(&format!("models/{}", trained.model.id));
        let removed = match folder {
            Ok(folder) => self.storage.blobs().delete_all(&folder).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(job = lease.job_id, "files are left behind: {error}");
        }
    }

    /// Files of this claim that will not be published.
    async fn remove_own_files(&self, lease: &Lease) {
        let folder = format!("generated/{}/{}", lease.job_id, lease.epoch);
        let removed = match BlobKey::parse(&folder) {
            Ok(folder) => self.storage.blobs().delete_all(&folder).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(job = lease.job_id, "files are left behind: {error}");
        }
    }

    /// Files of earlier claims, whose workers died before they could publish or remove them; none can be published
    /// any more.
    async fn remove_older_files(&self, lease: &Lease) {
        for epoch in 1..lease.epoch {
            self.remove_own_files(&Lease { epoch, ..lease.clone() }).await;
        }
    }
}
