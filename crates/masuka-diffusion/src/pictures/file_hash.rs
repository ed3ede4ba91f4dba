//! The hashes by which a LoRA file is known: SHA-256 of the whole file, and the hash of its tensor data alone,
//! which survives an edit of the metadata and which A1111 and the model sites call AutoV3.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const AUTOV3_DIGITS: usize = 12;

/// Both hashes of a safetensors file, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// SHA-256 of the whole file.
    pub sha256: String,
    /// The first 12 digits of the SHA-256 of everything behind the header.
    pub autov3: String,
}

/// Reads `path` once for both hashes.
///
/// # Errors
/// When the file cannot be read or is shorter than its header says.
pub fn hash_safetensors(path: &Path) -> Result<FileHashes> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let refuse = |message| Err(Error::model(path.display(), message));
    let cut_off = "is no safetensors file, or is cut off; copy it again";
    let mut start = Vec::new();
    reader.by_ref().take(8).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    let Ok(length) = <[u8; 8]>::try_from(start.as_slice()) else {
        return refuse(if start.is_empty() { "is empty; copy it again" } else { cut_off });
    };
    let mut whole = Sha256::new_with_prefix(length);
    let mut header = reader.by_ref().take(u64::from_le_bytes(length));
    digest(&mut header, &mut [&mut whole]).map_err(|e| Error::io(path, e))?;
    if header.limit() > 0 {
        return refuse(cut_off);
    }
    let mut data = Sha256::new();
    digest(&mut reader, &mut [&mut whole, &mut data]).map_err(|e| Error::io(path, e))?;
    let mut autov3 = hex(data);
    autov3.truncate(AUTOV3_DIGITS);
    Ok(FileHashes { sha256: hex(whole), autov3 })
}

fn digest(reader: &mut impl Read, hashers: &mut [&mut Sha256]) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for hasher in &mut *hashers {
            hasher.update(&buffer[..count]);
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<FileHashes> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, bytes).unwrap();
        hash_safetensors(&path)
    }

    #[test]
    fn both_hashes_are_those_of_sha256sum() {
        // printf '\2\0\0\0\0\0\0\0{}abc' | sha256sum; printf abc | sha256sum | cut -c1-12
        let hashes = check(b"\x02\0\0\0\0\0\0\0{}abc").unwrap();
        assert_eq!(
            hashes.sha256,
            "6c89478bb16da5268159eb3a5f218529eec3500610bddf8db89e18f10616c21f"
        );
        assert_eq!(hashes.autov3, "ba7816bf8f01");
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let refused = |bytes, part| {
            let message = check(bytes).expect_err(part).to_string();
            assert!(message.ends_with(part), "{message}");
        };
        refused(b"\xff\0\0\0\0\0\0\0{}", "is cut off; copy it again");
        refused(b"abc", "is cut off; copy it again");
        refused(b"", "is empty; copy it again");
    }
}
