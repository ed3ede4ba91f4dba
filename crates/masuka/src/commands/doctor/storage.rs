//! `masuka doctor --storage`: whether the stored files and the database's rows agree.

use anyhow::bail;
use masuka_storage::blobs::BlobKey;
use masuka_storage::{Disagreements, Storage};
use serde_json::json;

use super::super::print_json;
use crate::cli::DoctorArgs;
use crate::environment::Environment;
use crate::service::settings;

/// Prints what does not agree, and fails if that is left.
pub fn run(args: &DoctorArgs, environment: &Environment) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (found, removed) = runtime.block_on(async {
        let storage = Storage::open(&settings::storage(environment)?).await?;
        let found = storage.compare(args.read_all).await?;
        let removed = if args.remove_orphans { storage.remove_orphans(&found).await? } else { 0 };
        storage.database().clone().close().await?;
        anyhow::Ok((found, removed))
    })?;
    let texts = |keys: &[BlobKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let Disagreements { orphans, missing, damaged } = &found;
    if args.json {
        let orphans: Vec<_> = orphans
            .iter()
            .map(|(key, bytes)| json!({ "key": key.as_str(), "bytes": bytes }))
            .collect();
        print_json(&json!({
            "orphans": orphans,
            "missing": texts(missing),
            "damaged": texts(damaged),
            "removed": removed,
        }))?;
    } else {
        print(&found, removed);
    }
    match orphans.len() - removed + missing.len() + damaged.len() {
        0 => Ok(()),
        count => bail!("{count} files and rows do not agree"),
    }
}

fn print(found: &Disagreements, removed: usize) {
    for (key, bytes) in &found.orphans {
        println!("orphan   {key}, {bytes} bytes: nothing refers to it");
    }
    for key in &found.missing {
        println!("missing  {key}: a row refers to it, the file is not there");
    }
    for key in &found.damaged {
        println!("damaged  {key}: its content is not what was recorded");
    }
    match (found.is_empty(), removed) {
        (true, _) => println!("files and rows agree"),
        (false, 0) if !found.orphans.is_empty() => {
            println!("remove the orphans with --remove-orphans");
        }
        (false, removed) => println!("{removed} orphans were removed"),
    }
}
