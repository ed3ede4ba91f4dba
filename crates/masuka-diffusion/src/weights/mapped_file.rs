//! A file in memory by name only: its pages come when they are read and are given back when they have been copied. What is
//! copied as a whole is read past the map: a page that is mapped costs more than its copy.

use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The first bytes of archives and pickles, in which PyTorch saves tensors beside code that runs when it is read.
const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80"];

/// A read-only file of weights.
pub struct MappedFile {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// When it cannot be opened, is empty, or is of a kind that may hold code.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let io = |e| Error::io(path, e);
        if file.metadata().map_err(io)?.is_dir() {
            return Err(Error::model(path.display(), "is a folder, not a file of weights"));
        }
        // SAFETY: the map is read-only; a file that another process truncates meanwhile is outside
        // what any reader of model files can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        if map.is_empty() {
            return Err(Error::model(path.display(), "is empty; copy it again"));
        }
        if PICKLES.iter().any(|start| map.starts_with(start)) && !is_safetensors(&map) {
            let message = "is a PyTorch archive, which may run code when it is read; convert it to \
                           safetensors (torch.load with weights_only=True, then \
                           safetensors.torch.save_file)";
            return Err(Error::model(path.display(), message));
        }
        Ok(Self { path: path.to_owned(), file, map })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Copies its bytes from `start` on.
    ///
    /// # Errors
    /// When the file has no more as many, or the disk fails.
    pub fn copy(&self, start: usize, to: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, to, start as u64);
        #[cfg(not(unix))]
        {
            to.copy_from_slice(&self.map[start..start + to.len()]);
            Ok(())
        }
    }

    /// A reader from its start.
    pub fn reader(&self) -> Cursor<&[u8]> {
        Cursor::new(&self.map)
    }

    /// Gives the memory of `range` back; the bytes are read from disk again when they are wanted.
    pub fn give_back(&self, range: Range<usize>) {
        #[cfg(unix)]
        // SAFETY: the map is shared and never written, so that dropped pages come back with the same bytes. A
        // refusal of the advice costs memory and nothing else.
        let _advised = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map.unchecked_advise_range(advice, range.start, range.len())
        };
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// A safetensors header can have the length of an archive's first bytes, but then a JSON object follows.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_from_the_file_and_none_from_beyond_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = MappedFile::open(&path).unwrap();
        let mut bytes = [0; 4];
        file.copy(3, &mut bytes).unwrap();
        assert_eq!(&bytes, b"3456");
        #[cfg(unix)]
        {
            // Cut off by someone else after it was opened.
            std::fs::write(&path, b"01234").unwrap();
            assert_eq!(file.copy(3, &mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
