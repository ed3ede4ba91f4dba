//! What workers are told to do: load before the first job, do several jobs at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::start_worker;
use crate::support::{Options, TestApp, blind_to, signal};
use crate::trouble::copy_starter;

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
fn a_model_that_no_job_wants_gives_its_memory_back() {
    let app = TestApp::with_flags(&["--preload", "--unload-after", "1"]);
    let are_empty = |loads: u64| {
        move |workers: &[Value]| {
            let Some(state) = workers.first().map(|worker| &worker["state"]) else { return false };
            state["model_loads"] == loads && state["loaded_models"] == json!([])
        }
    };
    wait_for_workers(&app, are_empty(1));
    app.wait_for(&app.generate(json!({})), "completed");
    wait_for_workers(&app, are_empty(2));
}

#[test]
fn a_worker_serves_the_queues_it_is_told_to() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let id = app.generate(json!({}));
    let mut trainer = start_worker(&app, &["--queues", "training"]);
    let queues = |workers: &[Value], names: Value| {
        workers.iter().any(|worker| worker["state"]["queues"] == names)
    };
    wait_for_workers(&app, |workers| queues(workers, json!(["training"])));
    let mut drawer = start_worker(&app, &["--queues", "generation"]);
    let drawn = app.wait_for(&id, "completed");
    let workers = wait_for_workers(&app, |workers| {
        queues(workers, json!(["generation"]))
            && workers.iter().any(|w| w["state"]["jobs_done"] == 1)
    });
    let of = |pid: u32| workers.iter().find(|worker| worker["pid"] == pid).unwrap();
    assert_eq!(of(trainer.id())["state"]["jobs_done"], 0, "{drawn}");
    for worker in [&mut trainer, &mut drawer] {
        signal(worker.id(), "TERM");
        assert!(worker.wait().unwrap().success());
    }
    assert_eq!(start_worker(&app, &["--queues", "trainig"]).wait().unwrap().code(), Some(2));
}

#[test]
fn what_workers_did_is_counted() {
    let app = TestApp::start();
    let wish = json!({ "num_images": 2, "num_inference_steps": 3 });
    let job = app.wait_for(&app.generate(wish), "completed");
    assert!(job["timings"]["load"].as_f64() > Some(0.0), "it was loaded for this job: {job}");
    wait_for_workers(&app, |workers| workers.iter().any(|w| w["state"]["jobs_done"] == 1));
    let metrics = app.get("/metrics").text();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().expect("a number")
    };
    assert_eq!(value("masuka_jobs_pending") + value("masuka_jobs_processing"), 0.0);
    assert_eq!((value("masuka_workers"), value("masuka_worker_jobs_done")), (1.0, 1.0));
    assert_eq!((value("masuka_worker_model_loads"), value("masuka_worker_steps")), (1.0, 6.0));
    let (steps, job) = (value("masuka_worker_step_seconds"), value("masuka_worker_job_seconds"));
    assert!(steps > 0.0 && steps < job, "{steps} of {job} s");
    let asked = r#"masuka_http_request_seconds_count{method="POST",route="/api/generate/image",status="201"}"#;
    assert_eq!(value(asked), 1.0);
}

#[test]
fn jobs_are_left_to_workers_that_have_their_base_model() {
    let folder = tempfile::tempdir().unwrap();
    copy_starter(&folder.path().join("mine"));
    let Some(mut blind) = blind_to(folder.path()) else { return };
    let variables = vec![("MASUKA_BASE_MODEL", folder.path().join("mine").display().to_string())];
    let flags = vec!["--no-worker"];
    let app = TestApp::with(Options { flags, variables, ..Options::default() });
    blind.arg("worker").env("MASUKA_DATA_DIR", app.data("")).env("MASUKA_LOG", "error");
    let mut blind = blind.spawn().unwrap();
    let mut seeing = start_worker(&app, &[]);
    let has = |workers: &[Value], pid: u32, models: Value| {
        workers.iter().any(|w| w["pid"] == pid && w["state"]["base_models"] == models)
    };
    wait_for_workers(&app, |workers| {
        has(workers, blind.id(), json!(["starter"]))
            && has(workers, seeing.id(), json!(["mine", "starter"]))
    });
    for _ in 0..6 {
        app.wait_for(&app.generate(json!({})), "completed");
    }
    // Nobody else has it: the job is not left to wait for ever.
    signal(seeing.id(), "TERM");
    assert!(seeing.wait().unwrap().success());
    let job = app.wait_for(&app.generate(json!({})), "failed");
    assert!(job["error_message"].as_str().unwrap().contains("mine"), "{job}");
    app.wait_for(&app.generate(json!({ "base_model": "starter" })), "completed");
    signal(blind.id(), "TERM");
    assert!(blind.wait().unwrap().success());
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
