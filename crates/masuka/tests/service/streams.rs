//! Server-Sent Events: the current state first, every stage change once, the end at the end.

use base64::Engine;
use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::support::TestApp;

/// A message: its id, if it has one, and its data.
pub type Message = (Option<i64>, Value);

/// Reads messages until `is_last` or the end of the stream.
pub fn read(mut answer: Answer, is_last: impl Fn(&Value) -> bool) -> Vec<Message> {
    assert_eq!(answer.status, 200);
    let (mut messages, mut text) = (Vec::new(), String::new());
    while let Some(chunk) = answer.chunk().expect("the stream goes on") {
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        while let Some((message, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
            };
            if let Some(data) = field("data:") {
                let data: Value = serde_json::from_str(data).expect("JSON");
                let done = is_last(&data);
                messages.push((field("id:").map(|id| id.parse().expect("a number")), data));
                if done {
                    return messages;
                }
            }
            text = rest.to_owned();
        }
    }
    messages
}

fn watch(app: &TestApp, id: &str, last_event_id: Option<i64>) -> Answer {
    let request = Request::new("GET", &format!("/api/progress/stream/{id}"));
    let request = match last_event_id {
        Some(last) => request.header("last-event-id", &last.to_string()),
        None => request,
    };
    request.open(app.address).expect("an answer")
}

fn statuses(messages: &[Message]) -> Vec<&str> {
    let mut statuses: Vec<_> =
        messages.iter().filter_map(|(_, data)| data["status"].as_str()).collect();
    statuses.dedup();
    statuses
}

#[test]
fn a_job_is_watched_from_its_place_in_the_queue_to_its_end() {
    let app = TestApp::start();
    app.post("/api/queue/pause", &json!({}));
    let id = app.generate(json!({ "num_inference_steps": 4 }));
    let stream = watch(&app, &id, None);
    app.post("/api/queue/resume", &json!({}));
    let messages = read(stream, |_| false);
    assert_eq!(statuses(&messages), ["pending", "processing", "completed"]);
    let stages: Vec<_> = messages.iter().filter_map(|(_, data)| data["stage"].as_str()).collect();
    assert!(stages.contains(&"denoise") && stages.contains(&"decode_latents"), "{stages:?}");
    let steps: Vec<_> =
        messages.iter().map(|(_, data)| data["current_step"].as_u64().unwrap()).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    let is_step = |(_, data): &Message| data["status"] == "processing" && data["current_step"] != 0;
    assert!(messages.iter().any(is_step), "{messages:?}");
    let (_, last) = messages.last().unwrap();
    assert_eq!((&last["progress"], &last["total_steps"]), (&json!(100.0), &json!(4)));
    let ids: Vec<_> = messages.iter().filter_map(|(id, _)| *id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[test]
fn who_comes_late_gets_the_state_and_who_comes_back_what_was_missed() {
    let app = TestApp::start();
    let id = app.generate(json!({}));
    app.wait_for(&id, "completed");
    let late = read(watch(&app, &id, None), |_| false);
    assert_eq!((late.len(), statuses(&late)), (1, vec!["completed"]));
    let all = read(watch(&app, &id, Some(0)), |_| false);
    assert_eq!(statuses(&all), ["pending", "processing", "completed"]);
    let second = all[1].0;
    let rest = read(watch(&app, &id, second), |_| false);
    assert_eq!(rest, all[2..], "exactly what came after");
    assert_eq!(watch(&app, "nobody", None).status, 404);
}

#[test]
fn everything_that_happens_can_be_watched_at_once() {
    let app = TestApp::start();
    let stream = Request::new("GET", "/api/events").open(app.address).unwrap();
    let ids = [app.generate(json!({})), app.generate(json!({}))];
    let messages = read(stream, |data| data["job_id"] == ids[1] && data["event"] == "completed");
    for id in &ids {
        let mine = messages.iter().filter(|(_, data)| data["job_id"] == *id);
        let events: Vec<_> = mine.map(|(_, data)| data["event"].as_str().unwrap()).collect();
        for expected in ["pending", "processing", "stage", "step", "completed"] {
            assert!(events.contains(&expected), "{expected} of {events:?}");
        }
    }
}

#[test]
fn a_stream_on_which_nothing_happens_shows_that_it_lives() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let mut answer = watch(&app, &app.generate(json!({})), None);
    let mut chunks = Vec::new();
    while chunks.last().is_none_or(|chunk| chunk != ":\n\n") {
        let chunk = answer.chunk().expect("nothing for 30 seconds").expect("it has ended");
        chunks.push(String::from_utf8(chunk).expect("UTF-8"));
    }
    assert!(chunks[0].starts_with(':') && chunks[1].contains("data:"), "{chunks:?}");
}

#[test]
fn streams_end_when_the_server_does() {
    let mut app = TestApp::with_flags(&["--no-worker"]);
    let id = app.generate(json!({}));
    let stream = watch(&app, &id, None);
    let reader = std::thread::spawn(move || read(stream, |_| false));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(app.stop(), Some(0));
    assert_eq!(statuses(&reader.join().unwrap()), ["pending"]);
}

#[test]
fn every_page_hears_that_something_has_changed_that_is_no_job() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let stream = Request::new("GET", "/api/events").open(app.address).expect("an answer");
    app.post("/api/queue/pause", &json!({}));
    app.post("/api/datasets", &json!({ "name": "Dogs" })).expect(201);
    let heard = read(stream, |data| data["event"] == "datasets");
    assert_eq!(heard.last().expect("one").1["job_id"], "");
    assert!(heard.iter().any(|(_, data)| data["event"] == "queue"), "{heard:?}");
}

#[test]
fn a_page_is_told_how_the_machine_is() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let stream = Request::new("GET", "/api/events").open(app.address).expect("an answer");
    let heard = read(stream, |data| data["event"] == "system");
    let details = &heard.last().expect("one").1["details"];
    assert!(details["storage"]["free_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{details}");
    assert_eq!(details["processes"][0]["role"], "server");
}

#[test]
fn a_picture_on_its_way_is_seen_in_small() {
    let app = TestApp::start();
    let id = app.generate(json!({ "num_inference_steps": 40, "width": 128, "height": 64 }));
    let messages = read(watch(&app, &id, None), |data| data["status"] == "completed");
    let previews = messages.iter().filter_map(|(_, data)| data["preview_url"].as_str());
    let previews: Vec<_> = previews.collect();
    assert!(!previews.is_empty(), "no preview among {} messages", messages.len());
    let text = previews[0].strip_prefix("data:image/jpeg;base64,").expect("a JPEG");
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    let preview = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!((preview.width(), preview.height()), (16, 8), "a pixel a latent");
    assert_eq!(
        messages.last().unwrap().1["preview_url"],
        Value::Null,
        "the picture itself is there"
    );
}
