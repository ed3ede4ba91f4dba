//! What a machine does to a service: disks fill up, files rot, databases are locked, memory runs short. Each ends one job
//! with a clear word; the service stays up and the next job works.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use masuka_storage::blobs::BlobKey;
use masuka_storage::{Storage, StorageConfig};
use serde_json::{Value, json};

use crate::http::Request;
use crate::models::{fixture, import};
use crate::support::{Options, SmallDisk, TestApp, small};

/// A job that must fail with `code`, with a message that holds `part`.
fn fails(app: &TestApp, more: Value, code: &str, part: &str) -> String {
    let id = app.generate(more);
    let job = app.wait_for(&id, "failed");
    assert_eq!(job["error_code"], code, "{job}");
    assert!(job["error_message"].as_str().unwrap().contains(part), "{job}");
    assert_eq!(job["images"], json!([]), "nothing is published");
    id
}

fn works(app: &TestApp, more: Value) {
    app.wait_for(&app.generate(more), "completed");
}

#[test]
fn a_full_disk_fails_the_job_and_no_other() {
    let small_disk = Some(SmallDisk { folder: "files", kib: 512 });
    let Some(app) = TestApp::on_small_disk(Options { small_disk, ..Options::default() }) else {
        return;
    };
    works(&app, json!({}));
    let filler = app.fill("files");
    let id = fails(&app, json!({ "num_images": 4 }), "disk_full", "make room");
    let ready = app.get("/ready").expect(503);
    assert!(ready["storage"].is_string() && ready["database"].is_null(), "{ready}");
    fs::remove_file(filler).unwrap();
    app.get("/ready").expect(200);
    app.post(&format!("/api/generate/{id}/retry"), &json!({})).expect(200);
    app.wait_for(&id, "completed");
}

#[test]
fn a_database_that_cannot_be_written_any_more_is_read_and_goes_on_later() {
    let small_disk = Some(SmallDisk { folder: "database", kib: 16 << 10 });
    let variables = vec![("DATABASE_URL", "sqlite:database/masuka.db".to_owned())];
    let options = Options { small_disk, variables, ..Options::default() };
    let Some(app) = TestApp::on_small_disk(options) else { return };
    let long = json!({ "num_inference_steps": 100, "width": 256, "height": 256 });
    let running = app.generate(long);
    app.wait_for(&running, "processing");
    let filler = app.fill("database");
    let refused = app.post("/api/generate/image", &small(json!({}))).expect(503);
    assert_eq!(refused["error"]["code"], "unavailable", "{refused}");
    app.get(&format!("/api/generate/{running}")).expect(200);
    app.get("/api/generate").expect(200);
    std::thread::sleep(Duration::from_secs(2)); // steps and signs of life are refused meanwhile
    fs::remove_file(filler).unwrap();
    works(&app, json!({}));
    app.wait_for(&running, "completed");
}

#[test]
fn storage_that_is_gone_fails_jobs_until_it_is_back() {
    let app = TestApp::start();
    works(&app, json!({}));
    let (files, away) = (app.data("files"), app.data("files.away"));
    fs::rename(&files, &away).unwrap();
    fs::write(&files, "no folder").unwrap();
    let id = fails(&app, json!({}), "storage_failed", "cannot be stored");
    assert!(app.get("/ready").expect(503)["storage"].is_string());
    fs::remove_file(&files).unwrap();
    fs::rename(&away, &files).unwrap();
    app.get("/ready").expect(200);
    works(&app, json!({}));
    app.post(&format!("/api/generate/{id}/retry"), &json!({})).expect(200);
    app.wait_for(&id, "completed");
}

#[test]
fn a_damaged_lora_file_is_named() {
    let app = TestApp::start();
    let lora = import(&app, &fixture("attention.safetensors"), &[]).expect(201);
    let id = lora["id"].as_str().unwrap();
    let file = app.data(&format!("files/models/{id}/lora.safetensors"));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    fails(&app, json!({ "model_id": id }), "file_damaged", "import it again");
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    fails(&app, json!({ "model_id": id }), "file_damaged", "import it again");
    fs::remove_file(&file).unwrap();
    fails(&app, json!({ "model_id": id }), "not_found", "does not exist");
    works(&app, json!({}));
}

/// A copy of the starter model of this test's own.
pub fn copy_starter(into: &Path) {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    let copied = Command::new("cp").arg("-r").arg(starter).arg(into).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_damaged_model_file_fails_its_jobs_and_not_those_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mine");
    copy_starter(&model);
    let variables = vec![("MASUKA_BASE_MODEL", model.display().to_string())];
    let app = TestApp::with(Options { variables, ..Options::default() });
    assert_eq!(app.get("/api/system").expect(200)["base_model"], "mine");
    let weights = model.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    fails(&app, json!({}), "model_unusable", "diffusion_pytorch_model.safetensors");
    works(&app, json!({ "base_model": "starter" }));
    fs::write(&weights, whole).unwrap();
    works(&app, json!({}));
}

#[test]
fn a_picture_beyond_the_memory_is_refused_with_what_would_fit() {
    let variables = vec![("MASUKA_MEMORY_MIB", "700".to_owned())];
    let app = TestApp::with(Options { variables, ..Options::default() });
    let large = json!({ "width": 2048, "height": 2048 });
    fails(&app, large, "out_of_memory", "available; even `--offload blocks` needs");
    works(&app, json!({}));
}

#[test]
fn a_locked_database_refuses_writers_and_lets_readers_through() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let id = app.generate(json!({}));
    let database = format!("sqlite:{}", app.data("masuka.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(async {
        masuka_storage::database::Database::open(&database).await.unwrap().begin().await.unwrap()
    });
    let refused = app.post("/api/generate/image", &small(json!({}))).expect(503);
    assert_eq!(refused["error"]["code"], "unavailable", "{refused}");
    app.get(&format!("/api/generate/{id}")).expect(200);
    runtime.block_on(lock.rollback()).unwrap();
    app.generate(json!({}));
}

#[test]
fn a_running_job_outlasts_a_database_that_is_locked_for_a_while() {
    let app = TestApp::start();
    let id = app.generate(json!({ "num_inference_steps": 20 }));
    app.wait_for(&id, "processing");
    let database = format!("sqlite:{}", app.data("masuka.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(async {
        masuka_storage::database::Database::open(&database).await.unwrap().begin().await.unwrap()
    });
    std::thread::sleep(Duration::from_secs(3));
    runtime.block_on(lock.rollback()).unwrap();
    let job = app.wait_for(&id, "completed");
    assert_eq!(job["attempts"], 0, "{job}");
}

#[test]
fn a_database_that_cannot_be_written_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("masuka.db");
    fs::write(&database, []).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_masuka"))
        .args(["serve", "--port", "0", "--data-dir"])
        .arg(folder.path())
        .env_clear()
        .env("DATABASE_URL", format!("sqlite:{}?mode=ro", database.display()))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{message}");
    assert!(message.to_lowercase().contains("readonly database"), "{message}");
}

#[test]
fn forged_and_expired_addresses_open_nothing() {
    let app = TestApp::start();
    let job = app.wait_for(&app.generate(json!({})), "completed");
    let url = job["images"][0]["url"].as_str().unwrap();
    let path = url.split_once("/files/").unwrap().1;
    let code = |path: &str, status: u16| {
        let refused = app.send(Request::new("GET", &format!("/files/{path}"))).expect(status);
        refused["error"]["code"].as_str().unwrap().to_owned()
    };
    let expires = path.split_once("expires=").unwrap().1.split('&').next().unwrap();
    assert_eq!(code(&path.replace(expires, "1"), 403), "signature_invalid");
    assert_eq!(code(&path.replace("image_1.png", "image_2.png"), 403), "signature_invalid");
    assert_eq!(
        code(&format!("..%2f..%2fmasuka.db?{}", path.split_once('?').unwrap().1), 404),
        "not_found"
    );
    assert_eq!(code(path.split_once('?').unwrap().0, 422), "invalid_value");

    let key = BlobKey::parse(path.split_once('?').unwrap().0).unwrap();
    let old = signed(&app, &key, Duration::from_secs(3 * 60 * 60));
    let refused = app.get(&old).expect(403);
    assert_eq!(refused["error"]["code"], "url_expired");
    assert!(refused["detail"].as_str().unwrap().contains("fetch the job"), "{refused}");
    assert_eq!(app.get(&signed(&app, &key, Duration::ZERO)).status, 200);
}

/// The link to `key` that the server gave some time ago.
fn signed(app: &TestApp, key: &BlobKey, ago: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = StorageConfig::local(&app.data(""));
    let storage = runtime.block_on(Storage::open(&config)).unwrap();
    storage.signer().sign(key, (now - ago).as_secs() as i64)
}

/// What `masuka doctor --storage` says about the data of a server, and whether all is well.
pub fn doctor(app: &TestApp, flags: &[&str]) -> (Value, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masuka"));
    command
        .args(["doctor", "--storage", "--json"])
        .args(flags)
        .env("MASUKA_DATA_DIR", app.data(""));
    let output = command.output().expect("the binary runs");
    (serde_json::from_slice(&output.stdout).expect("JSON"), output.status.success())
}

#[test]
fn the_doctor_finds_what_files_and_rows_do_not_agree_about() {
    let app = TestApp::start();
    let job = app.wait_for(&app.generate(json!({})), "completed");
    let (found, is_well) = doctor(&app, &["--read-all"]);
    assert!(is_well, "{found}");
    let key = job["parameters"]["output_paths"][0].as_str().unwrap();
    let file = app.data(&format!("files/{key}"));
    fs::write(&file, "something else").unwrap();
    fs::write(file.with_file_name("left.png"), "nobody's").unwrap();
    let (found, is_well) = doctor(&app, &["--read-all", "--remove-orphans"]);
    assert!(!is_well);
    assert_eq!(found["damaged"], json!([key]));
    assert_eq!((&found["removed"], found["orphans"].as_array().unwrap().len()), (&json!(1), 1));
    fs::remove_file(&file).unwrap();
    let (found, _) = doctor(&app, &[]);
    assert_eq!((&found["missing"], &found["orphans"]), (&json!([key]), &json!([])));
}
