//! What a machine does to a service: disks fill up, files rot, databases are locked, memory runs short. Each ends one job
//! with a clear word; the service stays up and the next job works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Request;
use crate::models::{fixture, import};
use crate::support::{Options, TestApp, small};

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

/// A small file system in memory, mounted for as long as this lives.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Nothing where this process may not mount.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_fails_the_job_and_no_other() {
    let app = TestApp::start();
    works(&app, json!({}));
    let Some(tmpfs) = Tmpfs::mount(&app.data("files"), "24k") else {
        eprintln!("skipped: only root may mount the small file system that is to be filled");
        return;
    };
    let id = fails(&app, json!({ "num_images": 4 }), "disk_full", "make room");
    fs::write(app.data("files/filler"), vec![0; 64 << 10]).unwrap_err();
    let ready = app.get("/ready").expect(503);
    assert!(ready["storage"].is_string() && ready["database"].is_null(), "{ready}");
    drop(tmpfs);
    app.get("/ready").expect(200);
    app.post(&format!("/api/generate/{id}/retry"), &json!({})).expect(200);
    app.wait_for(&id, "completed");
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
fn copy_starter(into: &Path) {
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
    let app = TestApp::with(Options { flags: vec![], variables });
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
    let app = TestApp::with(Options { flags: vec![], variables });
    let large = json!({ "width": 2048, "height": 2048 });
    fails(&app, large, "out_of_memory", "fewer images, a smaller size or an offload mode");
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
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(code(path.split_once('?').unwrap().0, 422), "invalid_value");
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
