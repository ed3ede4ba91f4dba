//! What is not accepted, and how that is said.

use serde_json::{Value, json};

use crate::http::Request;
use crate::support::{Options, TestApp, small};

/// Sends `body`, which must be refused with 422 for `field` with a message that holds `part`.
fn check(app: &TestApp, body: Value, field: &str, part: &str) {
    let refused = app.post("/api/generate/image", &small(body.clone())).expect(422);
    assert_eq!(refused["error"]["field"], field, "{body}: {refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains(part), "{body}: {message}");
    assert_eq!(refused["detail"], message);
}

#[test]
fn values_are_refused_by_field_value_and_range() {
    let app = TestApp::with_flags(&["--no-worker"]);
    check(&app, json!({ "width": 1000 }), "width", "width 1000 is not a multiple of 16");
    check(&app, json!({ "height": 4096 }), "height", "height 4096 is not within 64 and 2048");
    check(&app, json!({ "width": -16 }), "width", "width -16 is not within 64 and 2048");
    check(&app, json!({ "num_images": 5 }), "num_images", "num_images 5 is not within 1 and 4");
    check(
        &app,
        json!({ "num_inference_steps": 0 }),
        "num_inference_steps",
        "0 is not within 1 and 100",
    );
    check(&app, json!({ "guidance_scale": 20.5 }), "guidance_scale", "20.5 is not within 0 and 20");
    check(&app, json!({ "true_cfg_scale": 0.5 }), "true_cfg_scale", "0.5 is not within 1 and 20");
    check(&app, json!({ "seed": -1 }), "seed", "seed -1 is not within 0 and");
    check(&app, json!({ "seed": 1u64 << 53 }), "seed", "is not within 0 and 9007199254740991");
    check(&app, json!({ "sampler": "dpm" }), "sampler", "sampler `dpm` is not one of euler, heun");
    check(&app, json!({ "prompt": "" }), "prompt", "is empty");
    check(&app, json!({ "prompt": "x".repeat(4001) }), "prompt", "longer than 4000 characters");
    check(&app, json!({ "prompt": "a\u{0}b" }), "prompt", "NUL");
    check(&app, json!({ "lora_weight": 3 }), "lora_weight", "3 is not within -2 and 2");
    check(&app, json!({ "priority": 11 }), "priority", "priority 11 is not within -10 and 10");
    check(&app, json!({ "config": { "x": 1 } }), "config", "option `x`");
    check(
        &app,
        json!({ "num_image": 1 }),
        "num_image",
        "unknown field `num_image`, expected one of",
    );
    check(&app, json!({ "width": "wide" }), "width", "expected i64");
    check(&app, json!({ "prompt": 7 }), "prompt", "expected a string");
    assert_eq!(app.get("/api/queue").expect(200)["pending"], 0, "nothing was queued");
}

#[test]
fn a_picture_has_no_more_pixels_than_the_server_allows() {
    let app = TestApp::with_flags(&["--no-worker", "--max-pixels", "16384"]);
    check(&app, json!({ "width": 128, "height": 144 }), "width", "is more than 16384 pixels");
    app.generate(json!({ "width": 256, "height": 64 }));
    let starter = &app.get("/api/models/base").expect(200)[0];
    assert_eq!(starter["limits"]["max_pixels"], 16384);
}

#[test]
fn what_is_no_request_is_told_apart() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let post = || Request::new("POST", "/api/generate/image");
    let json_post = || post().header("content-type", "application/json");
    let code = |request: Request, status: u16| {
        let refused = app.send(request).expect(status);
        refused["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(json_post().body("{"), 400), "malformed");
    assert_eq!(code(json_post().body(""), 400), "malformed");
    assert_eq!(code(json_post().body(b"{\"prompt\": \"\xff\"}".to_vec()), 400), "malformed");
    assert_eq!(code(json_post().body("{\"prompt\": \"x\"} {}"), 400), "malformed");
    assert_eq!(code(post().body("prompt=x"), 415), "unsupported_type");
    assert_eq!(code(json_post().body(vec![b' '; 2 << 20]), 413), "too_large");
    assert_eq!(code(Request::new("GET", "/api/nothing"), 404), "unknown_path");
    assert_eq!(code(Request::new("PUT", "/api/generate/image"), 405), "method_not_allowed");
    assert_eq!(code(Request::new("GET", "/api/generate/nobody"), 404), "not_found");
    assert_eq!(code(Request::new("GET", "/api/generate/..%2f..%2fetc"), 404), "not_found");
    assert_eq!(code(Request::new("GET", "/api/generate/%ff"), 404), "not_found");
    assert_eq!(code(Request::new("GET", "/files/%ff?expires=1&signature=00"), 404), "not_found");
    assert_eq!(code(Request::new("GET", "/api/generate?limit=1000"), 422), "invalid_value");
    assert_eq!(code(Request::new("GET", "/api/generate?status=lost"), 422), "invalid_value");
    assert_eq!(code(Request::new("GET", "/api/generate?cursor=x"), 422), "invalid_value");
    assert_eq!(code(Request::new("GET", "/api/generate?created_after=now"), 422), "invalid_value");
    let missing = app.post("/api/generate/image", &json!({})).expect(422);
    assert_eq!(missing["error"]["field"], "prompt", "{missing}");
}

#[test]
fn unknown_models_are_named_with_where_to_look() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let unknown = app.post("/api/generate/image", &small(json!({ "model_id": "x" }))).expect(404);
    assert_eq!(unknown["error"]["code"], "model_not_found");
    let message = unknown["detail"].as_str().unwrap();
    assert!(message.contains("Model not found") && message.contains("/api/models/"), "{message}");
    let unknown = app.post("/api/generate/image", &small(json!({ "base_model": "x" }))).expect(404);
    assert_eq!(unknown["error"]["code"], "base_model_not_found");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let app = TestApp::with_flags(&["--no-worker", "--max-waiting", "2"]);
    app.generate(json!({}));
    app.generate(json!({}));
    let full = app.post("/api/generate/image", &small(json!({})));
    assert_eq!((full.status, full.header("retry-after")), (429, Some("10")));
    assert_eq!(full.json()["error"]["code"], "queue_full");
}

#[test]
fn with_a_key_only_who_knows_it_may_ask() {
    let variables = vec![("MASUKA_API_KEY", "open-sesame".to_owned())];
    let app =
        TestApp::with(Options { flags: vec!["--no-worker"], variables, ..Options::default() });
    let ask = || Request::new("GET", "/api/queue");
    assert_eq!(app.send(ask()).expect(401)["error"]["code"], "unauthorized");
    assert_eq!(app.send(ask().header("authorization", "Bearer wrong")).status, 401);
    app.send(ask().header("authorization", "Bearer open-sesame")).expect(200);
    app.post("/api/login", &json!({ "key": "wrong" })).expect(401);
    let login = app.post("/api/login", &json!({ "key": "open-sesame" }));
    let cookie = login.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    app.send(ask().header("cookie", cookie)).expect(200);
    assert_eq!(app.get("/health").status, 200, "needs no key");
}

#[test]
fn pages_and_names_from_elsewhere_are_refused() {
    let variables = vec![("CORS_ORIGINS", "http://friend.example".to_owned())];
    let app =
        TestApp::with(Options { flags: vec!["--no-worker"], variables, ..Options::default() });
    let ask = || Request::new("GET", "/api/queue");
    let code = |request: Request| app.send(request).expect(403)["error"]["code"].clone();
    assert_eq!(code(ask().header("host", "evil.example")), "host_not_allowed");
    assert_eq!(code(ask().header("origin", "http://evil.example")), "origin_not_allowed");
    assert_eq!(code(ask().header("origin", "null")), "origin_not_allowed");
    app.send(ask().header("origin", &format!("http://{}", app.address))).expect(200);
    app.send(ask().header("host", "localhost:1")).expect(200);
    let friend = app.send(ask().header("origin", "http://friend.example"));
    assert_eq!(friend.header("access-control-allow-origin"), Some("http://friend.example"));
    assert_eq!(friend.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn a_server_is_open_to_others_only_by_wish() {
    let folder = tempfile::tempdir().unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_masuka"))
        .args([
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
            "--data-dir",
            folder.path().to_str().unwrap(),
        ])
        .env_clear()
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{message}");
    assert!(message.contains("MASUKA_API_KEY") && message.contains("--allow-anyone"), "{message}");
}

#[test]
fn the_document_and_its_page_are_there_without_any_network() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let document = app.get("/openapi.json").expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    for path in ["/api/generate/image", "/api/generate/{job_id}", "/api/models", "/api/queue"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let page = app.get("/docs/").text();
    assert!(page.contains("swagger") && !page.contains("https://"), "{page}");
    assert_eq!(app.get("/ready").expect(200)["ready"], true);
    assert_eq!(app.get("/health/").expect(200)["status"], "ok");
    assert!(app.get("/metrics").text().contains("masuka_jobs_pending 0"));
    assert_eq!(app.get("/api/system").expect(200)["base_model"], "starter");
}
