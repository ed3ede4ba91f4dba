//! The small files of a model folder.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Reads the JSON file `path`; `what` says in errors what it should have been: `T5 configuration`.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Model`] when it is not what it should be.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_slice(&text).map_err(|e| {
        let message = format!("cannot be used as {what}: {e}");
        Error::model(path.display(), message)
    })
}
