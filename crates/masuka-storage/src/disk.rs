//! How much room a disk has.

use std::path::Path;

/// What can still be written where `path` lies, in bytes; `None` where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    #[expect(clippy::useless_conversion, reason = "the fields are 32 bits wide on macOS")]
    Some(u64::from(stat.blocks_available()) * u64::from(stat.fragment_size()))
}
