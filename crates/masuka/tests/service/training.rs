//! Trainings: from pictures to an adapter that draws, whatever happens on the way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::datasets::{blueprint, new_dataset, upload};
use crate::http::Request;
use crate::streams::read;
use crate::support::{Options, TestApp, signal, small};
use crate::trouble::doctor;

/// A dataset of four captioned pictures; its id.
fn dataset(app: &TestApp) -> String {
    let path = new_dataset(app, Some("TOK"));
    let files: Vec<_> = blueprint("train").into_iter().take(8).collect();
    assert_eq!(upload(app, &path, &files)["uploaded_count"], 4);
    path.rsplit('/').next().unwrap().to_owned()
}

/// A training that takes moments on the starter model.
fn quick(dataset_id: &str, more: &Value) -> Value {
    let mut body = json!({
        "name": "Blueprint", "dataset_id": dataset_id, "steps": 4, "network_dim": 4, "network_alpha": 4,
        "batch_size": 1, "resolution": 64, "learning_rate": 1e-3, "seed": 7, "sample_every": 0,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// Asks for a training; its address.
fn train(app: &TestApp, dataset_id: &str, more: Value) -> String {
    let created = app.post("/api/training/flux", &quick(dataset_id, &more)).expect(201);
    assert_eq!(
        (&created["status"], &created["task_id"]),
        (&json!("pending"), &created["session_id"])
    );
    format!("/api/training/{}", created["session_id"].as_str().unwrap())
}

/// The training once `is_there`.
fn wait(app: &TestApp, path: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let training = app.get(path).expect(200);
        if is_there(&training) {
            return training;
        }
        assert!(start.elapsed() < Duration::from_secs(180), "it never came: {training}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The training in this state; fails at once when it ends in another.
fn wait_for(app: &TestApp, path: &str, status: &str) -> Value {
    let finals = ["completed", "failed", "cancelled"];
    let training = wait(app, path, |training| {
        let now = training["status"].as_str().unwrap();
        now == status || finals.contains(&now)
    });
    assert_eq!(training["status"], status, "{training}");
    training
}

fn has_checkpoint(training: &Value) -> bool {
    !training["checkpoints"].as_array().unwrap().is_empty()
}

/// The steps of all checkpoints that were ever published.
fn checkpoints_told(app: &TestApp, path: &str) -> Vec<u64> {
    let log = app.get(&format!("/api/jobs/{}/log", path.rsplit('/').next().unwrap())).expect(200);
    let entries = log.as_array().unwrap().iter().filter(|entry| entry["event"] == "checkpoint");
    entries.map(|entry| entry["details"]["checkpoint"]["step"].as_u64().unwrap()).collect()
}

/// A curve without gap or repetition, of finite losses.
fn check_curve(app: &TestApp, path: &str, steps: usize) {
    let curve = app.get(&format!("{path}/loss")).expect(200);
    let of = |point: &Value| (point["step"].as_u64().unwrap(), point["loss"].as_f64().unwrap());
    let points: Vec<_> = curve.as_array().unwrap().iter().map(of).collect();
    assert_eq!(points.len(), steps, "{curve}");
    assert!(points.iter().zip(1..).all(|((step, loss), n)| *step == n && *loss > 0.0), "{curve}");
}

#[test]
fn pictures_become_an_adapter_that_draws_in_the_next_request() {
    let app = TestApp::start();
    let dataset_id = dataset(&app);
    let path = train(
        &app,
        &dataset_id,
        json!({ "sample_every": 4, "sample_prompts": ["rocket, TOK style"] }),
    );
    let id = path.rsplit('/').next().unwrap();
    let stream = Request::new("GET", &format!("/api/progress/stream/{id}")).open(app.address);
    let messages = read(stream.unwrap(), |_| false);
    let told = |status: &str| messages.iter().filter(|(_, data)| data["status"] == status).count();
    assert!(told("preparing") > 0 && told("training") > 0, "{messages:?}");
    let steps = messages.iter().filter(|(_, data)| data["current_loss"].as_f64().is_some());
    assert!(steps.count() >= 4, "{messages:?}");
    assert!(messages.iter().any(|(_, data)| data["sample"]["prompt"] == "rocket, TOK style"));
    assert!(messages.iter().any(|(_, data)| data["checkpoint_step"] == 4));
    let (_, last) = messages.last().unwrap();
    assert_eq!((&last["status"], &last["progress"]), (&json!("completed"), &json!(100.0)));

    let training = wait_for(&app, &path, "completed");
    assert_eq!((&training["current_step"], &training["total_steps"]), (&json!(4), &json!(4)));
    check_curve(&app, &path, 4);
    let sample = app.download(&training["samples"][0]["url"]);
    image::load_from_memory(&sample.body).expect("a picture");

    let model =
        app.get(&format!("/api/models/{}", training["model_id"].as_str().unwrap())).expect(200);
    assert_eq!((&model["name"], &model["trigger_word"]), (&json!("Blueprint"), &json!("TOK")));
    assert_eq!((&model["rank"], &model["alpha"]), (&json!(4), &json!(4.0)));
    assert_eq!(
        (&model["base_model"], &model["training_session_id"]),
        (&json!("starter"), &json!(id))
    );
    let metadata = &model["model_metadata"];
    assert_eq!(
        metadata["dataset"],
        json!({ "id": dataset_id, "name": "Blueprint", "pictures": 4 })
    );
    assert_eq!(metadata["training_parameters"]["steps"], 4);
    assert_eq!(metadata["loss_curve"].as_array().unwrap().len(), 4);
    image::load_from_memory(&app.download(&metadata["samples"][0]["url"]).body).expect("a picture");
    assert_eq!(
        model["sha256"],
        crate::generate::sha256(&app.download(&model["download_url"]).body)
    );

    let draw = |more: Value| {
        let job = app.wait_for(&app.generate(more), "completed");
        app.download(&job["images"][0]["url"]).body
    };
    let (with, without) =
        (draw(json!({ "model_id": model["id"], "lora_weight": 1 })), draw(json!({})));
    let pixels = |png: &[u8]| image::load_from_memory(png).unwrap().to_rgb8();
    assert_ne!(pixels(&with), pixels(&without), "it has no effect");

    assert_eq!(app.delete(&path).status, 204);
    app.get(&path).expect(404);
    wait_until_gone(&app, &format!("files/training/{id}"));
    wait_until_gone(&app, &format!("training/{id}"));
    app.get(&format!("/api/models/{}", model["id"].as_str().unwrap())).expect(200);
}

fn wait_until_gone(app: &TestApp, name: &str) {
    let start = Instant::now();
    while app.data(name).exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "`{name}` is left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_killed_worker_loses_at_most_the_steps_since_the_last_checkpoint() {
    let mut app = TestApp::with_flags(&["--max-attempts", "9"]);
    let dataset_id = dataset(&app);
    let path = train(&app, &dataset_id, json!({ "steps": 12, "save_every": 2 }));
    wait(&app, &path, has_checkpoint);
    signal(app.worker(), "KILL");
    wait(&app, &path, |training| training["checkpoints"].as_array().unwrap().len() == 2);
    app.kill_server();
    app.restart();
    let training = wait_for(&app, &path, "completed");
    assert!(training["model_id"].is_string(), "{training}");
    check_curve(&app, &path, 12);
    let told = checkpoints_told(&app, &path);
    assert!(told.is_sorted(), "it began anew: {told:?}");
    assert_eq!(told.last(), Some(&12));

    // The same training that nobody disturbs learns the same.
    let other = wait_for(&app, &train(&app, &dataset_id, json!({ "steps": 12 })), "completed");
    let tensors = |training: &Value| {
        let model = format!("/api/models/{}", training["model_id"].as_str().unwrap());
        let file = app.download(&app.get(&model).expect(200)["download_url"]).body;
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        file[8 + header..].to_vec()
    };
    assert!(tensors(&training) == tensors(&other), "other weights than without the kills");
}

#[test]
fn a_server_that_ends_in_order_loses_no_step_of_a_training() {
    let mut app = TestApp::start();
    let dataset_id = dataset(&app);
    let path = train(&app, &dataset_id, json!({ "steps": 100_000, "save_every": 50_000 }));
    wait(&app, &path, |training| training["current_step"].as_u64() > Some(2));
    assert_eq!(app.stop(), Some(0));
    app.restart();
    let training = wait(&app, &path, |training| training["status"] == "training");
    let saved = training["checkpoints"][0]["step"].as_u64().expect("a checkpoint");
    assert!(saved > 2 && training["current_step"].as_u64() >= Some(saved), "{training}");
    assert_eq!(training["attempts"], 0, "a server that ends is no attempt");
    app.post(&format!("{path}/cancel"), &json!({})).expect(200);
    wait_for(&app, &path, "cancelled");
}

#[test]
fn a_training_waits_goes_on_and_stops_when_it_is_told_to() {
    let app = TestApp::start();
    let dataset_id = dataset(&app);
    let path = train(&app, &dataset_id, json!({ "steps": 100_000 }));
    let post = |what: &str| app.post(&format!("{path}/{what}"), &json!({}));
    wait(&app, &path, |training| training["current_step"].as_u64() > Some(1));
    assert_eq!(post("resume").expect(409)["error"]["code"], "wrong_state");
    post("save").expect(202);
    let saved = wait(&app, &path, has_checkpoint)["checkpoints"][0]["step"].clone();

    post("pause").expect(200);
    let paused = wait_for(&app, &path, "paused");
    let step = paused["checkpoints"].as_array().unwrap().last().unwrap()["step"].clone();
    assert!(step.as_u64() >= saved.as_u64());
    assert_eq!(paused["current_step"], step, "nothing is lost");
    assert_eq!(post("save").expect(409)["error"]["code"], "wrong_state");
    let in_use = app.delete(&format!("/api/datasets/{dataset_id}")).expect(409);
    assert_eq!(in_use["error"]["code"], "dataset_in_use");
    post("resume").expect(200);
    wait(&app, &path, |training| training["current_step"].as_u64() > step.as_u64());

    // A picture does not wait for the training's end, which makes way and goes on.
    let picture = app.generate(json!({}));
    app.wait_for(&picture, "completed");
    wait_for(&app, &path, "training");

    post("cancel").expect(200);
    let cancelled = wait_for(&app, &path, "cancelled");
    assert!(has_checkpoint(&cancelled), "the last checkpoint is kept");
    assert_eq!(post("pause").expect(409)["error"]["code"], "wrong_state");
    assert_eq!(app.delete(&format!("/api/datasets/{dataset_id}")).status, 204);
    assert_eq!(app.get("/api/training").expect(200)[0]["session_id"], cancelled["session_id"]);
    assert_eq!(app.delete(&path).status, 204);
    wait_until_gone(&app, &format!("files{}", &path[4..]));
}

#[test]
fn a_picture_that_does_not_fit_beside_a_training_waits_and_lets_others_pass() {
    let variables = vec![("MASUKA_MEMORY_MIB", "800".to_owned())];
    let app = TestApp::with(Options { variables, ..Options::default() });
    let path = train(&app, &dataset(&app), json!({ "steps": 100_000 }));
    wait(&app, &path, |training| training["current_step"].as_u64() > Some(0));
    let large = app.generate(json!({ "width": 2048, "height": 2048 }));
    for _ in 0..2 {
        app.wait_for(&app.generate(json!({})), "completed");
    }
    let job = app.get(&format!("/api/generate/{large}")).expect(200);
    assert_eq!((&job["status"], &job["attempts"]), (&json!("pending"), &json!(0)), "{job}");
    assert!(app.told(&large).contains(&"processing".to_owned()), "it was not tried");
    app.post(&format!("{path}/cancel"), &json!({})).expect(200);
    wait_for(&app, &path, "cancelled");
    let job = app.wait_for(&large, "failed");
    assert_eq!(job["error_code"], "out_of_memory", "even alone: {job}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_names_step_and_picture() {
    let app = TestApp::start();
    let dataset_id = dataset(&app);
    let more = json!({ "steps": 40, "learning_rate": 1e30, "warmup_steps": 0, "save_every": 1 });
    let path = train(&app, &dataset_id, more);
    let failed = wait_for(&app, &path, "failed");
    assert_eq!(failed["error_code"], "loss_not_finite");
    let message = failed["error_message"].as_str().unwrap();
    assert!(message.contains(".png") && message.contains("of step"), "{message}");
    assert!(has_checkpoint(&failed) && failed["model_id"].is_null(), "{failed}");
    assert_eq!(app.get("/api/models").expect(200), json!([]));
    app.wait_for(&app.generate(json!({})), "completed");
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_queued() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset_id = dataset(&app);
    let check = |more: Value, field: &str, part: &str| {
        let refused = app.post("/api/training/flux", &quick(&dataset_id, &more)).expect(422);
        let message = refused["error"]["message"].as_str().unwrap();
        assert_eq!(refused["error"]["field"], field, "{more}: {message}");
        assert!(message.contains(part), "{more}: {message}");
    };
    check(json!({ "name": "" }), "name", "is empty");
    check(
        json!({ "network_dim": 1 << 20 }),
        "network_dim",
        "network_dim 1048576 is not within 1 and 1024",
    );
    check(json!({ "network_dim": -1 }), "network_dim", "is below 0");
    check(
        json!({ "network_alpha": 0 }),
        "network_alpha",
        "network_alpha 0 is not a number above 0",
    );
    check(json!({ "steps": 0 }), "steps", "steps 0 is not within");
    check(json!({ "optimizer": "lion" }), "optimizer", "optimizer `lion` is not one of adamw");
    check(
        json!({ "lr_scheduler": "step" }),
        "lr_scheduler",
        "`step` is not one of constant, cosine",
    );
    check(
        json!({ "target_modules": "all" }),
        "target_modules",
        "target_modules `all` is not one of",
    );
    check(json!({ "resolution": 100 }), "resolution", "is not a multiple of 16");
    check(json!({ "model_type": "wan_video" }), "model_type", "is not one of flux_image");
    check(json!({ "caption_dropout": 2 }), "caption_dropout", "2 is not at least 0");
    check(json!({ "config": { "beta1": 2 } }), "config", "config.beta1 2");
    check(json!({ "config": { "momentum": 1 } }), "config", "option `momentum`, expected beta1");
    check(
        json!({ "config": { "dtype": "fp4" } }),
        "config",
        "config.dtype \"fp4\" is not one of f32, bf16",
    );
    check(json!({ "config": { "dtype": "int8" } }), "config", "config.dtype int8 has no gradients");
    check(json!({ "save_every": 0 }), "save_every", "is not at least 1");
    check(json!({ "sample_prompts": [""] }), "sample_prompts", "is empty");
    check(json!({ "trigger_word": "SKS" }), "trigger_word", "`SKS` is not in 4 captions");
    // 29 GB of gradients, for each piece of the batch has its own.
    let system = app.get("/api/system").expect(200);
    if system["machine"]["memory"]["available_bytes"].as_f64().unwrap() < 28e9 {
        check(json!({ "batch_size": 256, "network_dim": 1024 }), "batch_size", "GiB");
    }
    check(json!({ "stepps": 1 }), "stepps", "unknown field");
    let empty = new_dataset(&app, None);
    check(
        json!({ "dataset_id": empty.rsplit('/').next().unwrap() }),
        "dataset_id",
        "has no pictures",
    );
    for (key, code) in [("dataset_id", "not_found"), ("base_model", "base_model_not_found")] {
        let body = quick(&dataset_id, &json!({ key: "nobody" }));
        assert_eq!(app.post("/api/training/flux", &body).expect(404)["error"]["code"], code);
    }
    let video = app.post("/api/training/video", &quick(&dataset_id, &json!({}))).expect(501);
    assert_eq!(video["error"]["code"], "not_implemented");
    assert_eq!(app.get("/api/training").expect(200), json!([]));
    assert_eq!(app.get("/api/queue").expect(200)["pending"], 0, "something was queued");

    // What suits the starter, where nothing is said.
    let body = json!({ "name": "Defaults", "dataset_id": dataset_id });
    let created = app.post("/api/training/flux/", &body).expect(201);
    let path = format!("/api/training/{}", created["session_id"].as_str().unwrap());
    let training = app.get(&path).expect(200);
    let recipe = &training["parameters"]["recipe"];
    assert_eq!((&training["status"], &training["queue_position"]), (&json!("pending"), &json!(0)));
    assert_eq!((&recipe["batch"], &recipe["resolution"]), (&json!(8), &json!(128)));
    assert!(training["parameters"]["memory_bytes"].as_u64() > Some(1 << 20));
    app.post(&format!("{path}/pause"), &json!({})).expect(200);
    assert_eq!(app.get(&path).expect(200)["status"], "paused");
    app.post("/api/generate/image", &small(json!({}))).expect(201);
    assert_eq!(app.get("/api/queue").expect(200)["pending"], 1, "what is paused does not wait");
    app.post(&format!("{path}/cancel"), &json!({})).expect(200);
    assert_eq!(app.get(&path).expect(200)["status"], "cancelled");
}

#[test]
fn the_doctor_looks_into_the_files_of_trainings() {
    let app = TestApp::start();
    let wishes =
        json!({ "save_every": 2, "sample_every": 4, "sample_prompts": ["bus, TOK style"] });
    let path = train(&app, &dataset(&app), wishes);
    wait_for(&app, &path, "completed");
    let (found, is_well) = doctor(&app, &["--read-all"]);
    assert!(is_well, "{found}");
    let id = path.rsplit('/').next().unwrap();
    let folder = app.data(&format!("files/training/{id}"));
    let epoch = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(epoch.join("left.png"), "nobody's").unwrap();
    std::fs::remove_file(epoch.join("sample-00000004-1.png")).unwrap();
    let (found, is_well) = doctor(&app, &["--remove-orphans"]);
    assert!(!is_well);
    let key = |name: &str| {
        let number = epoch.file_name().unwrap().to_string_lossy();
        format!("training/{id}/{number}/{name}")
    };
    assert_eq!(found["missing"], json!([key("sample-00000004-1.png")]));
    assert_eq!(found["orphans"], json!([{ "key": key("left.png"), "bytes": 8 }]));
    assert_eq!(app.delete(&path).status, 204);
    let (found, _) = doctor(&app, &[]);
    assert_eq!((&found["missing"], &found["orphans"]), (&json!([]), &json!([])));
}
