//! What processes tell each other at once: within a data folder always, between machines through PostgreSQL.

use std::time::Duration;

use masuka_storage::StorageConfig;
use masuka_storage::bus::{Bus, Signal};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::store::Store;

/// Much longer than any signal takes, and shorter than a test may.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a signal is sent again until the other side has begun to listen.
const AGAIN: Duration = Duration::from_millis(50);

pub fn cancel(job_id: &str) -> Signal {
    Signal::CancelRequested { job_id: job_id.into() }
}

async fn hears(receiver: &mut Receiver<Signal>) -> Signal {
    timeout(PATIENCE, receiver.recv()).await.expect("in time").expect("a signal")
}

/// Greets until a greeting is heard, as the other side may not listen yet, or still has to hear of other things.
pub async fn connect(from: &Bus, to: &mut Receiver<Signal>) {
    let hello = Signal::JobQueued;
    let heard = async {
        loop {
            from.publish(&hello);
            if let Ok(Ok(signal)) = timeout(AGAIN, to.recv()).await
                && signal == hello
            {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("in time");
}

/// The next signal that is no greeting.
pub async fn next(receiver: &mut Receiver<Signal>) -> Signal {
    loop {
        match hears(receiver).await {
            Signal::JobQueued => {}
            signal => return signal,
        }
    }
}

#[tokio::test]
async fn processes_of_a_data_folder_hear_each_other_once() {
    let store = Store::new().await;
    let (one, other) =
        (Bus::join(&store.config, "s", "one"), Bus::join(&store.config, "s", "other"));
    let (mut own, mut far) = (one.subscribe(), other.subscribe());
    connect(&one, &mut far).await;
    for job in ["a", "b", "c"] {
        one.publish(&cancel(job));
    }
    for receiver in [&mut own, &mut far] {
        for job in ["a", "b", "c"] {
            assert_eq!(next(receiver).await, cancel(job));
        }
    }
}

#[tokio::test]
async fn machines_of_a_database_hear_each_other_where_it_is_postgresql() {
    let store = Store::new().await;
    if store.config.database_url.is_none() {
        return; // SQLite is of one machine; scripts/with-postgres runs the rest
    }
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = StorageConfig { data_dir: folder.path().into(), ..store.config.clone() };
    let (here, there) =
        (Bus::join(&store.config, "s", "here"), Bus::join(&elsewhere, "s", "there"));
    let mut far = there.subscribe();
    connect(&here, &mut far).await;
    let preview = "x".repeat(20_000);
    let progress = json!({ "step": 1, "preview_url": preview });
    here.publish(&Signal::Step { job_id: "a".into(), epoch: 1, progress });
    let progress = json!({ "step": 1, "preview_url": null });
    let expected = Signal::Step { job_id: "a".into(), epoch: 1, progress };
    assert_eq!(next(&mut far).await, expected, "without the preview, which no notice can carry");
    // Too long for a notice: it is lost, and what comes afterwards is not.
    here.publish(&Signal::Changed { what: "install".into(), details: json!(preview) });
    here.publish(&cancel("b"));
    assert_eq!(next(&mut far).await, cancel("b"));
}
