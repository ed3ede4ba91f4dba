//! What files say about themselves.

use serde_json::json;

use masuka_diffusion::pictures::RgbImage;

use crate::support::Desk;

#[test]
fn a_picture_tells_how_it_was_made() {
    let desk = Desk::new();
    let prompt = "зелёное яблоко 🍏,\n\"noto\" style";
    desk.ok(&["generate", prompt, "--seed", "7", "--steps", "2", "-o", "a.png"]);
    let json = desk.ok(&["inspect", "a.png", "--json"]).json();
    assert_eq!((&json["format"], &json["width"]), (&json!("png"), &json!(128)));
    let made = &json["parameters"];
    assert_eq!(
        (&made["prompt"], &made["seed"], &made["steps"]),
        (&json!(prompt), &json!(7), &json!(2))
    );
    assert_eq!(made["model"], "starter");
    let text = desk.ok(&["inspect", "a.png"]).stdout;
    assert!(text.contains("зелёное яблоко 🍏") && text.contains("seed      7"), "{text}");
}

#[test]
fn a_picture_without_parameters_says_so() {
    let desk = Desk::new();
    RgbImage::new(3, 2).save(desk.path("plain.png")).unwrap();
    assert!(desk.ok(&["inspect", "plain.png"]).stdout.contains("does not say how it was made"));
    assert_eq!(desk.ok(&["inspect", "plain.png", "--json"]).json()["parameters"], json!(null));
}

#[test]
fn a_checkpoint_is_summed_up() {
    let desk = Desk::new();
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/starter/");
    let file = format!("{starter}transformer/diffusion_pytorch_model.safetensors");
    let json = desk.ok(&["inspect", &file, "--json"]).json();
    assert_eq!(json["format"], "safetensors");
    assert!(json["tensors"].as_u64().unwrap() > 100);
    assert!(json["parameters"].as_u64().unwrap() > 1_000_000);
    let text = desk.ok(&["inspect", &file]).stdout;
    assert!(text.contains("bf16 × "), "{text}");
}

#[test]
fn a_lora_tells_its_convention_targets_and_counts() {
    let desk = Desk::new();
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lora_formats/export.safetensors");
    let lora = &desk.ok(&["inspect", file, "--json"]).json()["lora"];
    assert_eq!((&lora["format"], &lora["applied"]), (&json!("diffusers"), &json!(14)));
    assert_eq!(lora["ranks"], json!({ "8": 1, "32": 6 }));
    let text = desk.ok(&["inspect", file]).stdout;
    assert!(text.contains("diffusers names, for FLUX.1, 48 channels wide: LoRA × 7"), "{text}");
    assert!(text.contains("14 tensors, 0 without effect, 0 zero, 0 unknown"), "{text}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let desk = Desk::new();
    std::fs::write(desk.path("a.txt"), "hello").unwrap();
    std::fs::write(desk.path("a.safetensors"), "hello").unwrap();
    desk.fails(&["inspect", "a.txt"], 1, "`a.txt` is not a PNG file");
    desk.fails(&["inspect", "a.safetensors"], 1, "`a.safetensors`: is no safetensors");
    desk.fails(&["inspect", "gone"], 1, "cannot read `gone`");
    desk.fails(&["inspect"], 2, "<FILE>");
}
