//! Who may know what: the walls of ARCHITECTURE.md, checked over the dependency graph and the sources. A wall around a
//! crate that does not exist yet is checked from its first day on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// All crates that `name` is built from on this machine, itself left out; none if it does not exist.
fn built_from(name: &str) -> BTreeSet<String> {
    if !root().join("crates").join(name).exists() {
        return BTreeSet::new();
    }
    let args = ["tree", "--locked", "--package", name, "--edges", "normal", "--prefix", "none"];
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|found| *found != name).map(str::to_owned).collect()
}

/// Fails when `name` is built from a crate whose name `refused` knows.
fn check(name: &str, refused: impl Fn(&str) -> bool) {
    let found: Vec<_> = built_from(name).into_iter().filter(|found| refused(found)).collect();
    assert!(found.is_empty(), "{name} must not know {found:?}; see the walls in ARCHITECTURE.md");
}

fn is_service(name: &str) -> bool {
    let services = ["tokio", "axum", "hyper", "tower", "reqwest", "object_store", "async-std"];
    services.contains(&name) || ["sea-orm", "sqlx"].iter().any(|start| name.starts_with(start))
}

fn is_engine(name: &str) -> bool {
    let own = ["masuka-diffusion", "masuka-training", "masuka-kernels", "masuka-jobs"];
    own.contains(&name) || name.starts_with("candle") || name == "tokenizers"
}

#[test]
fn the_engine_knows_no_service() {
    for name in ["masuka-kernels", "masuka-diffusion", "masuka-training"] {
        check(name, is_service);
    }
}

#[test]
fn the_kernels_know_neither_tensors_nor_pictures() {
    check("masuka-kernels", |name| {
        name.starts_with("candle") || ["image", "png", "ndarray", "safetensors"].contains(&name)
    });
}

#[test]
fn only_the_storage_opens_the_database() {
    for name in ["masuka-kernels", "masuka-diffusion", "masuka-training"] {
        check(name, |found| found == "masuka-storage");
    }
    check("masuka-storage", is_engine);
}

#[test]
fn the_server_never_sees_a_tensor() {
    let path = root().join("crates/masuka-server/Cargo.toml");
    let manifest = fs::read_to_string(path).unwrap_or_default();
    let listed = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let refused: Vec<_> = listed.filter(|name| is_engine(name) && *name != "masuka-jobs").collect();
    assert!(refused.is_empty(), "masuka-server must not list {refused:?}");
}

#[test]
fn only_one_folder_reads_the_environment() {
    let readers =
        ["env::var", "env::vars", "env::var_os", "env::home_dir", "env::set_var", "dotenv"];
    let mut found = Vec::new();
    for path in rust_files(&root().join("crates")) {
        let relative = path.strip_prefix(root().join("crates")).unwrap().to_owned();
        let is_source = relative.components().nth(1).is_some_and(|part| part.as_os_str() == "src");
        let text = fs::read_to_string(&path).unwrap();
        let reads = readers.iter().any(|reader| text.contains(reader));
        if is_source && reads && !relative.starts_with("masuka/src/environment") {
            found.push(relative);
        }
    }
    assert!(found.is_empty(), "only masuka/src/environment/ may read it, not {found:?}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}
