//! `masuka models`: installed from a hub or from here, listed, taken off the list.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::hub::{CUT_AFTER, FakeHub, Manner, REPO, WEIGHTS};
use crate::support::{Desk, Run};

/// A data folder of its own, and this hub.
fn desk(hub: &FakeHub) -> Desk {
    let desk = Desk::new();
    let data = desk.path("data").display().to_string();
    desk.with("MASUKA_DATA_DIR", data).with("HF_ENDPOINT", hub.server.url(""))
}

fn listed(desk: &Desk) -> Vec<String> {
    let models = desk.ok(&["models", "list", "--json"]).json();
    let ids = models.as_array().expect("a list").iter();
    ids.map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
}

/// The last line of an installation, as the shell would read it.
fn default_model(run: &Run) -> &str {
    let line = run.stdout.lines().last().expect("a line");
    line.strip_prefix("MASUKA_BASE_MODEL=").expect("the variable")
}

#[test]
fn a_model_of_the_hub_is_installed_draws_and_is_taken_off_the_list() {
    let hub = FakeHub::start(Manner::Cuts);
    let desk = desk(&hub);
    assert_eq!(listed(&desk), [""; 0]);
    let run = desk.ok(&["models", "install", REPO]);
    assert!(
        run.stdout.starts_with("icons is installed; ask for it by \"base_model\""),
        "{}",
        run.stdout
    );
    assert_eq!(hub.weights_asked_from()[..2], [0, CUT_AFTER], "what was cut goes on");
    let model = &desk.ok(&["models", "list", "--json"]).json()[0];
    assert_eq!((&model["id"], &model["name"]), (&json!("icons"), &json!(REPO)));
    assert_eq!(model["source"], default_model(&run));
    assert_eq!(desk.ok(&["models", "list"]).stdout.lines().count(), 1);

    let draw = ["generate", "red apple", "--steps", "2", "--seed", "7", "-o"];
    desk.ok(&[&draw[..], &["hub.png", "--model", default_model(&run)]].concat());
    desk.ok(&[&draw[..], &["own.png"]].concat());
    let pixels = |name: &str| image::open(desk.path(name)).expect("a picture").to_rgb8();
    assert_eq!(pixels("hub.png"), pixels("own.png"), "it is the starter's twin");

    let before = hub.server.asked().len();
    desk.ok(&["models", "install", REPO, "--id", "second"]);
    assert_eq!(hub.server.asked().len(), before + 1, "only the list was asked for again");
    assert_eq!(listed(&desk), ["icons", "second"]);
    assert!(desk.ok(&["models", "remove", "icons"]).stdout.contains("its files are kept"));
    desk.fails(&["models", "remove", "icons"], 1, "base model `icons` does not exist");
    desk.fails(&["models", "remove", "starter"], 2, "part of the binary and stays");
    assert_eq!(listed(&desk), ["second"]);
    assert!(Path::new(default_model(&run)).join("model_index.json").exists());
}

#[test]
fn a_file_of_only_the_transformer_takes_its_parts_from_another_model_and_goes_with_its_download() {
    let hub = FakeHub::start(Manner::Good);
    let desk = desk(&hub);
    let desk = desk.with("HF_HUB_CACHE", "hub");
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/starter");
    desk.ok(&["models", "install", starter, "--id", "mine"]);
    let file = format!("{REPO}:{WEIGHTS}");
    desk.fails(
        &["models", "install", &file, "--id", "alone"],
        1,
        "all that is missing with `--base`",
    );
    let missing = ["models", "install", &file, "--id", "alone", "--base", "nobody"];
    desk.fails(&missing, 1, "base model `nobody` does not exist");
    let run = desk.ok(&["models", "install", &file, "--id", "alone", "--base", "mine"]);
    assert_eq!(run.stdout.lines().last(), Some("masuka models default alone"), "{}", run.stdout);
    desk.ok(&["models", "default", "alone"]);
    let unknown = "base model `nobody` does not exist; `masuka models list` names those that do";
    desk.fails(&["models", "default", "nobody"], 1, unknown);
    desk.fails(
        &["models", "remove", "mine", "--files"],
        1,
        "was not downloaded to by this program",
    );
    assert!(desk.path("hub/models--owner--icons").exists());
    let run = desk.ok(&["models", "remove", "alone", "--files"]);
    assert!(run.stdout.contains("its files are erased"), "{}", run.stdout);
    assert!(!desk.path("hub/models--owner--icons").exists());
    assert_eq!(listed(&desk), ["mine"]);
}

#[test]
fn what_lies_here_is_installed_where_it_is() {
    let hub = FakeHub::start(Manner::Good);
    let desk = desk(&hub);
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/starter");
    std::os::unix::fs::symlink(starter, desk.path("Mine")).expect("a link");
    desk.ok(&["models", "install", "Mine", "--id", "mine"]);
    assert_eq!(listed(&desk), ["mine"]);
    std::fs::create_dir(desk.path("empty")).expect("a folder");
    desk.fails(&["models", "install", "empty"], 1, "base model `empty` cannot be used");
    desk.fails(&["models", "install", "nothing"], 2, "nor a model of the hub such as");
    desk.fails(&["models", "install", "Mine", "--id", "starter"], 2, "choose another with --id");
    assert!(hub.server.asked().is_empty());
}

#[test]
fn what_the_hub_refuses_is_told_with_the_remedy_and_nothing_is_listed() {
    let check = |manner, part: &str| {
        let hub = FakeHub::start(manner);
        let desk = desk(&hub);
        desk.fails(&["models", "install", REPO], 1, part);
        assert_eq!(listed(&desk), [""; 0]);
    };
    check(Manner::Gated(401), "set HF_TOKEN to it");
    check(Manner::Refuses(404), "`owner/icons` cannot be downloaded");
    check(Manner::Damages, "download it again");
    check(Manner::Huge, "the disk is full");
}

#[test]
fn ctrl_c_stops_at_once_and_the_same_command_goes_on() {
    let hub = FakeHub::start(Manner::Waits);
    let desk = desk(&hub);
    let install = ["models", "install", REPO];
    let mut child =
        desk.command(&install).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let start = Instant::now();
    while hub.weights_asked_from().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "half of it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let asked = Instant::now();
    child.wait().expect("it ends");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let run: Run = child.wait_with_output().expect("its output").into();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stderr.contains("the same command goes on from there"), "{}", run.stderr);
    assert_eq!(listed(&desk), [""; 0]);
    hub.release();
    desk.ok(&install);
    assert_eq!(hub.weights_asked_from(), [0, CUT_AFTER, CUT_AFTER]);
}
