//! A picture made again from what it says about itself.

use masuka_diffusion::pictures::{LoraUse, Parameters, RgbImage, encode_png};

use crate::support::Desk;

fn write_picture(desk: &Desk, name: &str, parameters: &Parameters) {
    let png = encode_png(&RgbImage::new(2, 2), parameters).unwrap();
    std::fs::write(desk.path(name), png).unwrap();
}

#[test]
fn like_makes_the_same_file_again() {
    let desk = Desk::new();
    desk.ok(&[
        "generate",
        "rocket, fluent style",
        "--seed",
        "11",
        "--steps",
        "3",
        "--guidance",
        "2.5",
        "--width",
        "96",
        "--height",
        "64",
        "--sampler",
        "heun",
        "--negative",
        "dark, \"red\"",
        "--true-cfg",
        "1.5",
        "-n",
        "2",
        "-o",
        "a.png",
    ]);
    desk.ok(&["generate", "--like", "a-2.png", "-o", "b.png"]);
    assert_eq!(desk.bytes("a-2.png"), desk.bytes("b.png"));
}

#[test]
fn flags_win_over_the_picture() {
    let desk = Desk::new();
    let parameters = Parameters {
        prompt: "red apple".into(),
        seed: Some(7),
        steps: Some(2),
        sampler: Some("dpm++ 2m".into()),
        model: Some("flux1-dev".into()),
        ..Parameters::default()
    };
    write_picture(&desk, "old.png", &parameters);
    desk.fails(&["generate", "--like", "old.png"], 2, "choose another with --sampler");
    let run = desk.ok(&[
        "generate",
        "cat",
        "--like",
        "old.png",
        "--seed",
        "9",
        "--sampler",
        "euler",
        "--json",
    ]);
    let made = &run.json()["parameters"];
    assert_eq!(
        (&made["prompt"], &made["seed"], &made["steps"]),
        (&"cat".into(), &9.into(), &2.into())
    );
    assert!(run.stderr.contains("made with the model `flux1-dev`, this one with `starter`"));
}

#[test]
fn a_lora_of_the_picture_that_is_not_here_is_named() {
    let desk = Desk::new();
    let sha256 = Some("00".repeat(32));
    let lora = LoraUse { file: "s.safetensors".into(), weight: 0.5, sha256, autov3: None };
    let parameters = Parameters { prompt: "x".into(), loras: vec![lora], ..Parameters::default() };
    write_picture(&desk, "old.png", &parameters);
    let like = ["generate", "--like", "old.png", "--steps", "1"];
    desk.fails(
        &like,
        1,
        "the picture's LoRA `s.safetensors` was not found; give it as --lora FILE:0.5",
    );
    std::fs::write(desk.path("s.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    desk.fails(&like, 1, "`s.safetensors` is not the LoRA of the same name");
}

#[test]
fn a_picture_that_says_nothing_cannot_be_followed() {
    let desk = Desk::new();
    RgbImage::new(2, 2).save(desk.path("plain.png")).unwrap();
    desk.fails(&["generate", "--like", "plain.png"], 1, "does not say how it was made");
    std::fs::write(desk.path("photo.png"), "\u{ff}\u{d8} no PNG").unwrap();
    desk.fails(&["generate", "--like", "photo.png"], 1, "`photo.png` is not a PNG file");
    desk.fails(&["generate", "--like", "gone.png"], 1, "`gone.png`: No such file");
}
