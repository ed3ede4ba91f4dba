//! Clients that stop in the middle of what they send, and clients that only take their time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::datasets::{blueprint, new_dataset};
use crate::form::Form;
use crate::http::{Request, Response};
use crate::support::{TestApp, small};

fn is_told_that_it_stopped(answer: Response) {
    assert_eq!(answer.header("connection"), Some("close"), "the rest would be no request");
    let error = answer.expect(408);
    assert_eq!(error["error"]["code"], "body_stalled", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("came for 1 s"), "{error}");
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let app = TestApp::with_flags(&["--no-worker", "--client-silence", "1"]);
    let body = small(json!({}));
    let generation = Request::new("POST", "/api/generate/image").json(&body);
    is_told_that_it_stopped(generation.send_first(10, app.address).unwrap());
    assert_eq!(app.get("/api/queue").expect(200)["pending"], 0, "nothing was queued");

    let lora = Form::default().file("file", "style.safetensors", &[0; 5000]);
    is_told_that_it_stopped(lora.post("/api/models/import").send_first(4000, app.address).unwrap());
    let dataset = new_dataset(&app, None);
    let pictures = Form::default().file("files", "a.png", &[0; 5000]);
    is_told_that_it_stopped(
        pictures.post(&format!("{dataset}/upload")).send_first(4000, app.address).unwrap(),
    );
    let left = std::fs::read_dir(app.data("uploads")).unwrap().count();
    assert_eq!(left, 0, "what came of the files is gone");
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let app = TestApp::with_flags(&["--no-worker", "--client-silence", "1"]);
    let mut stream = TcpStream::connect(app.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /api/queue HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes the connection");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    app.get("/api/queue").expect(200);
}

#[test]
fn a_body_that_takes_its_time_comes_through() {
    let app = TestApp::with_flags(&["--no-worker", "--client-silence", "3"]);
    let dataset = new_dataset(&app, None);
    let (name, content) =
        blueprint("train").into_iter().find(|(name, _)| name.ends_with("png")).unwrap();
    let upload = Form::default().file("files", &name, &content).post(&format!("{dataset}/upload"));
    let answer = upload.send_slowly((8, Duration::from_millis(500)), app.address).unwrap();
    assert_eq!(answer.expect(200)["uploaded_count"], 1);
}
