//! `masuka train`: a folder of pictures becomes an adapter that `masuka generate` uses.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Desk;

const QUICK: [&str; 11] = [
    "--trigger",
    "TOK",
    "--rank",
    "2",
    "--batch",
    "2",
    "--resolution",
    "64",
    "--seed",
    "3",
    "--json",
];

/// A folder `photos` with three captioned pictures.
fn photos(desk: &Desk) {
    let folder = desk.path("photos");
    std::fs::create_dir(&folder).expect("a folder");
    for index in 0..3u8 {
        let picture = image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 4) as u8, (y * 4) as u8, index * 80])
        });
        picture.save(folder.join(format!("{index}.png"))).expect("a picture");
        let caption = format!("thing {index}, TOK style");
        std::fs::write(folder.join(format!("{index}.txt")), caption).expect("a caption");
    }
}

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "photos"], more, &QUICK].concat()
}

/// The bytes of all tensors of a safetensors file.
fn data(desk: &Desk, name: &str) -> Vec<u8> {
    let bytes = desk.bytes(name);
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn a_trained_adapter_says_what_it_is_and_changes_pictures() {
    let desk = Desk::new();
    photos(&desk);
    let lr = ["-o", "tok.safetensors", "--steps", "3", "--lr", "0.02", "--sample-every", "3"];
    let run = desk.ok(&train(&[&lr[..], &["--prior"]].concat()));
    assert_eq!(run.json()["recipe"]["size"]["rank"], 2);
    assert_eq!(run.json()["recipe"]["prior_pictures"], 3, "as many as there are photos");
    assert!(run.stderr.contains("train 3/3 loss"), "{}", run.stderr);
    assert!(desk.exists("tok.training/samples/step-00000003-1.png"));
    let loss = String::from_utf8(desk.bytes("tok.training/loss.csv")).expect("text");
    assert_eq!(loss.lines().count(), 4);

    let metadata = desk.ok(&["inspect", "tok.safetensors", "--json"]).json()["metadata"].clone();
    assert_eq!(metadata["trigger_word"], "TOK");
    assert_eq!((&metadata["rank"], &metadata["alpha"]), (&"2".into(), &"2.0".into()));
    assert_eq!(metadata["dataset"], "photos");

    let draw = ["generate", "thing, TOK style", "--steps", "2", "--seed", "1", "--width", "64"];
    let draw = [&draw[..], &["--height", "64"]].concat();
    desk.ok(&[&draw[..], &["-o", "without.png"]].concat());
    desk.ok(&[&draw[..], &["-o", "with.png", "--lora", "tok.safetensors:1"]].concat());
    let pixels = |name: &str| image::open(desk.path(name)).expect("a picture").to_rgb8();
    assert_ne!(pixels("without.png"), pixels("with.png"));
}

#[test]
fn a_killed_training_of_100_steps_goes_on_to_the_same_bytes() {
    let desk = Desk::new();
    photos(&desk);
    let recipe = ["--steps", "100", "--ema", "0.9", "--caption-dropout", "0.2"];
    desk.ok(&train(&[&["-o", "whole.safetensors"], &recipe[..]].concat()));
    let halves = [&["-o", "halves.safetensors", "--save-every", "10"], &recipe[..]].concat();
    let mut child = desk.command(&train(&halves)).spawn().expect("it starts");
    wait_for(&desk.path("halves.training/checkpoints"), 50);
    child.kill().expect("it is killed");
    child.wait().expect("it is gone");
    assert!(!desk.exists("halves.safetensors"));
    let told = desk.ok(&["train", "photos", "-o", "halves.safetensors", "--resume"]).stderr;
    assert!(!told.contains("step-00000050.safetensors"), "it began anew: {told}");
    assert_eq!(data(&desk, "whole.safetensors"), data(&desk, "halves.safetensors"));
    // Weights, the optimiser's moments, the moving average and the losses of all steps.
    let last =
        |name| data(&desk, &format!("{name}.training/checkpoints/step-00000100.safetensors"));
    assert_eq!(last("whole"), last("halves"));
    let curve = |name| desk.bytes(&format!("{name}.training/loss.csv"));
    assert_eq!(curve("whole"), curve("halves"));
    assert_eq!(String::from_utf8(curve("whole")).expect("text").lines().count(), 101);
}

/// Waits until `folder` holds the checkpoint of `step` or a later one.
fn wait_for(folder: &Path, step: usize) {
    let start = Instant::now();
    let first = format!("step-{step:08}.safetensors");
    let is_there = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name().into_string().expect("ASCII");
        name.starts_with("step-") && name.ends_with(".safetensors") && name >= first
    };
    while !std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(is_there)) {
        assert!(start.elapsed() < Duration::from_secs(180), "no checkpoint after three minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_training_that_was_begun_is_neither_lost_nor_mixed_up() {
    let desk = Desk::new();
    photos(&desk);
    let args = train(&["-o", "tok.safetensors", "--steps", "2"]);
    desk.ok(&args);
    desk.fails(&args, 2, "add --resume to go on with it, or --restart to throw it away");
    let other = train(&["-o", "tok.safetensors", "--steps", "3", "--resume"]);
    desk.fails(&other, 2, "the flags are not those of the training to be resumed");
    desk.ok(&train(&["-o", "tok.safetensors", "--steps", "2", "--restart"]));
    let none = train(&["-o", "new.safetensors", "--resume"]);
    desk.fails(&none, 2, "holds no checkpoint to resume from");
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let desk = Desk::new();
    photos(&desk);
    let check = |args: &[&str], code, message| desk.fails(args, code, message);
    check(&train(&["--steps", "0"]), 2, "steps 0 is not within 1 and 1000000");
    check(&train(&["--warmup", "2", "--steps", "1"]), 2, "warmup_steps 2 is not within 0 and 1");
    check(&train(&["--lr=-1"]), 2, "learning_rate -1 is not a number above 0");
    check(&train(&["-o", "a.png"]), 2, "`a.png` must end in .safetensors");
    check(&["train", "photos", "--resolution", "70"], 2, "resolution 70 is not a multiple of 16");
    check(&["train", "photos", "--rank", "5000"], 2, "rank 5000 is not within 1 and 1024");
    check(&["train", "photos", "--trigger", "XYZ"], 1, "without the trigger word `XYZ`");
    check(&["train", "nowhere"], 1, "`nowhere` does not exist; name a folder of pictures (.png");
    check(&["train", "photos/0.png"], 1, "`photos/0.png` is no folder; name a folder of pictures");
    std::fs::create_dir(desk.path("empty")).expect("a folder");
    check(&["train", "empty"], 1, "holds no picture");
    assert_eq!(desk.names(), ["empty", "photos"]);
}
