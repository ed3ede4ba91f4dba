//! Prompt to picture files.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Desk, Run};

const QUICK: [&str; 2] = ["--steps", "2"];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "red apple, noto style"], &QUICK[..], more].concat()
}

#[test]
fn a_prompt_becomes_a_picture_without_any_configuration() {
    let desk = Desk::new();
    let data = desk.path("data").display().to_string();
    let desk = desk.with("MASUKA_DATA_DIR", data);
    let run = desk.ok(&args(&["--seed", "7", "-o", "apple.png"]));
    assert_eq!(run.stdout, "apple.png\n");
    assert!(run.stderr.contains("seed 7"), "{}", run.stderr);
    let picture = image::load_from_memory(&desk.bytes("apple.png")).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (128, 128));
    assert!(picture.pixels().any(|pixel| pixel != picture.get_pixel(0, 0)), "one colour only");
    assert!(desk.exists("data/models/starter/model_index.json"));
    assert_eq!(desk.names(), ["apple.png", "data"], "something was left behind");
}

#[test]
fn json_is_one_object_on_stdout_that_tells_everything() {
    let desk = Desk::new();
    let json =
        desk.ok(&args(&["--seed", "7", "-n", "2", "-o", "deep/down/a.png", "--json"])).json();
    assert_eq!(json["images"][0]["path"], "deep/down/a-1.png");
    assert_eq!(json["images"][1]["path"], "deep/down/a-2.png");
    assert_eq!((&json["images"][0]["seed"], &json["images"][1]["seed"]), (&7.into(), &8.into()));
    assert_eq!(json["parameters"]["prompt"], "red apple, noto style");
    assert_eq!(json["parameters"]["model"], "starter");
    assert_eq!(json["warnings"], serde_json::json!([]));
    assert!(json["tokens"]["t5"].as_u64().unwrap() > 0);
    for stage in ["load", "encode_prompt", "denoise", "decode_latents", "total"] {
        assert!(json["timings_seconds"][stage].is_f64(), "{stage}");
    }
    assert!(desk.exists("deep/down/a-1.png") && desk.exists("deep/down/a-2.png"));
}

#[test]
fn the_same_seed_draws_the_same_file_and_another_seed_another() {
    let desk = Desk::new();
    for (seed, name) in [("7", "a.png"), ("7", "b.png"), ("8", "c.png")] {
        desk.ok(&args(&["--seed", seed, "-o", name]));
    }
    assert_eq!(desk.bytes("a.png"), desk.bytes("b.png"));
    assert_ne!(desk.bytes("a.png"), desk.bytes("c.png"));
}

#[test]
fn without_a_name_the_picture_is_called_by_its_seed_and_nothing_is_overwritten() {
    let desk = Desk::new();
    assert_eq!(desk.ok(&args(&["--seed", "7"])).stdout, "masuka-7.png\n");
    assert_eq!(desk.ok(&args(&["--seed", "7"])).stdout, "masuka-7-2.png\n");
    let seed = desk.ok(&args(&["--json"])).json()["images"][0]["seed"].as_u64().unwrap();
    assert!(seed < 1 << 32);
    assert!(desk.exists(&format!("masuka-{seed}.png")));
}

#[test]
fn parts_may_come_from_files_and_folders_of_their_own() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    let at = |part: &str| starter.join(part).display().to_string();
    let desk = Desk::new();
    desk.ok(&args(&["--seed", "7", "-o", "whole.png", "--model", &at("")]));
    let transformer = at("transformer/diffusion_pytorch_model.safetensors");
    let parts = [
        ("--model", transformer.clone()),
        ("--vae", at("vae")),
        ("--text-encoder", at("text_encoder/model.safetensors")),
        ("--text-encoder-2", at("text_encoder_2")),
        ("--tokenizer", at("tokenizer")),
        ("--tokenizer-2", at("tokenizer_2/tokenizer.json")),
    ];
    let scheduler = at("scheduler");
    std::fs::create_dir(desk.path("base")).unwrap();
    std::os::unix::fs::symlink(&scheduler, desk.path("base/scheduler")).unwrap();
    let mut given: Vec<&str> = parts.iter().flat_map(|(flag, path)| [*flag, path]).collect();
    given.extend(["--base", "base", "--seed", "7", "-o", "parts.png"]);
    desk.ok(&args(&given));
    desk.ok(&args(&["--model", &transformer, "--base", &at(""), "--seed", "7", "-o", "base.png"]));
    let pixels = |name| image::load_from_memory(&desk.bytes(name)).unwrap().to_rgb8();
    assert_eq!(pixels("parts.png"), pixels("whole.png"));
    assert_eq!(pixels("base.png"), pixels("whole.png"));
    desk.fails(&args(&["--model", &transformer, "--vae", &at("vae")]), 1, "`--text-encoder`");
    desk.fails(
        &args(&["--model", &at(""), "--vae", &at("text_encoder")]),
        1,
        "an autoencoder is wanted",
    );
}

#[test]
fn a_named_picture_is_replaced() {
    let desk = Desk::new();
    std::fs::write(desk.path("a.png"), "old").unwrap();
    desk.ok(&args(&["-o", "a.png"]));
    assert!(desk.bytes("a.png").starts_with(b"\x89PNG"));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_would_be_right() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("dir.png")).unwrap();
    std::fs::write(desk.path("file"), "").unwrap();
    desk.fails(&["generate"], 2, "no prompt; say what should be seen");
    desk.fails(&["generate", &"x".repeat(4001)], 2, "longer than 4000 characters");
    desk.fails(&args(&["-o", "a.jpg"]), 2, "`a.jpg` must end in .png");
    desk.fails(&args(&["-o", "dir.png"]), 2, "`dir.png` is a folder");
    desk.fails(&args(&["-o", "file/a.png"]), 2, "`file` is not a folder");
    desk.fails(&args(&["--width", "100"]), 2, "width 100 is not a multiple of 16");
    desk.fails(&args(&["--height", "4096"]), 2, "height 4096 is not within 64 and 2048");
    desk.fails(&["generate", "x", "--steps", "0"], 2, "0 is not within 1 and 100");
    desk.fails(&args(&["-n", "5"]), 2, "num_images 5 is not within 1 and 4");
    desk.fails(&args(&["--seed", "9007199254740992"]), 2, "seed 9007199254740992");
    desk.fails(&args(&["--seed", "-1"]), 2, "invalid value '-1' for '--seed");
    desk.fails(&args(&["--guidance", "nan"]), 2, "is not within 0 and 20");
    desk.fails(&args(&["--true-cfg", "0.5"]), 2, "true_cfg_scale 0.5 is not within 1 and 20");
    desk.fails(&args(&["--sampler", "dpm"]), 2, "possible values: euler, heun");
    desk.fails(&args(&["--lora", "a.safetensors:3"]), 2, "weight 3 is not within -2 and 2");
    desk.fails(&args(&["--threads", "0"]), 2, "--threads");
    desk.fails(&["paint"], 2, "unrecognized subcommand");
    assert_eq!(desk.names(), ["dir.png", "file"], "something was left behind");
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let desk = Desk::new();
    desk.fails(&args(&["--model", "flux1"]), 1, "`flux1` of --model does not exist; name a folder");
    desk.fails(&args(&["--vae", "ae"]), 1, "`ae` of --vae does not exist");
    desk.fails(&args(&["--model", "."]), 1, "transformer");
    desk.fails(&args(&["--lora", "no.safetensors"]), 1, "`no.safetensors`: No such file");
    for (name, bytes, told) in [
        ("zero.safetensors", &[][..], "`zero.safetensors`: is empty; copy it again"),
        ("long.safetensors", &[0, 0, 0, 0, 1, 0, 0, 0, b'{'], "is cut off; copy it again"),
    ] {
        std::fs::write(desk.path(name), bytes).expect("a file");
        desk.fails(&args(&["--lora", name]), 1, told);
    }
    if cfg!(not(feature = "cuda")) {
        desk.fails(&args(&["--device", "cuda"]), 1, "--features cuda");
    }
    let desk = Desk::new().with("MASUKA_BASE_MODEL", "gone");
    desk.fails(&args(&[]), 1, "`gone` of MASUKA_BASE_MODEL does not exist");
    let desk = Desk::new().with("MASUKA_DEVICE", "tpu");
    desk.fails(&args(&[]), 2, "MASUKA_DEVICE: device `tpu` is not one of cpu, cuda, metal");
    let desk = Desk::new().with("MASUKA_DATA_DIR", "/proc/none");
    desk.fails(&args(&[]), 1, "cannot unpack the starter model into `/proc/none/models/starter`");
}

#[test]
fn what_became_of_a_loras_tensors_is_told() {
    let desk = Desk::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lora/attention.safetensors");
    let lora = format!("{file}:-0.5");
    let run = desk.ok(&args(&["--lora", &lora, "--json"]));
    let told = &run.json()["loras"][0];
    let tensors = desk.ok(&["inspect", file, "--json"]).json()["tensors"].clone();
    assert_eq!((&told["format"], &told["applied"]), (&"diffusers".into(), &tensors));
    let told = desk.ok(&args(&["--lora", file])).stderr;
    assert!(told.contains("tensors applied, 0 without effect, 0 unknown"), "{told}");
    let other =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lora_formats/kohya.safetensors");
    let told = "`lora_unet_single_blocks_0_linear1.lora_down.weight` has shape [4, 48] where [4, 192] would fit";
    desk.fails(&args(&["--lora", other]), 1, told);
}

#[test]
fn what_has_no_effect_is_said() {
    let desk = Desk::new();
    let warnings = |more: &[&str]| {
        let run = desk.ok(&args(&[more, &["--json"]].concat()));
        run.json()["warnings"].as_array().unwrap().len()
    };
    assert_eq!(warnings(&["--negative", "dark"]), 1);
    assert_eq!(warnings(&["--true-cfg", "2"]), 1);
    assert_eq!(warnings(&["--true-cfg", "2", "--negative", ""]), 0);
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_within_a_step_and_keeps_what_is_finished() {
    let desk = Desk::new();
    let more = ["generate", "red apple", "--steps", "100", "-n", "4", "-o", "a.png"];
    let mut child =
        desk.command(&more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !desk.exists("a-1.png") && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let asked = Instant::now();
    let code = child.wait().unwrap().code();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let run = Run { code, stdout: String::new(), stderr };
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stderr.contains(" of 4 pictures written: a-1.png"), "{}", run.stderr);
    assert!(run.stderr.ends_with("error: cancelled\n"), "{}", run.stderr);
    assert!(!desk.exists("a-4.png"));
}

#[test]
fn help_and_version_are_no_errors() {
    let desk = Desk::new();
    assert!(desk.ok(&["--version"]).stdout.starts_with("masuka "));
    assert!(desk.ok(&["--help"]).stdout.contains("generate"));
    assert!(desk.ok(&["generate", "--help"]).stdout.contains("--true-cfg"));
}
