//! Base models from a hub: fetched once, watched, stopped, taken up again, used, taken off the list.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Request;
use crate::hub::{CUT_AFTER, FakeHub, Manner, REPO, WEIGHTS};
use crate::streams::read;
use crate::support::{Options, TestApp, small};

const INSTALL: &str = "/api/models/base/install";

fn options(hub: &FakeHub) -> Options {
    // Within the server's own folder.
    let variables = vec![("HF_ENDPOINT", hub.server.url("")), ("HF_HUB_CACHE", "hub".into())];
    Options { flags: vec!["--no-worker"], variables }
}

fn start(manner: Manner) -> (FakeHub, TestApp) {
    let hub = FakeHub::start(manner);
    let app = TestApp::with(options(&hub));
    (hub, app)
}

fn install(app: &TestApp) -> Value {
    app.post(INSTALL, &json!({ "repo": REPO })).expect(202)
}

/// Ids of the base models that can be asked for.
fn ids(app: &TestApp) -> Vec<String> {
    let models = app.get("/api/models/base").expect(200);
    let ids = models.as_array().expect("a list").iter();
    ids.map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
}

fn wait_until(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_installed(app: &TestApp) {
    wait_until("installed", || ids(app) == ["starter", "icons"]);
}

/// The error with which the only installation has failed.
fn failure(app: &TestApp) -> Value {
    wait_until("failed", || app.get(INSTALL).expect(200)[0]["status"] == "failed");
    app.get(INSTALL).expect(200)[0]["error"].clone()
}

#[test]
fn an_installed_model_was_watched_on_its_way_and_draws() {
    let hub = FakeHub::start(Manner::Cuts);
    let app = TestApp::with(Options { flags: vec![], ..options(&hub) });
    let stream = Request::new("GET", "/api/events").open(app.address).expect("an answer");
    let begun = install(&app);
    assert_eq!((&begun["id"], &begun["status"]), (&json!("icons"), &json!("installing")));
    let total = begun["total_bytes"].as_u64().expect("a number");
    assert!(total > 20_000_000, "{begun}");
    let heard = read(stream, |data| data["event"] == "models");
    let told = heard.iter().filter(|(_, data)| data["event"] == "install");
    let told: Vec<&Value> = told.map(|(_, data)| &data["details"]).collect();
    let bytes: Vec<_> = told.iter().map(|view| view["bytes"].as_u64().expect("a number")).collect();
    assert!(bytes.len() > 3 && bytes.is_sorted(), "{bytes:?}");
    assert!(told.iter().any(|view| view["file"] == WEIGHTS), "{told:?}");
    assert!(told.iter().all(|view| view["total_bytes"] == total), "{told:?}");
    assert_eq!(told.last().expect("some")["status"], "completed");
    assert_eq!(hub.weights_asked_from().first_chunk(), Some(&[0, CUT_AFTER, 2 * CUT_AFTER]));

    assert_eq!(app.get(INSTALL).expect(200), json!([]));
    let model = &app.get("/api/models/base").expect(200)[1];
    assert_eq!((&model["id"], &model["name"]), (&json!("icons"), &json!(REPO)));
    let bytes = |mode: usize| model["memory"][mode]["bytes"].as_u64().expect("a number");
    assert!(bytes(0) > bytes(2) && bytes(2) > 1 << 20, "{model}");
    let job = app.wait_for(&app.generate(json!({ "base_model": "icons" })), "completed");
    assert_eq!(job["parameters"]["base_model"], "icons");
}

#[test]
fn the_same_model_is_not_fetched_twice_at_once() {
    let (hub, app) = start(Manner::Waits);
    install(&app);
    let refused = app.post(INSTALL, &json!({ "repo": REPO, "id": "other" })).expect(409);
    assert_eq!(refused["error"]["code"], "install_running", "{refused}");
    let message = refused["detail"].as_str().expect("a message");
    assert!(message.contains("`owner/icons` is being installed as `icons`"), "{message}");
    assert_eq!(ids(&app), ["starter"]);
    hub.release();
    wait_installed(&app);
}

#[test]
fn a_server_that_dies_half_way_leaves_no_model_and_goes_on_where_it_was() {
    let (hub, mut app) = start(Manner::Waits);
    install(&app);
    wait_until("half of it", || hub.weights_asked_from().len() == 2);
    app.kill_server();
    app.restart();
    assert_eq!((ids(&app), app.get(INSTALL).expect(200)), (vec!["starter".into()], json!([])));
    app.post("/api/generate/image", &small(json!({ "base_model": "icons" }))).expect(404);
    hub.release();
    install(&app);
    wait_installed(&app);
    assert_eq!(hub.weights_asked_from(), [0, CUT_AFTER, CUT_AFTER]);
}

#[test]
fn a_stopped_installation_is_gone_at_once_and_can_be_taken_up_again() {
    let (hub, app) = start(Manner::Waits);
    install(&app);
    wait_until("half of it", || hub.weights_asked_from().len() == 2);
    let path = format!("{INSTALL}/icons");
    assert_eq!(app.delete(&path).status, 204);
    assert_eq!(app.get(INSTALL).expect(200), json!([]));
    assert_eq!(app.delete(&path).expect(404)["error"]["code"], "install_not_found");
    hub.release();
    install(&app);
    wait_installed(&app);
}

#[test]
fn what_the_hub_refuses_is_told_with_the_remedy() {
    let check = |manner, status, code: &str, part: &str| {
        let (_hub, app) = start(manner);
        let refused = app.post(INSTALL, &json!({ "repo": REPO })).expect(status);
        let error = &refused["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!("repo")));
        assert!(refused["detail"].as_str().expect("a message").contains(part), "{refused}");
        assert_eq!(app.get(INSTALL).expect(200), json!([]), "it has not begun");
    };
    check(Manner::Gated(401), 422, "download_failed", "set HF_TOKEN");
    check(Manner::Refuses(404), 422, "download_failed", "`owner/icons` cannot be downloaded");
    check(Manner::Huge, 507, "disk_full", "make room");
}

#[test]
fn the_servers_token_opens_gated_models_and_goes_to_the_hub_only() {
    let hub = FakeHub::start(Manner::Gated(401));
    let mut options = options(&hub);
    options.variables.push(("HF_TOKEN", "secret".into()));
    let app = TestApp::with(options);
    install(&app);
    wait_installed(&app);
    assert!(hub.server.asked().iter().all(|asked| asked.token.as_deref() == Some("Bearer secret")));
}

#[test]
fn what_fails_on_its_way_stays_listed_until_it_is_dismissed() {
    let (_hub, app) = start(Manner::Damages);
    install(&app);
    let error = failure(&app);
    assert_eq!(error["code"], "download_failed", "{error}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("sha256") && message.contains("download it again"), "{message}");
    assert_eq!(ids(&app), ["starter"]);
    assert_eq!(app.delete(&format!("{INSTALL}/icons")).status, 204);
    assert_eq!(app.get(INSTALL).expect(200), json!([]));
}

#[test]
fn a_hub_cannot_send_a_download_to_a_private_address() {
    let (hub, app) = start(Manner::SendsAway);
    install(&app);
    let message = failure(&app)["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("`localhost` is a private address"), "{message}");
    assert_eq!(hub.weights_asked_from(), [0], "the redirect was not followed");
}

#[test]
fn what_is_no_model_is_refused_before_anybody_is_asked() {
    let (hub, app) = start(Manner::Good);
    let field = |body: Value| app.post(INSTALL, &body).expect(422)["error"]["field"].clone();
    for repo in ["", "icons", "../x", "http://127.0.0.1/a/b", "a/b/c", &"x/".repeat(500)] {
        assert_eq!(field(json!({ "repo": repo })), "repo", "{repo}");
    }
    assert_eq!(field(json!({})), "repo");
    assert_eq!(field(json!({ "repo": REPO, "path": "x" })), "repo");
    assert_eq!(field(json!({ "path": "/etc" })), "path");
    assert_eq!(field(json!({ "repo": REPO, "id": "Großes Modell" })), "id");
    assert_eq!(field(json!({ "repo": REPO, "url": "x" })), "url");
    for id in ["starter", "install"] {
        let refused = app.post(INSTALL, &json!({ "repo": REPO, "id": id })).expect(409);
        assert_eq!(refused["error"]["code"], "base_model_exists");
    }
    assert!(hub.server.asked().is_empty(), "{:?}", hub.server.asked());
}

#[test]
fn a_folder_of_the_import_folder_is_used_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let starter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    let mine = folder.path().join("Mine");
    std::fs::create_dir(&mine).expect("a folder");
    for entry in std::fs::read_dir(starter).expect("the starter model") {
        let entry = entry.expect("an entry");
        std::os::unix::fs::symlink(entry.path(), mine.join(entry.file_name())).expect("a link");
    }
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let import_dir = folder.path().display().to_string();
    let options =
        Options { flags: vec!["--no-worker"], variables: vec![("MASUKA_IMPORT_DIR", import_dir)] };
    let app = TestApp::with(options);
    assert_eq!(app.post(INSTALL, &json!({ "path": "../x" })).expect(422)["error"]["field"], "path");
    app.post(INSTALL, &json!({ "path": "empty" })).expect(202);
    let error = failure(&app);
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_value"), &json!("path")));
    app.post(INSTALL, &json!({ "path": "Mine" })).expect(202);
    wait_until("installed", || ids(&app) == ["starter", "mine"]);
}

#[test]
fn a_model_in_use_stays_and_one_that_is_not_goes() {
    let (_hub, app) = start(Manner::Good);
    install(&app);
    wait_installed(&app);
    let job = app.generate(json!({ "base_model": "icons" }));
    let path = "/api/models/base/icons";
    let refused = app.delete(path).expect(409);
    assert_eq!(refused["error"]["code"], "model_in_use", "{refused}");
    app.post(&format!("/api/generate/{job}/cancel"), &json!({})).expect(200);
    assert_eq!(app.delete(path).status, 204);
    assert_eq!(app.delete(path).expect(404)["error"]["code"], "base_model_not_found");
    assert_eq!(ids(&app), ["starter"]);
    let refused = app.delete("/api/models/base/starter").expect(409);
    assert_eq!(refused["error"]["code"], "base_model_stays");
    install(&app);
    wait_installed(&app);
}
