//! What workers are told to do: load before the first job, do several jobs at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::start_worker;
use crate::support::{TestApp, signal};

/// The states of the living workers once they are as expected.
fn wait_for_workers(app: &TestApp, are_there: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let workers = app.get("/api/queue").expect(200)["workers"].as_array().unwrap().clone();
        if are_there(&workers) {
            return workers;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{workers:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_preloaded_model_waits_for_its_first_job() {
    let app = TestApp::with_flags(&["--preload"]);
    let loaded = |workers: &[Value]| workers[0]["state"]["loaded_models"] == json!(["starter"]);
    wait_for_workers(&app, |workers| !workers.is_empty() && loaded(workers));
    let id = app.generate(json!({}));
    let job = app.wait_for(&id, "completed");
    assert_eq!(job["timings"]["load"], 0.0, "{job}");
    let done = |workers: &[Value]| workers[0]["state"]["jobs_done"] == 1;
    assert_eq!(wait_for_workers(&app, done)[0]["state"]["model_loads"], 1);
}

#[test]
fn a_worker_of_two_does_two_jobs_at_once() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let long = json!({ "num_inference_steps": 100, "width": 256, "height": 256 });
    let ids = [app.generate(long.clone()), app.generate(long)];
    let mut process = start_worker(&app, &["--concurrency", "2"]);
    assert_eq!(wait_for_workers(&app, |workers| workers.len() == 2).len(), 2);
    for id in &ids {
        app.wait_for(id, "processing");
    }
    assert_eq!(app.get("/api/queue").expect(200)["processing"], 2);
    for id in &ids {
        app.post(&format!("/api/generate/{id}/cancel"), &json!({})).expect(200);
        app.wait_for(id, "cancelled");
    }
    signal(process.id(), "TERM");
    assert!(process.wait().unwrap().success());
    assert!(wait_for_workers(&app, <[Value]>::is_empty).is_empty());
}
