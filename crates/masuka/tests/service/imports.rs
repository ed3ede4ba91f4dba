//! LoRA from a folder and from other servers, and out again in other names.

use serde_json::{Value, json};

use crate::elsewhere::{Elsewhere, Reply};
use crate::http::Response;
use crate::models::{fixture, import};
use crate::support::{Options, TestApp};

const LORA: &str = "attention.safetensors";

/// A server without a worker and with these variables.
fn start(variables: Vec<(&'static str, String)>) -> TestApp {
    TestApp::with(Options { flags: vec!["--no-worker"], variables, ..Options::default() })
}

fn import_from(app: &TestApp, body: Value) -> Response {
    app.post("/api/models/import", &body)
}

/// The message of an import that is refused for `field`.
fn refused(app: &TestApp, body: Value, field: &str) -> String {
    let refused = import_from(app, body).expect(422);
    assert_eq!(refused["error"]["field"], field, "{refused}");
    refused["detail"].as_str().unwrap().to_owned()
}

fn nothing_is_left(app: &TestApp) {
    assert_eq!(app.get("/api/models").expect(200), json!([]));
    let uploads = app.data("uploads");
    assert!(!uploads.exists() || std::fs::read_dir(uploads).unwrap().count() == 0);
}

#[test]
fn a_path_names_a_file_of_the_import_folder_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("loras");
    std::fs::create_dir_all(inside.join("styles")).unwrap();
    std::fs::write(inside.join("styles/Soft.safetensors"), fixture(LORA)).unwrap();
    std::fs::write(folder.path().join("secret.safetensors"), fixture(LORA)).unwrap();
    std::os::unix::fs::symlink("../secret.safetensors", inside.join("link.safetensors")).unwrap();
    let app = start(vec![("MASUKA_IMPORT_DIR", inside.display().to_string())]);
    let absolute = folder.path().join("secret.safetensors").display().to_string();
    for path in
        ["../secret.safetensors", "link.safetensors", &absolute, "styles", "nothing", "", "a\0b"]
    {
        let message = refused(&app, json!({ "path": path }), "path");
        assert!(message.contains("is no file of the import folder"), "{path:?}: {message}");
    }
    nothing_is_left(&app);
    let imported =
        import_from(&app, json!({ "path": "styles/Soft.safetensors", "trigger_word": "TOK" }));
    let imported = imported.expect(201);
    assert_eq!((&imported["name"], &imported["trigger_word"]), (&json!("Soft"), &json!("TOK")));
    assert_eq!(app.download(&imported["download_url"]).body, fixture(LORA));
    assert!(inside.join("styles/Soft.safetensors").exists(), "a copy is taken");
}

#[test]
fn without_an_import_folder_no_path_is_read() {
    let app = start(vec![]);
    let message = refused(&app, json!({ "path": "a.safetensors" }), "path");
    assert!(message.contains("MASUKA_IMPORT_DIR"), "{message}");
    refused(&app, json!({}), "url");
    refused(&app, json!({ "path": "a", "url": "http://1.1.1.1/" }), "url");
    refused(&app, json!({ "url": "http://1.1.1.1/", "nonsense": 1 }), "nonsense");
}

#[test]
fn a_url_is_fetched_even_if_the_connection_is_cut() {
    let server = Elsewhere::start(|asked| match asked.from {
        0 => Reply::File { bytes: fixture(LORA), cut_after: Some(1000) },
        _ => Reply::file(&fixture(LORA)),
    });
    let app = start(vec![("MASUKA_IMPORT_HOSTS", "127.0.0.1".into())]);
    let imported = import_from(&app, json!({ "url": server.url("/x/Soft.safetensors?v=1") }));
    let imported = imported.expect(201);
    assert_eq!(imported["name"], "Soft");
    assert_eq!(app.download(&imported["download_url"]).body, fixture(LORA));
}

#[test]
fn a_url_leads_nowhere_private_and_brings_nothing_too_large() {
    let server = Elsewhere::start(|asked| match asked.path.as_str() {
        "/long" => Reply::Long(5 << 30),
        "/away" => Reply::Redirect(format!("http://localhost:{}/lora", port_of(&asked.host))),
        "/gone" => Reply::Status(404, "gone".into()),
        _ => Reply::file(b"secrets of this machine"),
    });
    let closed = start(vec![]);
    let failed = |app: &TestApp, url: String| {
        let refused = import_from(app, json!({ "url": url })).expect(422);
        assert_eq!(refused["error"]["code"], "download_failed", "{refused}");
        refused["detail"].as_str().unwrap().to_owned()
    };
    for url in [server.url("/lora"), format!("http://localhost:{}/lora", server.address.port())] {
        assert!(failed(&closed, url.clone()).contains("is a private address"), "{url}");
    }
    assert!(failed(&closed, "file:///etc/passwd".into()).contains("neither http: nor https:"));
    refused(&closed, json!({ "url": "nonsense" }), "url");
    assert!(server.asked().is_empty());
    nothing_is_left(&closed);

    let open = start(vec![("MASUKA_IMPORT_HOSTS", "127.0.0.1".into())]);
    assert!(failed(&open, server.url("/away")).contains("`localhost` is a private address"));
    assert!(failed(&open, server.url("/long")).contains("longer than the 4294967296 bytes"));
    assert!(failed(&open, server.url("/gone")).contains("404"));
    refused(&open, json!({ "url": server.url("/lora") }), "file");
    nothing_is_left(&open);
}

fn port_of(host: &str) -> &str {
    host.rsplit(':').next().unwrap()
}

/// Names of the tensors in a safetensors file.
fn names(file: &[u8]) -> Vec<String> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    header.as_object().unwrap().keys().filter(|key| *key != "__metadata__").cloned().collect()
}

#[test]
fn a_lora_leaves_in_other_names_and_comes_back_the_same() {
    let app = start(vec![]);
    let imported = import(&app, &fixture(LORA), &[]).expect(201);
    let path = format!("/api/models/{}/export", imported["id"].as_str().unwrap());
    for (format, part) in
        [("diffusers", ".lora_A.weight"), ("kohya", "lora_unet_"), ("comfyui", "lora_")]
    {
        let exported = app.get(&format!("{path}?format={format}"));
        assert_eq!(exported.status, 200, "{}", exported.text());
        let name = format!("filename=\"My_Style-{format}.safetensors\"");
        assert!(exported.header("content-disposition").unwrap().ends_with(&name));
        let names = names(&exported.body);
        assert!(names.iter().any(|name| name.contains(part)), "{format}: {names:?}");
        let again = import(&app, &exported.body, &[]).expect(201);
        assert_eq!(again["rank"], imported["rank"], "{format}");
        assert_eq!(again["tensors"]["unknown"], 0, "{format}");
    }
    let refused = app.get(&format!("{path}?format=zip")).expect(422);
    assert!(refused["detail"].as_str().unwrap().contains("diffusers, kohya, comfyui"), "{refused}");
    app.get(&path).expect(422);
    app.get("/api/models/nobody/export?format=kohya").expect(404);
    let uploads = std::fs::read_dir(app.data("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "temporary files are left");
}

#[test]
fn an_import_folder_that_is_gone_is_no_crash() {
    let app = start(vec![("MASUKA_IMPORT_DIR", "/nowhere".into())]);
    refused(&app, json!({ "path": "a.safetensors" }), "path");
    nothing_is_left(&app);
}
