//! How much room a disk has, and what is on it for its owner alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What can still be written where `path` lies, in bytes; `None` where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    #[expect(clippy::useless_conversion, reason = "the fields are 32 bits wide on macOS")]
    Some(u64::from(stat.blocks_available()) * u64::from(stat.fragment_size()))
}

/// Makes `folder`, if it is not there, so that only its owner sees what is in it.
pub(crate) fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    builder.mode(0o700);
    builder.recursive(true).create(folder)
}

/// Makes `file`, if it is not there, so that only its owner can read it.
pub(crate) fn make_private_file(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600);
    options.append(true).create(true).open(file).map(drop)
}
