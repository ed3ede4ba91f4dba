//! The form that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file that are not tests; a file that needs more tells two stories.
const MAX_LINES: usize = 500;
const ROOT_DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
const MAX_ARCHITECTURE_LINES: usize = 200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Every Rust file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    sources
}

fn check(rule: &str, keeps: impl Fn(&Path, &str) -> bool) {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    let broken: Vec<_> =
        sources.iter().filter(|(path, text)| !keeps(path, text)).map(|(path, _)| path).collect();
    assert!(broken.is_empty(), "{rule}: {broken:#?}");
}

#[test]
fn every_file_opens_with_what_lives_there() {
    check("the first line is `//! What lives here.`", |_, text| text.starts_with("//! "));
}

#[test]
fn no_file_is_too_long() {
    check(&format!("at most {MAX_LINES} lines besides tests"), |_, text| {
        let tests = text.lines().position(|line| line == "mod tests {");
        tests.unwrap_or(text.lines().count()) <= MAX_LINES
    });
}

#[test]
fn modules_are_listed_with_what_they_are() {
    check("each module of a `mod.rs`, `lib.rs` or `main.rs` says what it is", |path, text| {
        let is_contents = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
        let is_module = |line: &&str| {
            (line.starts_with("mod ") || line.starts_with("pub mod ")) && line.contains(';')
        };
        !is_contents || text.lines().filter(is_module).all(|line| line.contains("// "))
    });
}

#[test]
fn the_root_holds_no_stray_documents() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.to_string_lossy().into_owned());
    let documents = names.filter(|name| name.to_lowercase().ends_with(".md"));
    let stray: Vec<_> = documents.filter(|n| !ROOT_DOCUMENTS.contains(&n.as_str())).collect();
    assert!(stray.is_empty(), "{stray:?} belong into docs/ or nowhere");
}

#[test]
fn the_map_stays_a_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(map.lines().count() <= MAX_ARCHITECTURE_LINES);
    let crates = fs::read_dir(root().join("crates")).unwrap();
    for name in crates.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(map.contains(&format!("`{name}`")), "{name} is not on the map");
    }
}
