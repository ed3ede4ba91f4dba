//! Files that go away with their owner, however a request ends.

use std::path::{Path, PathBuf};

use crate::app::App;

/// The place of a file, whether it is there or not.
#[derive(Debug)]
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// A place where no file is yet.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(app: &App) -> masuka_storage::Result<Self> {
        Ok(Self(app.storage.new_upload_path()?))
    }

    #[cfg(test)]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
