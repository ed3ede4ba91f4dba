//! LoRA: imported, used, deleted.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::support::{TestApp, small};

const BOUNDARY: &str = "----masuka-test";

pub fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/lora");
    std::fs::read(folder.join(name)).expect(name)
}

/// Sends the import form with a file and texts.
pub fn import(app: &TestApp, file: &[u8], texts: &[(&str, &str)]) -> Response {
    let mut body = Vec::new();
    for (name, value) in texts {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend(head.into_bytes());
    }
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../My Style.safetensors\"\r\n\r\n"
    );
    body.extend(head.into_bytes());
    body.extend(file);
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    app.send(
        Request::new("POST", "/api/models/import").header("content-type", &content_type).body(body),
    )
}

fn png_of(app: &TestApp, more: Value) -> Vec<u8> {
    let id = app.generate(more);
    app.download(&app.wait_for(&id, "completed")["images"][0]["url"]).body
}

#[test]
fn an_imported_lora_changes_pictures_by_its_weight() {
    let app = TestApp::start();
    let imported =
        import(&app, &fixture("attention.safetensors"), &[("trigger_word", "TOK")]).expect(201);
    let id = imported["id"].as_str().unwrap();
    assert_eq!((&imported["name"], &imported["rank"]), (&json!("My Style"), &json!(4)));
    assert_eq!(imported["tensors"]["unknown"], 0, "{imported}");
    assert_eq!(imported["file_size_bytes"], fixture("attention.safetensors").len());
    assert_eq!(app.download(&imported["download_url"]).body, fixture("attention.safetensors"));
    let listed = app.get("/api/models/?model_type=flux_image&q=tok").expect(200);
    assert_eq!(listed[0]["id"], id);
    assert!(listed[0]["model_metadata"].get("samples").is_none(), "{listed}");

    let pixels = |more| image::load_from_memory(&png_of(&app, more)).unwrap().to_rgb8();
    let without = pixels(json!({}));
    let with = pixels(json!({ "model_id": id, "lora_weight": 1.0 }));
    let stacked = pixels(
        json!({ "loras": [{ "model_id": id, "weight": 0.5 }, { "model_id": id, "weight": 0.5 }] }),
    );
    assert_ne!(without, with);
    assert_ne!(without, stacked);
    assert_eq!(without, pixels(json!({ "model_id": id, "lora_weight": 0.0 })));
    let job = app.generate(json!({ "model_id": id, "num_images": 2 }));
    let job = app.wait_for(&job, "completed");
    assert_eq!(
        (&job["parameters"]["lora_weight"], job["images"].as_array().unwrap().len()),
        (&json!(0.8), 2)
    );
    let worker = &app.get("/api/queue").expect(200)["workers"][0]["state"];
    assert_eq!(worker["lora_loads"], 1, "the file is read once: {worker}");
}

#[test]
fn a_lora_in_use_stays_and_one_that_is_not_goes() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let imported = import(&app, &fixture("attention.safetensors"), &[]).expect(201);
    let path = format!("/api/models/{}", imported["id"].as_str().unwrap());
    let renamed = app.patch(&path, &json!({ "name": "Soft", "notes": "for icons" })).expect(200);
    assert_eq!((&renamed["name"], &renamed["notes"]), (&json!("Soft"), &json!("for icons")));
    let job = app.generate(json!({ "model_id": imported["id"] }));
    assert_eq!(app.delete(&path).expect(409)["error"]["code"], "model_in_use");
    app.post(&format!("/api/generate/{job}/cancel"), &json!({})).expect(200);
    assert_eq!(app.delete(&path).status, 204);
    app.get(&path).expect(404);
    app.post("/api/generate/image", &small(json!({ "model_id": imported["id"] }))).expect(404);
}

#[test]
fn what_is_no_lora_is_refused_and_nothing_is_kept() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let field = |response: Response| response.expect(422)["error"]["field"].clone();
    assert_eq!(field(import(&app, b"not a file of tensors", &[])), "file");
    assert_eq!(field(import(&app, b"", &[])), "file");
    assert_eq!(field(import(&app, &fixture("attention.safetensors")[..5000], &[])), "file");
    assert_eq!(
        field(import(&app, &fixture("io_without.safetensors"), &[("allow_partial", "true")])),
        "file"
    );
    assert_eq!(
        field(import(&app, &fixture("attention.safetensors"), &[("nonsense", "1")])),
        "nonsense"
    );
    assert_eq!(
        field(import(&app, &fixture("attention.safetensors"), &[("allow_partial", "2")])),
        "allow_partial"
    );
    let narrow = import(&app, &fixture("../lora_formats/kohya.safetensors"), &[]).expect(422);
    let told = "`lora_unet_single_blocks_0_linear1.lora_down.weight` has shape [4, 48] where [4, 192] would fit";
    assert_eq!(narrow["error"]["field"], "file");
    assert!(narrow["detail"].as_str().unwrap().contains(told), "{narrow}");
    import(&app, &fixture("attention.safetensors"), &[("base_model", "nobody")]).expect(404);
    app.send(Request::new("POST", "/api/models/import").body("x")).expect(415);
    assert_eq!(app.get("/api/models").expect(200), json!([]));
    assert_eq!(std::fs::read_dir(app.data("uploads")).unwrap().count(), 0, "uploads are left");
    assert!(
        !app.data("files/models").exists()
            || std::fs::read_dir(app.data("files/models")).unwrap().count() == 0
    );
}

#[test]
fn the_starter_is_there_with_its_defaults_and_limits() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let models = app.get("/api/models/base").expect(200);
    let starter = &models[0];
    assert_eq!((&starter["id"], &starter["is_default"]), (&json!("starter"), &json!(true)));
    assert_eq!(
        (&starter["defaults"]["width"], &starter["limits"]["size_multiple"]),
        (&json!(128), &json!(16))
    );
}
