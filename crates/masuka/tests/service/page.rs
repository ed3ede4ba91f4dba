//! The web page, and the document its client is made from.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::http::Request;
use crate::support::TestApp;

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web")
}

#[test]
fn every_address_of_the_page_shows_it_or_says_how_to_build_it() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let is_built = web().join("dist/index.html").exists();
    for path in ["/", "/gallery", "/train/sessions/7", "/login/"] {
        let page = app.get(path);
        let kind = page.header("content-type").expect("a type").to_owned();
        assert!(kind.starts_with("text/html"), "{path}: {kind}");
        if !is_built {
            assert_eq!(page.status, 503, "{path}");
            assert!(page.text().contains("scripts/build-web"), "{}", page.text());
            continue;
        }
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("cache-control"), Some("no-cache"), "{path}");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
    }
}

#[test]
fn the_page_swallows_no_unknown_address_of_the_interface() {
    let app = TestApp::with_flags(&["--no-worker"]);
    for path in ["/api", "/api/nothing", "/v1/x", "/docs/x", "/assets/x.js", "/robots.txt"] {
        assert_eq!(app.get(path).status, 404, "{path}");
    }
    let posted = app.send(Request::new("POST", "/gallery")).expect(404);
    assert_eq!(posted["error"]["code"], "unknown_path");
}

#[test]
fn assets_are_kept_forever_and_packed_where_that_is_understood() {
    let Ok(files) = std::fs::read_dir(web().join("dist/assets")) else { return };
    let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let entry = |name: &String| name.starts_with("index-") && name.ends_with(".js");
    let script = names.find(entry).expect("the entry");
    let app = TestApp::with_flags(&["--no-worker"]);
    let path = format!("/assets/{script}");
    let plain = app.get(&path);
    assert_eq!(plain.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    let packed = app.send(Request::new("GET", &path).header("accept-encoding", "gzip, br"));
    assert_eq!(packed.header("content-encoding"), Some("br"));
    assert!(packed.body.len() < plain.body.len());
    let etag = plain.header("etag").expect("a tag");
    let known = app.send(Request::new("GET", &path).header("if-none-match", etag));
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[test]
fn the_pages_client_is_made_from_the_interface_as_it_is() {
    let printed = Command::new(env!("CARGO_BIN_EXE_masuka")).arg("openapi").output().expect("runs");
    let printed = String::from_utf8(printed.stdout).expect("text");
    let kept = std::fs::read_to_string(web().join("openapi.json")).expect("web/openapi.json");
    assert!(printed == kept, "web/openapi.json is stale; run `just openapi`");
}
