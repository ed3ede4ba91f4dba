//! Which files of a component's folder hold its weights: one, or those that an index names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::read_json;

/// What diffusers and transformers call a component's one file.
const STANDARD: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// `*.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of `folder`. Of several variants (`model.fp16.safetensors`) the plain one counts.
///
/// # Errors
/// When there are none, a shard is missing, or it is not clear which are meant.
pub fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: BTreeSet<String> = names.collect();
    let ending = |end: &'static str| names.iter().filter(move |name| name.ends_with(end));

    if let Some(index) = plainest(ending(".safetensors.index.json")) {
        return shards(folder, index);
    }
    if let Some(file) = STANDARD.into_iter().find(|file| names.contains(*file)) {
        return Ok(vec![folder.join(file)]);
    }
    let files: Vec<&String> = ending(".safetensors").collect();
    if let Some(file) = plainest(files.iter().copied()) {
        let same_variant = |name: &&String| dots(name) == dots(file);
        let alike: Vec<_> = files.iter().copied().filter(same_variant).collect();
        return match alike.as_slice() {
            [file] => Ok(vec![folder.join(file)]),
            several => shards_without_index(folder, several),
        };
    }
    match plainest(ending(".gguf")) {
        Some(file) => Ok(vec![folder.join(file)]),
        None => Err(no_weights(folder, &names)),
    }
}

fn shards(folder: &Path, index: &str) -> Result<Vec<PathBuf>> {
    let path = folder.join(index);
    let index: Index = read_json(&path, "an index of shards")?;
    let files: BTreeSet<String> = index.weight_map.into_values().collect();
    let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
    let is_inside = |file: &&String| Path::new(file).file_name() == Some(file.as_ref());
    if let Some(file) = files.iter().find(|file| !is_inside(file)) {
        let message = format!("names the shard `{file}`, which is not a file of this folder");
        return Err(Error::model(path.display(), message));
    }
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        let message = format!("is missing; `{}` names it: copy it again", path.display());
        return Err(Error::model(missing.display(), message));
    }
    if paths.is_empty() {
        return Err(Error::model(path.display(), "names no shard; copy it again"));
    }
    Ok(paths)
}

/// `model-00001-of-00002.safetensors` and its like belong together even if the index was lost.
fn shards_without_index(folder: &Path, names: &[&String]) -> Result<Vec<PathBuf>> {
    let count = |name: &str| {
        let (_, rest) = name.split_once("-of-")?;
        rest.split_once('.')?.0.parse::<usize>().ok()
    };
    if names.iter().all(|name| count(name) == Some(names.len())) {
        return Ok(names.iter().map(|name| folder.join(name)).collect());
    }
    let message = format!(
        "holds {} and no index of them: keep the one that is meant, or add its \
         `.safetensors.index.json`",
        listed(names)
    );
    Err(Error::model(folder.display(), message))
}

fn no_weights(folder: &Path, names: &BTreeSet<String>) -> Error {
    let is_pickle = |name: &&String| [".bin", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end));
    let message = match names.iter().find(is_pickle) {
        Some(pickle) => format!(
            "holds no .safetensors file, only `{pickle}`, which may run code when it is read; convert it to safetensors"
        ),
        None => "holds no .safetensors file".to_owned(),
    };
    Error::model(folder.display(), message)
}

/// The name with the fewest words between dots, the shortest of those.
fn plainest<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    names.min_by_key(|name| (dots(name), name.len()))
}

fn dots(name: &str) -> usize {
    name.matches('.').count()
}

fn listed(names: &[&String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files chosen of a folder with these, or the error.
    fn check(names: &[&str], index: &[&str], expected: Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let map: BTreeMap<_, _> =
                index.iter().map(|shard| (format!("of {shard}"), shard)).collect();
            let content = serde_json::json!({ "weight_map": map });
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let found = of_folder(folder.path());
        match (found, expected) {
            (Ok(paths), Ok(expected)) => {
                let names: Vec<_> =
                    paths.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
                assert_eq!(names, expected);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_index_names_the_shards() {
        let two = ["m-1-of-2.safetensors", "m-2-of-2.safetensors"];
        let names =
            ["m.safetensors.index.json", two[0], two[1], "m.safetensors", "stray.safetensors"];
        check(&names, &two, Ok(&two));
    }

    #[test]
    fn a_missing_shard_is_named() {
        let names = ["m.safetensors.index.json", "m-1-of-2.safetensors"];
        check(
            &names,
            &["m-1-of-2.safetensors", "m-2-of-2.safetensors"],
            Err("m-2-of-2.safetensors`: is missing"),
        );
        check(&names[..1], &["../m.safetensors"], Err("not a file of this folder"));
    }

    #[test]
    fn of_several_variants_the_plain_one_is_taken() {
        check(&["m.fp16.safetensors", "m.safetensors", "m.bin"], &[], Ok(&["m.safetensors"]));
        check(&["io.safetensors", "model.safetensors"], &[], Ok(&["model.safetensors"]));
        check(&["m.fp16.safetensors"], &[], Ok(&["m.fp16.safetensors"]));
        let index = [
            "m.safetensors.index.fp16.json",
            "m.fp16.safetensors.index.json",
            "m.fp16-1-of-1.safetensors",
        ];
        check(&index, &["m.fp16-1-of-1.safetensors"], Ok(&["m.fp16-1-of-1.safetensors"]));
    }

    #[test]
    fn shards_that_lost_their_index_still_belong_together() {
        let two = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        check(&two, &[], Ok(&two));
        check(&["a.safetensors", "b.safetensors"], &[], Err("`a.safetensors`, `b.safetensors`"));
    }

    #[test]
    fn a_folder_of_pickles_or_nothing_is_refused() {
        check(&["m.bin"], &[], Err("convert it"));
        check(&["config.json"], &[], Err("holds no .safetensors file"));
    }
}
