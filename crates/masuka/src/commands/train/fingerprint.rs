//! Says which model it is, quickly: names, lengths and times of its files instead of their gigabytes.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context;

/// A text that changes when the files below `model` do.
pub fn of(model: &Path) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    gather(model, &mut lines).with_context(|| format!("cannot read `{}`", model.display()))?;
    lines.sort();
    Ok(lines.concat())
}

fn gather(path: &Path, lines: &mut Vec<String>) -> std::io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            gather(&entry?.path(), lines)?;
        }
        return Ok(());
    }
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    lines.push(format!("{} {} {}\n", path.display(), metadata.len(), modified.as_nanos()));
    Ok(())
}
