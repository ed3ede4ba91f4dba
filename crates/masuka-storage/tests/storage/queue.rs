//! The queue: who gets which job, when, and whose word counts.

use std::collections::BTreeSet;

use crate::store::{Store, generation};
use masuka_storage::Error;
use masuka_storage::entities::output;
use masuka_storage::generations::Filter;
use masuka_storage::processes::NewProcess;
use masuka_storage::queue::{
    ClaimRequest, Failure, Finished, GENERATION, JobStatus, Lease, LeaseState, Side, TRAINING,
};
use sea_orm::ConnectionTrait;
use serde_json::json;

fn picture(lease: &Lease) -> output::Model {
    output::Model {
        job_id: lease.job_id.clone(),
        position: 0,
        blob_key: format!("generated/{}/{}/image_1.png", lease.job_id, lease.epoch),
        thumbnail_key: None,
        seed: 7,
        width: 128,
        height: 128,
        bytes: 10,
        sha256: "00".into(),
    }
}

async fn complete(store: &Store, lease: &Lease) -> Finished {
    let report = json!({ "t5_tokens": 3, "clip_tokens": 4, "warnings": [], "timings": {} });
    store.queue().complete_generation(lease, vec![picture(lease)], &report).await.unwrap()
}

/// Makes every lease look as old as if its worker had been silent for a minute.
async fn let_leases_expire(store: &Store) {
    let sql = "UPDATE jobs SET lease_until_ms = lease_until_ms - 60000 WHERE status = 'running'";
    store.storage.database().writer().execute_unprepared(sql).await.unwrap();
}

async fn worker(
    store: &Store,
    id: &str,
    supervisor: Option<&str>,
) -> masuka_storage::processes::ProcessLock {
    let new = NewProcess {
        id: id.into(),
        role: if id.starts_with("server") { "server" } else { "worker" },
        supervisor_id: supervisor.map(Into::into),
        state: json!({}),
    };
    store.storage.processes().enter(&new).await.unwrap()
}

#[tokio::test]
async fn a_job_is_done_once_and_its_picture_published_with_it() {
    let store = Store::new().await;
    let id = store.enqueue(0, "starter").await;
    let claimed = store.claim("w", None).await.unwrap();
    assert_eq!((claimed.job.id.as_str(), claimed.lease.epoch), (id.as_str(), 1));
    assert!(store.claim("v", None).await.is_none(), "given out twice");
    assert_eq!(store.queue().renew(&claimed.lease, None).await.unwrap(), LeaseState::Held);
    assert_eq!(complete(&store, &claimed.lease).await, Finished::Accepted);
    assert_eq!(complete(&store, &claimed.lease).await, Finished::Fenced, "finished twice");
    let found = store.storage.generations().find(&id).await.unwrap();
    assert_eq!(found.status, JobStatus::Completed);
    assert_eq!((found.outputs.len(), found.report().unwrap().unwrap().t5_tokens), (1, 3));
    assert_eq!(store.told(&id).await, ["pending", "processing", "completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_claimers_never_get_the_same_job() {
    let store = Store::new().await;
    let new: Vec<_> = (0..60).map(|_| generation(0, "starter")).collect();
    store.storage.generations().create_all(&new, 1000).await.unwrap();
    let claims = (0..6).map(|worker| {
        let store = &store;
        async move {
            let mut mine = Vec::new();
            while let Some(claimed) = store.claim(&format!("w{worker}"), None).await {
                assert_eq!(complete(store, &claimed.lease).await, Finished::Accepted);
                mine.push(claimed.job.id);
            }
            mine
        }
    });
    let all: Vec<_> = futures_util::future::join_all(claims).await.concat();
    assert_eq!(all.len(), 60);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 60, "a job was given out twice");
}

#[tokio::test]
async fn higher_priority_first_then_the_loaded_model_then_the_oldest() {
    let store = Store::new().await;
    let old = store.enqueue(0, "a").await;
    let other_model = store.enqueue(0, "b").await;
    let urgent = store.enqueue(1, "a").await;
    let mut order = Vec::new();
    while let Some(claimed) = store.claim("w", Some("b")).await {
        order.push(claimed.job.id);
    }
    assert_eq!(order, [urgent, other_model, old]);
}

#[tokio::test]
async fn waiting_long_enough_outweighs_any_priority() {
    let store = Store::new().await;
    let patient = store.enqueue(-10, "a").await;
    let sql = "UPDATE jobs SET due_ms = due_ms - 20 * 600000 - 1000"; // came 200 minutes ago
    store.storage.database().writer().execute_unprepared(sql).await.unwrap();
    store.enqueue(10, "a").await;
    assert_eq!(store.claim("w", None).await.unwrap().job.id, patient);
}

#[tokio::test]
async fn positions_are_counted_in_the_order_of_the_queue() {
    let store = Store::new().await;
    let ids =
        [store.enqueue(0, "a").await, store.enqueue(0, "a").await, store.enqueue(5, "a").await];
    let queue = store.queue();
    let mut positions = Vec::new();
    for id in &ids {
        positions.push(queue.position(&queue.find(id).await.unwrap()).await.unwrap());
    }
    assert_eq!(positions, [1, 2, 0]);
    queue.set_priority(&ids[1], 9).await.unwrap();
    assert_eq!(queue.position(&queue.find(&ids[1]).await.unwrap()).await.unwrap(), 0);
    store.claim("worker", None).await.unwrap();
    let listed = store.storage.generations().list(&Filter::default(), 10).await.unwrap();
    let positions: Vec<_> = listed.iter().map(|found| (&found.id, found.queue_position)).collect();
    let expected = [(&ids[2], Some(0)), (&ids[1], None), (&ids[0], Some(1))];
    assert_eq!(positions, expected, "newest first, of those that wait");
}

#[tokio::test]
async fn a_job_is_placed_beside_another_however_long_that_has_waited() {
    let store = Store::new().await;
    let (old, young) = (store.enqueue(0, "a").await, store.enqueue(0, "b").await);
    let sql = format!("UPDATE jobs SET due_ms = due_ms - 864000000 WHERE id = '{old}'"); // ten days
    store.storage.database().writer().execute_unprepared(&sql).await.unwrap();
    let last = store.enqueue(0, "a").await;
    store.queue().place(&young, Side::Before, &old).await.unwrap();
    store.queue().place(&last, Side::After, &young).await.unwrap();
    let mut order = Vec::new();
    while let Some(claimed) = store.claim("w", Some("a")).await {
        order.push(claimed.job.id); // though `a` is loaded, `b` comes first
    }
    assert_eq!(order, [young, last, old]);
}

#[tokio::test]
async fn any_order_can_be_made_by_hand() {
    let store = Store::new().await;
    let mut wanted = Vec::new();
    for _ in 0..6 {
        wanted.push(store.enqueue(0, "a").await);
    }
    let queue = store.queue();
    for (from, to) in [(5, 0), (0, 5), (3, 1), (2, 4), (4, 2), (1, 0), (5, 4)] {
        let moved = wanted.remove(from);
        let (side, other) = match wanted.get(to) {
            Some(next) => (Side::Before, next),
            None => (Side::After, &wanted[to - 1]),
        };
        queue.place(&moved, side, other).await.unwrap();
        wanted.insert(to, moved);
        for (position, id) in wanted.iter().enumerate() {
            let job = queue.find(id).await.unwrap();
            assert_eq!(queue.position(&job).await.unwrap(), position as u64, "{from} to {to}");
        }
    }
}

#[tokio::test]
async fn nothing_is_placed_beside_a_job_that_does_not_wait() {
    let store = Store::new().await;
    let runs = store.enqueue(0, "a").await;
    store.claim("w", None).await.unwrap();
    let waits = store.enqueue(0, "a").await;
    let queue = store.queue();
    for (id, other) in [(&waits, &runs), (&runs, &waits)] {
        let refused = queue.place(id, Side::Before, other).await;
        assert!(matches!(refused, Err(Error::WrongState { id, .. }) if id == runs));
    }
    let refused = queue.place(&waits, Side::After, "nobody").await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    let store = Store::new().await;
    let new: Vec<_> = (0..3).map(|_| generation(0, "a")).collect();
    let results = store.storage.generations().create_all(&new, 2).await.unwrap();
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(matches!(results[2], Err(Error::QueueFull { limit: 2 })));
    assert_eq!(store.queue().depth().await.unwrap().waiting, 2);
    assert!(store.storage.generations().find(&new[2].job.id).await.is_err(), "half a job is left");
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_out() {
    let store = Store::new().await;
    store.enqueue(0, "a").await;
    store.queue().pause().await.unwrap();
    assert!(store.claim("w", None).await.is_none());
    store.queue().resume().await.unwrap();
    assert!(store.claim("w", None).await.is_some());
}

#[tokio::test]
async fn jobs_that_a_worker_leaves_to_others_are_claimed_by_these() {
    let store = Store::new().await;
    let mut ids = Vec::new();
    for base_model in ["a", "b", "b", "b"] {
        ids.push(store.enqueue(0, base_model).await);
    }
    let request = ClaimRequest {
        worker_id: "w".into(),
        queues: vec![TRAINING.into(), GENERATION.into()],
        loaded_model: None,
        lacks: vec!["a".into(), "c".into()],
        except: ids[1..3].to_vec(),
    };
    let claim = async || store.queue().claim(&request).await.unwrap().map(|claimed| claimed.job.id);
    assert_eq!(claim().await.as_ref(), Some(&ids[3]));
    assert_eq!(claim().await, None);
    for id in &ids[..3] {
        assert_eq!(store.claim("other", None).await.unwrap().job.id, *id);
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_can_change_nothing() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    let zombie = store.claim("zombie", None).await.unwrap().lease;
    store.queue().worker_died("zombie", true).await.unwrap();
    let heir = store.claim("heir", None).await.unwrap().lease;
    assert_eq!((heir.job_id.as_str(), heir.epoch), (id.as_str(), 2));
    let queue = store.queue();
    assert_eq!(queue.renew(&zombie, Some(&json!({ "step": 9 }))).await.unwrap(), LeaseState::Lost);
    let failure = Failure { code: "x".into(), message: "x".into() };
    assert_eq!(queue.fail(&zombie, &failure).await.unwrap(), Finished::Fenced);
    assert_eq!(queue.finish_cancelled(&zombie).await.unwrap(), Finished::Fenced);
    assert_eq!(complete(&store, &zombie).await, Finished::Fenced);
    queue.put_back(&zombie).await.unwrap();
    queue.tell_stage(&zombie, "denoise").await.unwrap();
    let job = queue.find(&id).await.unwrap();
    assert_eq!(
        (job.status.as_str(), job.worker_id.as_deref(), job.progress),
        ("running", Some("heir"), None)
    );
    assert_eq!(complete(&store, &heir).await, Finished::Accepted);
    let outputs = store.storage.generations().find(&id).await.unwrap().outputs;
    assert_eq!(outputs[0].blob_key, format!("generated/{id}/2/image_1.png"));
    assert!(!store.told(&id).await.contains(&"stage".to_owned()));
}

#[tokio::test]
async fn a_job_that_kills_its_workers_fails_with_a_message_and_the_next_one_runs() {
    let store = Store::new().await;
    let (killer, next) = (store.enqueue(5, "a").await, store.enqueue(0, "a").await);
    for expected in [JobStatus::Queued, JobStatus::Failed] {
        assert_eq!(store.claim("w", None).await.unwrap().job.id, killer);
        let reaped = store.queue().worker_died("w", true).await.unwrap();
        assert_eq!((reaped.len(), reaped[0].status), (1, expected));
    }
    let job = store.queue().find(&killer).await.unwrap();
    assert_eq!(job.error_code.as_deref(), Some("worker_died"));
    assert!(job.error_message.unwrap().contains("died 2 times"), "the message");
    assert_eq!(store.claim("w", None).await.unwrap().job.id, next);
}

#[tokio::test]
async fn who_goes_down_with_the_server_is_no_attempt() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    for _ in 0..5 {
        let server = worker(&store, "server", None).await;
        let child = worker(&store, "child", Some("server")).await;
        store.claim("child", None).await.unwrap();
        let processes = store.storage.processes();
        assert!(store.queue().reap(&processes).await.unwrap().is_empty(), "both live");
        drop((server, child));
        let reaped = store.queue().reap(&processes).await.unwrap();
        assert_eq!((reaped[0].status, reaped[0].counted), (JobStatus::Queued, false));
        processes.forget_dead().await.unwrap();
        processes.forget_dead().await.unwrap();
        assert!(processes.living().await.unwrap().is_empty());
    }
    assert_eq!(store.queue().find(&id).await.unwrap().attempts, 0);
}

#[tokio::test]
async fn a_dead_worker_is_left_to_the_server_that_started_it() {
    let store = Store::new().await;
    store.enqueue(0, "a").await;
    let _server = worker(&store, "server", None).await;
    drop(worker(&store, "child", Some("server")).await);
    store.claim("child", None).await.unwrap();
    let processes = store.storage.processes();
    assert!(store.queue().reap(&processes).await.unwrap().is_empty());
    let_leases_expire(&store).await;
    assert!(store.queue().reap(&processes).await.unwrap()[0].counted, "even a server may hang");
}

#[tokio::test]
async fn the_death_of_a_worker_started_by_hand_is_known_at_once_and_counts() {
    let store = Store::new().await;
    store.enqueue(0, "a").await;
    let alone = worker(&store, "alone", None).await;
    store.claim("alone", None).await.unwrap();
    let processes = store.storage.processes();
    assert!(store.queue().reap(&processes).await.unwrap().is_empty());
    drop(alone);
    assert!(store.queue().reap(&processes).await.unwrap()[0].counted);
}

#[tokio::test]
async fn a_worker_that_stands_still_loses_its_job_without_an_attempt() {
    let store = Store::new().await;
    store.enqueue(0, "a").await;
    let _stopped = worker(&store, "stopped", None).await;
    store.claim("stopped", None).await.unwrap();
    let_leases_expire(&store).await;
    let reaped = store.queue().reap(&store.storage.processes()).await.unwrap();
    assert_eq!((reaped[0].status, reaped[0].counted), (JobStatus::Queued, false));
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker() {
    let store = Store::new().await;
    let queue = store.queue();
    let waiting = store.enqueue(0, "a").await;
    assert_eq!(queue.cancel(&waiting).await.unwrap(), JobStatus::Cancelled);
    assert!(store.claim("w", None).await.is_none());
    let running = store.enqueue(0, "a").await;
    let lease = store.claim("w", None).await.unwrap().lease;
    assert_eq!(queue.cancel(&running).await.unwrap(), JobStatus::Running);
    assert_eq!(queue.renew(&lease, None).await.unwrap(), LeaseState::CancelRequested);
    assert_eq!(complete(&store, &lease).await, Finished::Cancelled, "too late to be published");
    assert!(store.storage.generations().find(&running).await.unwrap().outputs.is_empty());
    assert_eq!(store.status(&running).await, JobStatus::Cancelled);
    let refused = queue.cancel(&running).await.unwrap_err().to_string();
    assert!(refused.contains("is cancelled, only pending or processing"), "{refused}");
    assert!(matches!(queue.cancel("nothing").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_cancelled_job_whose_worker_dies_stays_cancelled() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    store.claim("w", None).await.unwrap();
    store.queue().cancel(&id).await.unwrap();
    store.queue().worker_died("w", true).await.unwrap();
    assert_eq!(store.status(&id).await, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_failed_job_can_be_tried_again_and_a_finished_one_cannot() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    let lease = store.claim("w", None).await.unwrap().lease;
    let failure = Failure { code: "out_of_memory".into(), message: "too large".into() };
    store.queue().fail(&lease, &failure).await.unwrap();
    assert_eq!(store.queue().find(&id).await.unwrap().error_message.as_deref(), Some("too large"));
    store.queue().retry(&id).await.unwrap();
    let again = store.claim("w", None).await.unwrap();
    assert_eq!((again.lease.epoch, again.job.error_message.clone()), (2, None));
    complete(&store, &again.lease).await;
    assert!(matches!(store.queue().retry(&id).await, Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn a_job_that_is_put_back_is_as_new() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    let lease = store.claim("w", None).await.unwrap().lease;
    store.queue().put_back(&lease).await.unwrap();
    assert_eq!(store.queue().find(&id).await.unwrap().attempts, 0);
    assert_eq!(store.claim("v", None).await.unwrap().lease.epoch, 2);
}
