//! Says which model it is, quickly and the same on every machine: names, lengths and parts of its files instead of all
//! their gigabytes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How much of the beginning, the middle and the end of a file is read.
const PART_BYTES: u64 = 64 << 10;

/// A text that changes when the files below `paths` do.
///
/// # Errors
/// When one of them cannot be read.
pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<String> {
    let mut lines = Vec::new();
    for path in paths {
        gather(path, "", &mut lines).map_err(|e| Error::io(path, e))?;
    }
    lines.sort();
    Ok(lines.concat())
}

/// A line for each file; `inside` is its name within the model.
fn gather(path: &Path, inside: &str, lines: &mut Vec<String>) -> std::io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let inside = format!("{inside}/{}", entry.file_name().to_string_lossy());
            gather(&entry.path(), &inside, lines)?;
        }
        return Ok(());
    }
    let mut file = File::open(path)?;
    let bytes = file.seek(SeekFrom::End(0))?;
    let mut hash = Sha256::new();
    for start in [0, bytes / 2, bytes.saturating_sub(PART_BYTES)] {
        file.seek(SeekFrom::Start(start))?;
        let mut part = Vec::new();
        file.by_ref().take(PART_BYTES).read_to_end(&mut part)?;
        hash.update(&part);
    }
    let digest: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    lines.push(format!("{inside} {bytes} {digest}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_model_and_a_changed_file_another() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        for folder in &folders {
            fs::create_dir(folder.path().join("vae")).expect("a folder");
            fs::write(folder.path().join("vae/weights"), [7; 300_000]).expect("a file");
        }
        let prints = || folders.each_ref().map(|folder| of([folder.path()]).expect("it is read"));
        let [one, two] = prints();
        assert_eq!(one, two);
        let mut changed = [7; 300_000];
        changed[299_999] = 8;
        fs::write(folders[1].path().join("vae/weights"), changed).expect("a file");
        assert_ne!(prints()[1], one);
    }
}
