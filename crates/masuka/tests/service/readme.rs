//! The README's commands, word for word: what a new user pastes must work.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::models::{fixture, import};
use crate::support::TestApp;

/// Commands of the README's shell blocks that ask for pictures, each as one line.
fn curls() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.map(|block| block.replace("\\\n", " "));
    let lines: Vec<String> =
        lines.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines
        .into_iter()
        .filter(|line| line.starts_with("curl ") && line.contains("/api/generate"))
        .collect()
}

/// What a command of the README prints, with this server's address and these ids for its placeholders.
fn paste(app: &TestApp, command: &str, model_id: &str, job_id: &str) -> Value {
    let command = command
        .replace("127.0.0.1:8000", &app.address.to_string())
        .replace("YOUR_MODEL_ID", model_id)
        .replace("YOUR_JOB_ID", job_id);
    let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: `{text}`"))
}

#[test]
fn the_three_commands_of_the_readme_work_as_they_stand() {
    let app = TestApp::start();
    let commands = curls();
    assert_eq!(commands.len(), 3, "{commands:#?}");
    let lora = import(&app, &fixture("attention.safetensors"), &[]).expect(201);
    let model_id = lora["id"].as_str().unwrap();

    let created = paste(&app, &commands[0], model_id, "");
    assert_eq!((&created["status"], &created["task_id"]), (&json!("pending"), &created["job_id"]));
    let job_id = created["job_id"].as_str().unwrap();
    app.wait_for(job_id, "completed");
    let job = paste(&app, &commands[2], model_id, job_id);
    assert_eq!(job["status"], "completed");
    assert_eq!(job["parameters"]["num_inference_steps"], 30);
    assert_eq!(app.download(&job["output_paths"][0]).status, 200);

    let with_lora = paste(&app, &commands[1], model_id, "");
    let job = app.wait_for(with_lora["job_id"].as_str().unwrap(), "completed");
    assert_eq!(job["output_paths"].as_array().unwrap().len(), 2, "{job}");
    assert_eq!(
        (&job["parameters"]["model_id"], &job["parameters"]["lora_weight"]),
        (&json!(model_id), &json!(0.8))
    );
}
