//! What a server does unasked: jobs of dead workers go to others, deleted pictures are erased, it shows that
//! it lives, and tells listeners how the machine is.

use std::time::Duration;

use masuka_storage::bus::Signal;
use serde_json::json;

use crate::app::App;
use crate::handlers::service;

const EVERY: Duration = Duration::from_secs(1);
/// Every how many rounds the slower duties are done.
const SLOW_ROUNDS: u64 = 5;

/// Runs until the task is aborted.
pub(crate) async fn run(app: App) {
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0u64.. {
        interval.tick().await;
        if let Err(error) = reap(&app).await {
            tracing::warn!("cannot look after jobs: {error}");
        }
        if round % SLOW_ROUNDS == 0
            && let Err(error) = slow(&app).await
        {
            tracing::warn!("housekeeping: {error}");
        }
    }
}

async fn reap(app: &App) -> masuka_storage::Result<()> {
    let reaped = app.storage.queue().reap(&app.storage.processes()).await?;
    for job in &reaped {
        tracing::warn!(job = job.job_id, status = %job.status, counted = job.counted, "taken from a worker that is gone");
    }
    if !reaped.is_empty() {
        app.bus.publish(&Signal::Events);
        app.bus.publish(&Signal::JobQueued);
    }
    Ok(())
}

async fn slow(app: &App) -> masuka_storage::Result<()> {
    let processes = app.storage.processes();
    processes.touch(&app.options.id, &json!({ "version": app.options.version })).await?;
    processes.forget_dead().await?;
    app.storage.generations().erase_deleted(app.storage.blobs()).await?;
    app.storage.lora_models().erase_deleted(app.storage.blobs()).await?;
    app.storage.datasets().erase_deleted(app.storage.blobs()).await?;
    let (folder, blobs) = (app.storage.training_folder(), app.storage.blobs());
    app.storage.trainings().erase_deleted(blobs, &folder).await?;
    tell_system(app).await
}

/// Memory and workers as they are, so that no page has to ask for them again and again.
async fn tell_system(app: &App) -> masuka_storage::Result<()> {
    if app.events.is_heard() {
        let system = service::system(app).await?;
        app.events.tell("system", json!(system));
    }
    Ok(())
}
