//! What this machine can do, and what is wrong.

use crate::support::Desk;

#[test]
fn doctor_tells_machine_build_and_paths() {
    let desk = Desk::new().with("HF_TOKEN", "hf_secret");
    let text = desk.ok(&["doctor"]).stdout;
    for part in
        ["processor", "memory", "cpu: usable, in use", "data folder", "starter", "HF_TOKEN    set"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hf_secret"));
    let json = desk.ok(&["doctor", "--json"]).json();
    assert!(json["processor"]["threads"].as_u64().unwrap() > 0);
    assert_eq!(json["devices"].as_array().unwrap().len(), 3);
    assert_eq!(json["problems"], serde_json::json!([]));
    assert!(!json.to_string().contains("hf_secret"));
}

#[test]
fn doctor_says_what_a_picture_takes_in_each_memory_mode() {
    let desk = Desk::new();
    desk.ok(&["generate", "x", "--steps", "1", "--width", "64", "--height", "64"]);
    let modes = &desk.ok(&["doctor", "--json"]).json()["memory_modes_bytes"];
    let [none, components, blocks] =
        ["none", "components", "blocks"].map(|mode| modes[mode].as_u64().unwrap());
    assert!(none > components && components >= blocks && blocks > 0, "{modes}");
    assert!(desk.ok(&["doctor"]).stdout.contains("with --offload components"));
}

#[test]
fn a_starter_model_that_is_being_unpacked_is_no_problem() {
    let desk = Desk::new();
    let data = desk.path("data");
    std::fs::create_dir_all(data.join("models/starter/transformer")).unwrap();
    let desk = desk.with("MASUKA_DATA_DIR", data.display().to_string());
    assert!(desk.ok(&["doctor"]).stdout.contains("to be unpacked into"));
}

#[test]
fn doctor_tells_the_level_that_the_kernels_are_kept_to() {
    let json = Desk::new().with("MASUKA_CPU_LEVEL", "portable").ok(&["doctor", "--json"]).json();
    let lowest = if cfg!(target_arch = "aarch64") { "neon" } else { "portable" };
    assert_eq!(json["processor"]["level_limit"], "portable");
    assert_eq!(json["processor"]["level"], lowest);
}

#[test]
fn doctor_tells_where_settings_come_from() {
    let desk = Desk::new().with("MASUKA_LOG", "warn");
    std::fs::write(desk.path("masuka.toml"), "port = 9000\nlog = \"debug\"").unwrap();
    std::fs::write(desk.path(".env"), "MASUKA_API_KEY=word\nREDIS_URL=redis://x\n").unwrap();
    let text = desk.ok(&["doctor"]).stdout;
    for line in [
        "setting     MASUKA_PORT=9000, from masuka.toml",
        "setting     MASUKA_LOG=warn, from environment",
        "setting     MASUKA_API_KEY=(secret), from .env",
        "unused      REDIS_URL in .env: nothing reads it",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("word"), "{text}");
    let json = desk.ok(&["doctor", "--json"]).json();
    assert_eq!(json["unused_settings"], serde_json::json!(["REDIS_URL"]));
    std::fs::write(desk.path("masuka.toml"), "prot = 9000").unwrap();
    desk.fails(&["doctor"], 2, "`prot` of `masuka.toml` is no setting; there are ");
}

#[test]
fn doctor_looks_into_the_data_folder_that_is_named() {
    let desk = Desk::new();
    let folder = desk.path("elsewhere").display().to_string();
    let json = desk.ok(&["doctor", "--json", "--data-dir", &folder]).json();
    assert_eq!(json["data_dir"], folder);
    assert!(!desk.path("elsewhere").exists(), "nothing is made");
    let told = desk.ok(&["doctor", "--storage", "--data-dir", &folder]).stdout;
    assert!(told.contains("files and rows agree"), "{told}");
}

#[test]
fn doctor_says_what_is_wrong_and_fails() {
    let desk = Desk::new()
        .with("MASUKA_DEVICE", "tpu")
        .with("MASUKA_BASE_MODEL", "gone")
        .with("MASUKA_CPU_LEVEL", "sse9")
        .with("NATS_URL", "nats://ada:secret@127.0.0.1:1") // nobody listens there
        .with("MASUKA_DATA_DIR", "/proc/none");
    let run = desk.run(&["doctor", "--json"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("error: 5 problems found"), "{}", run.stderr);
    let problems = run.json()["problems"].to_string();
    let parts = [
        "MASUKA_DEVICE",
        "MASUKA_BASE_MODEL",
        "MASUKA_CPU_LEVEL",
        "NATS_URL",
        "set MASUKA_DATA_DIR",
    ];
    for part in parts {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert!(!problems.contains("secret"), "{problems}");
}
