//! Pictures: asked for, looked at, deleted.

use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::http::Request;
use crate::support::TestApp;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_prompt_becomes_a_picture_without_any_configuration() {
    let app = TestApp::start();
    let body = json!({
        "prompt": "A beautiful sunset over mountains, photorealistic, 8k",
        "num_inference_steps": 2,
        "guidance_scale": 3.5,
    });
    let created = app.post("/api/generate/image", &body).expect(201);
    assert_eq!((&created["status"], &created["task_id"]), (&json!("pending"), &created["job_id"]));
    let job = app.wait_for(created["job_id"].as_str().unwrap(), "completed");
    let image = &job["images"][0];
    let file = app.download(&image["url"]);
    assert_eq!((file.status, file.header("content-type")), (200, Some("image/png")));
    assert_eq!(image["sha256"], sha256(&file.body));
    assert_eq!(image["bytes"], file.body.len());
    let picture = image::load_from_memory(&file.body).unwrap().to_rgb8();
    assert_eq!((picture.width(), picture.height()), (128, 128), "the base model's own size");
    assert!(picture.pixels().any(|pixel| pixel != picture.get_pixel(0, 0)), "one colour only");
    let thumbnail = app.download(&image["thumbnail_url"]);
    assert_eq!(thumbnail.header("content-type"), Some("image/jpeg"));
    image::load_from_memory(&thumbnail.body).unwrap();
    assert_eq!(job["output_paths"][0], image["url"]);
    assert_eq!(job["parameters"]["guidance_scale"], 3.5);
    assert!(job["parameters"]["seed"].as_u64().unwrap() < 1 << 32);
    assert!(job["parameters"]["output_paths"][0].as_str().unwrap().starts_with("generated/"));
    assert_eq!(
        (&job["progress"]["percent"], &job["queue_position"]),
        (&json!(100.0), &json!(null))
    );
    assert!(
        job["tokens"]["t5"].as_u64().unwrap() > 5
            && job["timings"]["denoise"].as_f64().unwrap() > 0.0
    );
}

#[test]
fn the_same_seed_draws_the_same_pictures_as_the_command_line_does() {
    let app = TestApp::start();
    let id = app.generate(json!({ "num_images": 2 }));
    let job = app.wait_for(&id, "completed");
    assert_eq!((&job["images"][0]["seed"], &job["images"][1]["seed"]), (&json!(7), &json!(8)));
    let file = app.data("cli.png");
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_masuka"))
        .args([
            "generate",
            "red apple, noto style",
            "--steps",
            "2",
            "--width",
            "64",
            "--height",
            "64",
        ])
        .args(["--seed", "7", "-o", file.to_str().unwrap()])
        .env("MASUKA_DATA_DIR", app.data(""))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8();
    let downloaded = app.download(&job["images"][0]["url"]).body;
    assert_eq!(pixels(&downloaded), pixels(&std::fs::read(file).unwrap()));
}

#[test]
fn a_link_can_be_read_in_parts_and_kept_but_not_forged() {
    let app = TestApp::start();
    let id = app.generate(json!({}));
    let job = app.wait_for(&id, "completed");
    let url = job["images"][0]["url"].as_str().unwrap().to_owned();
    let whole = app.download(&json!(url)).body;
    let path = url.split_once(&app.address.to_string()).unwrap().1.to_owned();
    let part = app.send(Request::new("GET", &path).header("range", "bytes=8-15"));
    assert_eq!((part.status, part.body.as_slice()), (206, &whole[8..16]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 8-15/{}", whole.len()).as_str()));
    let outside = app.send(Request::new("GET", &path).header("range", "bytes=99999999-"));
    assert_eq!(outside.expect(416)["error"]["code"], "range_not_satisfiable");
    let etag = app.get(&path).header("etag").unwrap().to_owned();
    assert_eq!(app.send(Request::new("GET", &path).header("if-none-match", &etag)).status, 304);
    let head = app.send(Request::new("HEAD", &path));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        app.wait_for(&id, "completed")["images"][0]["url"],
        url,
        "browsers keep what they know"
    );

    let forged = path.replace("signature=", "signature=00");
    assert_eq!(app.get(&forged).expect(403)["error"]["code"], "signature_invalid");
    let longer = path.replace("expires=", "expires=9");
    assert_eq!(app.get(&longer).expect(403)["error"]["code"], "signature_invalid");
    let other = path.replace("image_1", "image_2");
    assert_eq!(app.get(&other).expect(403)["error"]["code"], "signature_invalid");
    app.get("/files/../masuka.db?expires=1&signature=00").expect(404);
    app.get("/files/%2e%2e/masuka.db?expires=1&signature=00").expect(404);
}

#[test]
fn lists_are_newest_first_and_follow_the_link_header() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let ids: Vec<_> = (0..3).map(|_| app.generate(json!({}))).collect();
    let mut seen = Vec::new();
    let mut path = Some("/api/generate/?limit=2&status=pending".to_owned());
    while let Some(at) = path {
        let page = app.get(&at);
        let link = page.header("link").map(str::to_owned);
        seen.extend(page.expect(200).as_array().unwrap().iter().map(|job| job["id"].clone()));
        path = link.map(|link| {
            let url = link.trim_start_matches('<').split_once('>').unwrap().0.to_owned();
            url.split_once(&app.address.to_string()).unwrap().1.to_owned()
        });
    }
    assert_eq!(seen, ids.iter().rev().map(|id| json!(id)).collect::<Vec<_>>());
    let first = app.get(&format!("/api/generate/{}/", ids[0])).expect(200);
    assert_eq!((&first["queue_position"], &first["progress"]["percent"]), (&json!(0), &json!(0.0)));
    assert_eq!(app.get("/api/generate?q=APPLE&favorite=true").expect(200), json!([]));
    app.patch(&format!("/api/generate/{}", ids[1]), &json!({ "favorite": true })).expect(200);
    let liked = app.get("/api/generate?q=APPLE&favorite=true").expect(200);
    assert_eq!((&liked[0]["id"], liked.as_array().unwrap().len()), (&json!(ids[1]), 1));
}

#[test]
fn a_running_job_stops_soon_after_it_is_cancelled_and_can_be_tried_again() {
    let app = TestApp::start();
    let id = app.generate(json!({ "num_inference_steps": 100, "width": 256, "height": 256 }));
    app.wait_for(&id, "processing");
    app.wait(&id, |job| job["progress"]["step"].as_u64().unwrap_or(0) > 0);
    let start = Instant::now();
    app.post(&format!("/api/generate/{id}/cancel"), &json!({})).expect(200);
    let job = app.wait_for(&id, "cancelled");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(job["images"], json!([]));
    let again = app.post(&format!("/api/generate/{id}/cancel"), &json!({})).expect(409);
    assert_eq!(again["error"]["code"], "wrong_state");
    app.post(&format!("/api/generate/{id}/retry"), &json!({})).expect(200);
    app.wait_for(&id, "processing");
    assert_eq!(app.delete(&format!("/api/generate/{id}")).status, 204);
}

#[test]
fn what_is_deleted_is_gone_for_every_reader_and_can_be_brought_back_for_a_while() {
    let app = TestApp::start();
    let id = app.generate(json!({}));
    app.wait_for(&id, "completed");
    let path = format!("/api/generate/{id}");
    assert_eq!(app.delete(&path).status, 204);
    app.get(&path).expect(404);
    app.delete(&path).expect(404);
    assert_eq!(app.get("/api/generate").expect(200), json!([]));
    app.post(&format!("{path}/restore"), &json!({})).expect(200);
    let job = app.get(&path).expect(200);
    assert_eq!(app.download(&job["images"][0]["url"]).status, 200);
}

#[test]
fn prompts_are_counted_as_the_model_reads_them() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let counts = app.post("/api/tokenize", &json!({ "prompt": "red apple" })).expect(200);
    assert!(counts["t5"]["tokens"].as_u64().unwrap() >= 3, "{counts}");
    assert_eq!(counts["t5"]["cut"], json!(null));
    let long = app.post("/api/tokenize", &json!({ "prompt": "apple ".repeat(600) })).expect(200);
    assert!(long["t5"]["cut_tokens"].as_u64().unwrap() > 0, "{long}");
    assert_eq!(long["t5"]["tokens"], long["t5"]["max_tokens"]);
}

#[test]
fn the_queue_can_be_paused_and_jobs_moved() {
    let app = TestApp::start();
    assert_eq!(app.post("/api/queue/pause", &json!({})).status, 204);
    let (first, second) = (app.generate(json!({})), app.generate(json!({})));
    let moved = app.patch(&format!("/api/queue/{second}"), &json!({ "priority": 5 }));
    assert_eq!(moved.status, 204);
    let queue = app.get("/api/queue").expect(200);
    assert_eq!((&queue["paused"], &queue["pending"]), (&json!(true), &json!(2)));
    let position =
        |id: &str| app.get(&format!("/api/generate/{id}")).expect(200)["queue_position"].clone();
    assert_eq!(position(&first), 1);
    let place = |id: &str, wish: serde_json::Value| app.patch(&format!("/api/queue/{id}"), &wish);
    assert_eq!(place(&first, json!({ "before": second })).status, 204);
    assert_eq!(position(&first), 0);
    assert_eq!(place(&first, json!({ "after": second })).status, 204);
    assert_eq!(position(&first), 1);
    let refused = place(&first, json!({ "after": second, "priority": 1 })).expect(422);
    assert_eq!(refused["error"]["field"], "priority");
    assert_eq!(app.post("/api/queue/resume", &json!({})).status, 204);
    let (first, second) = (app.wait_for(&first, "completed"), app.wait_for(&second, "completed"));
    let started = |job: &serde_json::Value| job["started_at"].as_str().unwrap().to_owned();
    assert!(started(&second) < started(&first), "the moved one came second");
}

#[test]
fn many_pictures_come_in_one_zip() {
    let app = TestApp::start();
    let ids = [app.generate(json!({ "num_images": 2 })), app.generate(json!({ "seed": 9 }))];
    let jobs = ids.clone().map(|id| app.wait_for(&id, "completed"));
    let zip = app.post("/api/generate/archive", &json!({ "ids": ids }));
    assert_eq!((zip.status, zip.header("content-type")), (200, Some("application/zip")));
    let hashes: Vec<_> = unzip(&zip.body).iter().map(|content| sha256(content)).collect();
    let images = jobs.iter().flat_map(|job| job["images"].as_array().unwrap());
    let expected: Vec<_> = images.map(|image| image["sha256"].as_str().unwrap()).collect();
    assert_eq!(hashes, expected);
    app.post("/api/generate/archive", &json!({ "ids": [] })).expect(422);
    app.post("/api/generate/archive", &json!({ "ids": ["nobody"] })).expect(404);
}

/// The stored files of a zip, found by its table as unzippers do, each checked against its checksum.
fn unzip(zip: &[u8]) -> Vec<&[u8]> {
    let short = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
    let long = |at: usize| u32::from_le_bytes(zip[at..at + 4].try_into().unwrap());
    let end = zip.len() - 22;
    assert_eq!(&zip[end..end + 4], b"PK\x05\x06");
    let mut at = long(end + 16) as usize;
    let mut files = Vec::new();
    for _ in 0..short(end + 10) {
        assert_eq!(&zip[at..at + 4], b"PK\x01\x02");
        let (crc, bytes, local) = (long(at + 16), long(at + 24) as usize, long(at + 42) as usize);
        assert_eq!(&zip[local..local + 4], b"PK\x03\x04");
        let start = local + 30 + short(local + 26) + short(local + 28);
        let content = &zip[start..start + bytes];
        let mut sum = flate2::Crc::new();
        sum.update(content);
        assert_eq!((sum.sum(), long(local + 14)), (crc, crc));
        files.push(content);
        at += 46 + short(at + 28) + short(at + 30) + short(at + 32);
    }
    assert_eq!(at, end, "the table ends where it should");
    files
}

#[test]
fn a_video_is_refused_with_what_can_be_had_instead() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let refused = app.post("/api/generate/video", &json!({ "prompt": "waves" })).expect(501);
    assert_eq!(refused["error"]["code"], "no_video_model");
    assert!(refused["detail"].as_str().unwrap().contains("/api/generate/image"), "{refused}");
}
