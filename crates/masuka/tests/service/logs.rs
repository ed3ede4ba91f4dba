//! The log: one line a request and a stage of a job, by their ids; never what users write, never what opens something.

use serde_json::json;

use crate::http::Request;
use crate::support::{Options, TestApp, small};

const KEY: &str = "open-sesame";
const PROMPT: &str = "a zebra on roller skates";
const NEGATIVE: &str = "umbrellas in the rain";

/// Asks for a picture, downloads it and lets a request be refused; the job's id, and all that was logged.
fn logged(level: &'static str) -> (String, String) {
    let variables = [("MASUKA_API_KEY", KEY), ("HF_TOKEN", "hf_word"), ("CORS_ORIGINS", "*")];
    let variables = variables.map(|(name, value)| (name, value.to_owned())).to_vec();
    let mut app = TestApp::with(Options { variables, log: Some(level), ..Options::default() });
    let ask = |method: &str, path: &str| {
        Request::new(method, path).header("authorization", &format!("Bearer {KEY}"))
    };
    let wish = json!({ "prompt": PROMPT, "negative_prompt": NEGATIVE, "true_cfg_scale": 2 });
    let created = app.send(ask("POST", "/api/generate/image").json(&small(wish)));
    let id = created.expect(201)["job_id"].as_str().unwrap().to_owned();
    let path = format!("/api/generate/{id}");
    let job = loop {
        let job = app.send(ask("GET", &path)).expect(200);
        match job["status"].as_str().unwrap() {
            "pending" | "processing" => std::thread::sleep(std::time::Duration::from_millis(20)),
            _ => break job,
        }
    };
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(app.download(&job["images"][0]["url"]).status, 200);
    let refused = json!({ "prompt": PROMPT.repeat(1000) });
    app.send(ask("POST", "/api/generate/image").json(&small(refused))).expect(422);
    app.send(ask("GET", "/api/generate?q=zebra")).expect(200);
    app.post("/api/login", &json!({ "key": KEY })).expect(204);
    assert_eq!(app.stop(), Some(0));
    (id, std::fs::read_to_string(app.data("log")).unwrap())
}

fn count(log: &str, parts: &[&str]) -> usize {
    log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

#[test]
fn requests_and_stages_are_told_by_id_and_prompts_are_not() {
    let (id, log) = logged("info");
    let path = format!("path=\"/api/generate/{id}\"");
    assert!(count(&log, &["request method=GET", &path, "status=200", "ms="]) > 0, "{log}");
    assert_eq!(count(&log, &["request method=POST", "/api/generate/image", "status=201"]), 1);
    assert_eq!(count(&log, &["request method=POST", "/api/generate/image", "status=422"]), 1);
    let job = format!("job=\"{id}\"");
    for stage in ["load", "encode_prompt", "denoise", "decode_latents"] {
        let stage = format!("stage=\"{stage}\"");
        assert!(count(&log, &["job goes on", &job, "epoch=1", &stage]) > 0, "{stage}: {log}");
    }
    assert_eq!(count(&log, &["job begins", &job]), 1, "{log}");
    assert_eq!(count(&log, &["job is over", &job, "outcome=\"done\"", "seconds="]), 1, "{log}");
    for word in ["zebra", "umbrellas", KEY, "hf_word", "signature="] {
        assert_eq!(count(&log, &[word]), 0, "`{word}`: {log}");
    }
}

#[test]
fn secrets_are_told_at_no_level() {
    let (id, log) = logged("trace");
    assert!(count(&log, &[&id]) > 0);
    for word in [KEY, "hf_word"] {
        let told: Vec<_> = log.lines().filter(|line| line.contains(word)).collect();
        assert!(told.is_empty(), "`{word}`: {told:#?}");
    }
}

#[test]
fn a_server_that_is_open_to_others_warns() {
    let flags = vec!["--no-worker", "--host", "0.0.0.0", "--allow-anyone"];
    let app = TestApp::with(Options { flags, log: Some("warn"), ..Options::default() });
    let log = std::fs::read_to_string(app.data("log")).unwrap();
    assert_eq!(count(&log, &["WARN", "no MASUKA_API_KEY is set"]), 1, "{log}");
}
