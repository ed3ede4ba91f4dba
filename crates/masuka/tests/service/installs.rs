//! Base models from a hub: fetched once, watched, stopped, taken up again, used, taken off the list.

use std::path::Path;
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
    Options { flags: vec!["--no-worker"], variables, ..Options::default() }
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

/// A model folder of links to the starter's parts.
fn link_starter(mine: &Path) {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    std::fs::create_dir(mine).expect("a folder");
    for entry in std::fs::read_dir(starter).expect("the starter model") {
        let entry = entry.expect("an entry");
        std::os::unix::fs::symlink(entry.path(), mine.join(entry.file_name())).expect("a link");
    }
}

#[test]
fn a_folder_of_the_import_folder_is_used_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    link_starter(&folder.path().join("Mine"));
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let import_dir = folder.path().display().to_string();
    let variables = vec![("MASUKA_IMPORT_DIR", import_dir)];
    let options = Options { flags: vec!["--no-worker"], variables, ..Options::default() };
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

#[test]
fn a_model_on_its_way_is_still_loading_for_whoever_asks_for_it() {
    let (hub, app) = start(Manner::Waits);
    install(&app);
    wait_until("half of it", || hub.weights_asked_from().len() == 2);
    let request = Request::new("POST", "/api/generate/image");
    let refused = app.send(request.json(&small(json!({ "base_model": "icons" }))));
    assert_eq!(refused.header("retry-after"), Some("10"));
    let body = refused.expect(503);
    let error = &body["error"];
    assert_eq!((&error["code"], &error["field"]), (&json!("model_loading"), &json!("base_model")));
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("`icons` is still loading") && message.contains('%'), "{message}");
    let chosen = app.patch("/api/models/base/icons", &json!({ "is_default": true }));
    assert_eq!(chosen.expect(503)["error"]["code"], "model_loading");
    hub.release();
    wait_installed(&app);
    app.generate(json!({ "base_model": "icons" }));
}

#[test]
fn a_chosen_default_is_that_of_every_request_and_outlasts_the_server() {
    let (_hub, mut app) = start(Manner::Good);
    install(&app);
    wait_installed(&app);
    let path = "/api/models/base/icons";
    let chosen = app.patch(path, &json!({ "is_default": true })).expect(200);
    assert_eq!((&chosen["id"], &chosen["is_default"]), (&json!("icons"), &json!(true)));
    let check = |app: &TestApp, default: &str| {
        let models = app.get("/api/models/base").expect(200);
        let defaults = models.as_array().expect("a list").iter();
        let defaults: Vec<_> = defaults.filter(|model| model["is_default"] == true).collect();
        assert_eq!((defaults.len(), &defaults[0]["id"]), (1, &json!(default)), "{models}");
        assert_eq!(app.get("/api/system").expect(200)["base_model"], default);
        let job = app.get(&format!("/api/generate/{}", app.generate(json!({})))).expect(200);
        assert_eq!(job["parameters"]["base_model"], default, "{job}");
        app.post(
            &format!("/api/generate/{}/cancel", job["id"].as_str().expect("an id")),
            &json!({}),
        );
    };
    check(&app, "icons");
    assert_eq!(app.stop(), Some(0));
    app.restart();
    check(&app, "icons");
    let refused = app.delete(path).expect(409);
    assert_eq!(refused["error"]["code"], "base_model_stays", "{refused}");
    let refused = app.patch(path, &json!({ "is_default": false })).expect(422);
    assert_eq!(refused["error"]["field"], "is_default");
    app.patch("/api/models/base/nobody", &json!({ "is_default": true })).expect(404);
    app.patch("/api/models/base/starter", &json!({ "is_default": true })).expect(200);
    check(&app, "starter");
    assert_eq!(app.delete(path).status, 204);
}

#[test]
fn a_file_of_only_the_transformer_draws_with_the_parts_of_another_model() {
    let hub = FakeHub::start(Manner::Good);
    let app = TestApp::with(Options { flags: vec![], ..options(&hub) });
    let repo = format!("{REPO}:{WEIGHTS}");
    let body = json!({ "repo": repo, "id": "alone" });
    app.post(INSTALL, &body).expect(202);
    let error = failure(&app);
    assert_eq!(error["field"], "repo", "{error}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("`base`"), "{message}");
    let body = json!({ "repo": repo, "id": "alone", "base": "nobody" });
    assert_eq!(app.post(INSTALL, &body).expect(404)["error"]["field"], "base");

    let body = json!({ "repo": repo, "id": "alone", "base": "starter" });
    app.post(INSTALL, &body).expect(202);
    wait_until("installed", || ids(&app) == ["starter", "alone"]);
    let job = |base: &str| {
        let job = app.wait_for(&app.generate(json!({ "base_model": base })), "completed");
        app.download(&job["images"][0]["url"]).body
    };
    let pixels = |png: &[u8]| image::load_from_memory(png).expect("a picture").to_rgb8();
    assert_eq!(pixels(&job("alone")), pixels(&job("starter")), "it is the starter's transformer");

    // What takes its parts from one that does so itself takes them from the same place.
    let body = json!({ "repo": repo, "id": "second", "base": "alone" });
    app.post(INSTALL, &body).expect(202);
    wait_until("installed", || ids(&app) == ["starter", "alone", "second"]);
    assert_eq!(app.delete("/api/models/base/alone").status, 204);
    job("second");
}

#[test]
fn downloaded_files_go_with_their_model_when_that_is_asked_for() {
    let hub = FakeHub::start(Manner::Good);
    let app = TestApp::with(Options { flags: vec![], ..options(&hub) });
    let folder = app.data("hub/models--owner--icons");
    install(&app);
    wait_installed(&app);
    app.wait_for(&app.generate(json!({ "base_model": "icons" })), "completed");
    let path = "/api/models/base/icons";
    app.post(INSTALL, &json!({ "repo": REPO, "id": "twin" })).expect(202);
    wait_until("the twin", || ids(&app).len() == 3);
    let refused = app.delete(&format!("{path}?files=true")).expect(409);
    assert_eq!(refused["error"]["code"], "model_in_use", "{refused}");
    assert!(refused["detail"].as_str().expect("a message").contains("remove `twin` first"));
    assert_eq!(app.delete("/api/models/base/twin").status, 204);
    assert!(folder.exists(), "without being asked for, files stay");

    assert_eq!(app.delete(&format!("{path}?files=true")).status, 204);
    assert!(!folder.exists());
    assert_eq!(ids(&app), ["starter"]);
    let holds = |pid: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
        maps.contains("models--owner--icons")
    };
    let (server, worker) = (app.server_pid(), app.worker());
    wait_until("nobody holds the files", || !holds(server) && !holds(worker));
    install(&app);
    wait_installed(&app);
    app.wait_for(&app.generate(json!({ "base_model": "icons" })), "completed");
}

#[test]
fn files_that_were_not_downloaded_here_are_not_erased() {
    let folder = tempfile::tempdir().expect("a folder");
    link_starter(&folder.path().join("Mine"));
    let variables = vec![("MASUKA_IMPORT_DIR", folder.path().display().to_string())];
    let options = Options { flags: vec!["--no-worker"], variables, ..Options::default() };
    let app = TestApp::with(options);
    app.post(INSTALL, &json!({ "path": "Mine" })).expect(202);
    wait_until("installed", || ids(&app) == ["starter", "mine"]);
    let refused = app.delete("/api/models/base/mine?files=true").expect(409);
    assert_eq!(refused["error"]["code"], "files_elsewhere", "{refused}");
    assert_eq!(ids(&app), ["starter", "mine"]);
    assert_eq!(app.delete("/api/models/base/mine").status, 204);
    assert!(folder.path().join("Mine/model_index.json").exists());
}
