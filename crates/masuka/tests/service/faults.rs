//! kill -9, anywhere, anytime: every acknowledged job is done exactly once, and what is published is whole.
//!
//! `MASUKA_FAULT_ROUNDS` makes the loop longer, as `just test-faults` does.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::generate::sha256;
use crate::support::{TestApp, signal, small};

const ROUNDS: u32 = 6;
const JOBS_A_ROUND: u32 = 3;

/// As many rounds as were asked for, else [`ROUNDS`].
fn rounds() -> u32 {
    let asked = std::env::var("MASUKA_FAULT_ROUNDS").ok();
    asked.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Some time below `limit`, different in each run.
fn some_time(limit: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    limit * random as u32 / 1000
}

fn wait_until_gone(pid: u32) {
    let start = Instant::now();
    while is_running(pid) {
        assert!(start.elapsed() < Duration::from_secs(10), "the worker {pid} outlives its server");
        sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; one that is over and waits for its parent does not.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// A finished job's files are there, whole, and nothing of an earlier attempt is left beside them.
fn check_published(app: &TestApp, job: &Value) {
    let id = job["id"].as_str().unwrap();
    let images = job["images"].as_array().unwrap();
    assert_eq!(images.len(), job["parameters"]["num_images"].as_u64().unwrap() as usize, "{job}");
    for image in images {
        assert_eq!(image["sha256"], sha256(&app.download(&image["url"]).body), "{job}");
    }
    let key = job["parameters"]["output_paths"][0].as_str().unwrap();
    let epoch = key.split('/').nth(2).unwrap();
    let folder = app.data(&format!("files/generated/{id}"));
    let epochs: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(epochs, [epoch], "files of other attempts are left");
    let ends = app.told(id).into_iter().filter(|event| event == "completed").count();
    assert_eq!(ends, 1, "finished more than once");
}

#[test]
fn every_acknowledged_job_is_done_once_whoever_is_killed() {
    let mut app = TestApp::with_flags(&["--max-attempts", "255"]);
    let (mut acknowledged, mut worker_kills) = (Vec::new(), 0);
    for round in 0..rounds() {
        for _ in 0..JOBS_A_ROUND {
            acknowledged.push(app.generate(json!({ "num_images": 1 + round % 2 })));
        }
        let worker = app.worker();
        sleep(some_time(Duration::from_millis(1500)));
        if round % 2 == 0 {
            signal(worker, "KILL");
            worker_kills += 1;
        } else {
            app.kill_server();
            wait_until_gone(worker);
            app.restart();
        }
    }
    let jobs: Vec<_> = acknowledged.iter().map(|id| app.wait_for(id, "completed")).collect();
    jobs.iter().for_each(|job| check_published(&app, job));
    assert_eq!(acknowledged.iter().collect::<BTreeSet<_>>().len(), jobs.len());
    let attempts: i64 = jobs.iter().map(|job| job["attempts"].as_i64().unwrap()).sum();
    assert!(
        attempts <= worker_kills,
        "{attempts} attempts, but {worker_kills} workers were killed"
    );
}

#[test]
fn a_request_is_acknowledged_only_when_it_will_survive() {
    let mut app = TestApp::with_flags(&["--no-worker"]);
    let address = app.address;
    let client = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        loop {
            let request = crate::http::Request::new("POST", "/api/generate/image");
            match request.json(&small(json!({}))).send(address) {
                Ok(response) => acknowledged.push(response.expect(201)["job_id"].clone()),
                Err(_) => return acknowledged,
            }
        }
    });
    sleep(Duration::from_millis(300));
    app.kill_server();
    let acknowledged = client.join().unwrap();
    assert!(!acknowledged.is_empty());
    app.restart();
    for id in acknowledged {
        app.get(&format!("/api/generate/{}", id.as_str().unwrap())).expect(200);
    }
}

#[test]
fn a_job_whose_workers_die_is_given_up_and_the_next_one_runs() {
    let app = TestApp::with_flags(&["--max-attempts", "2"]);
    let killer = app.generate(json!({ "num_inference_steps": 100, "width": 256, "height": 256 }));
    let next = app.generate(json!({}));
    for attempt in 0..2 {
        app.wait(&killer, |job| job["status"] == "processing" && job["attempts"] == attempt);
        signal(app.worker(), "ABRT"); // as a failed assertion of a library would
        app.wait(&killer, |job| job["attempts"] == attempt + 1);
    }
    let job = app.wait_for(&killer, "failed");
    assert_eq!(job["error_code"], "worker_died");
    assert!(job["error_message"].as_str().unwrap().contains("died 2 times"), "{job}");
    app.wait_for(&next, "completed");
}

#[test]
fn a_server_that_ends_in_order_puts_its_job_back() {
    let mut app = TestApp::start();
    let id = app.generate(json!({ "num_inference_steps": 100, "width": 256, "height": 256 }));
    app.wait_for(&id, "processing");
    let worker = app.worker();
    let start = Instant::now();
    assert_eq!(app.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    wait_until_gone(worker);
    app.restart();
    let job = app.wait(&id, |job| job["status"] == "processing");
    assert_eq!(job["attempts"], 0, "a server that ends is no attempt");
    assert_eq!(app.delete(&format!("/api/generate/{id}")).status, 204);
}

/// A worker by itself, as on another machine of the same studio.
pub fn start_worker(app: &TestApp, flags: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masuka"));
    command
        .arg("worker")
        .args(flags)
        .env("MASUKA_DATA_DIR", app.data(""))
        .env("MASUKA_LOG", "warn");
    command.spawn().expect("a worker")
}

#[test]
fn a_second_worker_takes_over_from_one_that_was_killed() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let id = app.generate(json!({ "num_inference_steps": 100, "width": 256, "height": 256 }));
    let mut first = start_worker(&app, &[]);
    app.wait_for(&id, "processing");
    let mut second = start_worker(&app, &[]);
    first.kill().unwrap();
    first.wait().unwrap();
    let killed = Instant::now();
    app.wait(&id, |job| job["status"] == "processing" && job["attempts"] == 1);
    assert!(killed.elapsed() < Duration::from_secs(10), "known by the lock, not by the lease");
    app.post(&format!("/api/generate/{id}/cancel"), &json!({})).expect(200);
    app.wait_for(&id, "cancelled");
    signal(second.id(), "TERM");
    assert!(second.wait().unwrap().success());
}

#[test]
fn a_worker_that_ends_in_order_puts_its_job_back() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let id = app.generate(json!({ "num_inference_steps": 100, "width": 256, "height": 256 }));
    let mut worker = start_worker(&app, &[]);
    app.wait_for(&id, "processing");
    signal(worker.id(), "TERM");
    assert!(worker.wait().unwrap().success());
    let job = app.wait_for(&id, "pending");
    assert_eq!((&job["attempts"], &job["queue_position"]), (&json!(0), &json!(0)));
}

#[test]
#[ignore = "waits for a lease of 30 seconds; `just test-faults` runs it"]
fn a_worker_that_wakes_up_too_late_changes_nothing() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let mut sleeper = start_worker(&app, &[]);
    let id = app.generate(json!({ "num_inference_steps": 100, "width": 128, "height": 128 }));
    app.wait(&id, |job| job["progress"]["step"].as_u64().unwrap_or(0) > 0);
    signal(sleeper.id(), "STOP");
    let mut heir = start_worker(&app, &[]);
    let job = app.wait_for(&id, "completed");
    signal(sleeper.id(), "CONT");
    sleep(Duration::from_secs(5));
    let later = app.wait_for(&id, "completed");
    assert_eq!(later["parameters"], job["parameters"], "other files were published");
    assert_eq!(job["attempts"], 0, "it stood still, it did not die");
    check_published(&app, &job);
    for worker in [&mut sleeper, &mut heir] {
        signal(worker.id(), "TERM");
        assert!(worker.wait().unwrap().success());
    }
}
