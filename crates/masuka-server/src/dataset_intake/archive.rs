//! Zips, entry by entry. Names in them are only shown, never used as paths; how much comes out is counted while it comes,
//! whatever the zip says of itself.
//!
//! Format: PKWARE APPNOTE 6.3.10, sections 4.3.14 to 4.3.16.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;

use crate::temporary::TemporaryFile;

/// The most entries of a zip.
const MAX_ENTRIES: u64 = 20_000;
/// The largest entry, unpacked.
const MAX_ENTRY_BYTES: u64 = super::MAX_PICTURE_BYTES;
/// Pictures hardly become smaller in a zip: one that unpacks to more than this many times its size is a bomb.
const MAX_EXPANSION: u64 = 20;
/// What even a small zip may unpack to.
const FREE_BYTES: u64 = 64 << 20;
/// The end record with the longest comment, and what stands before it in large zips.
const TAIL_BYTES: u64 = 22 + 65_535 + 20 + 56;

/// A zip under way.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// What may still come out, in bytes.
    left: u64,
    is_exhausted: bool,
    _file: TemporaryFile,
}

/// An entry of a zip.
pub(super) struct Entry {
    /// As the zip calls it.
    pub(super) name: String,
    /// Its size; nothing when it is no file of the user; or why it cannot be used.
    pub(super) unpacked: Result<Option<u64>, String>,
}

/// Whether a file begins as a zip does, whatever its name.
pub(super) fn is_zip(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && (start == *b"PK\x03\x04" || start == *b"PK\x05\x06")
}

impl Archive {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// Why it cannot be used, as a verb phrase.
    pub(super) fn open(file: TemporaryFile) -> Result<Self, String> {
        let broken = |e: &dyn std::fmt::Display| format!("is no zip that can be read: {e}");
        let mut reader = BufReader::new(File::open(file.path()).map_err(|e| broken(&e))?);
        let bytes = reader.seek(SeekFrom::End(0)).map_err(|e| broken(&e))?;
        // Before the table is read into memory.
        check_count(entries(&mut reader, bytes).map_err(|e| broken(&e))?)?;
        let zip = ZipArchive::new(reader).map_err(|e| broken(&e))?;
        check_count(zip.len() as u64)?;
        let left = bytes.saturating_mul(MAX_EXPANSION) + FREE_BYTES;
        Ok(Self { zip, left, is_exhausted: false, _file: file })
    }

    pub(super) fn len(&self) -> usize {
        self.zip.len()
    }

    /// Whether more came out than may.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Unpacks the entry `index` into the file `to`.
    pub(super) fn unpack(&mut self, index: usize, to: &Path) -> Entry {
        let limit = self.left.min(MAX_ENTRY_BYTES);
        let mut entry = match self.zip.by_index(index) {
            Ok(entry) => entry,
            Err(error) => {
                let name = format!("entry {}", index + 1);
                return Entry { name, unpacked: Err(format!("cannot be unpacked: {error}")) };
            }
        };
        let name = entry.name().map(std::borrow::Cow::into_owned);
        let name = name.unwrap_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned());
        if entry.is_dir() || is_of_the_system(&name) {
            return Entry { name, unpacked: Ok(None) };
        }
        if leads_out(&name) || entry.is_symlink() {
            return Entry { name, unpacked: Err("leads out of the zip".into()) };
        }
        let copied = copy(&mut entry, to, limit);
        drop(entry);
        let unpacked = match copied {
            Ok(bytes) if bytes > limit && limit < MAX_ENTRY_BYTES => {
                self.is_exhausted = true;
                Err("unpacks to too much".into())
            }
            Ok(bytes) if bytes > limit => {
                self.left -= limit;
                Err(format!("unpacks to more than {} MiB", MAX_ENTRY_BYTES >> 20))
            }
            Ok(bytes) => {
                self.left -= bytes;
                Ok(Some(bytes))
            }
            Err(error) => Err(format!("cannot be unpacked: {error}")),
        };
        Entry { name, unpacked }
    }
}

fn check_count(count: u64) -> Result<(), String> {
    if count > MAX_ENTRIES {
        return Err(format!("holds more than {MAX_ENTRIES} files; send them in several zips"));
    }
    Ok(())
}

/// At most `limit` bytes and one more, which tells that there are more.
fn copy(from: &mut impl Read, to: &Path, limit: u64) -> io::Result<u64> {
    io::copy(&mut from.take(limit + 1), &mut File::create(to)?)
}

/// Files that operating systems put into zips.
fn is_of_the_system(name: &str) -> bool {
    let own = super::own_name(name);
    name.starts_with("__MACOSX/") || own.starts_with('.') || own == "Thumbs.db" || own.is_empty()
}

fn leads_out(name: &str) -> bool {
    let mut parts = name.split(['/', '\\']);
    name.starts_with(['/', '\\']) || name.contains(':') || parts.any(|part| part == "..")
}

/// How many entries the end of a zip of `bytes` bytes tells of.
fn entries(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let last = |signature: &[u8]| tail.windows(4).rposition(|window| window == signature);
    let field = |at: Option<usize>, offset: usize, width: usize| {
        let bytes = tail.get(at? + offset..at? + offset + width)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let end = last(b"PK\x05\x06");
    let Some(count) = field(end, 10, 2) else {
        return Err(io::Error::other("its end is missing"));
    };
    // The record of large zips overrules the other.
    match (last(b"PK\x06\x07"), field(last(b"PK\x06\x06"), 32, 8)) {
        (None, _) if count < 0xffff => Ok(count),
        (Some(_), Some(count)) => Ok(count),
        _ => Err(io::Error::other("its end contradicts itself")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A zip of these names and contents in a file of its own.
    fn zip(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<Archive, String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap();
        (folder, Archive::open(TemporaryFile::at(path)))
    }

    /// What becomes of the only entry, which has this name and content.
    fn unpacked(name: &str, content: &[u8]) -> Result<Option<u64>, String> {
        let (folder, archive) = zip(&[(name, content)]);
        archive.unwrap().unpack(0, &folder.path().join("out")).unpacked
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let (folder, archive) = zip(&[("a.txt", b"one"), ("b/c.txt", b"three")]);
        let (mut archive, out) = (archive.unwrap(), folder.path().join("out"));
        let entry = archive.unpack(1, &out);
        assert_eq!((entry.name.as_str(), entry.unpacked), ("b/c.txt", Ok(Some(5))));
        assert_eq!(std::fs::read(&out).unwrap(), b"three");
    }

    #[test]
    fn names_that_lead_out_are_refused_and_those_of_systems_passed_over() {
        for name in ["../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "C:\\a.png"] {
            assert_eq!(unpacked(name, b"x"), Err("leads out of the zip".into()), "{name}");
        }
        for name in ["__MACOSX/a.png", "a/.DS_Store", "Thumbs.db", "folder/"] {
            assert_eq!(unpacked(name, b""), Ok(None), "{name}");
        }
    }

    #[test]
    fn a_bomb_stops_before_it_fills_the_disk() {
        let zeros = vec![0; 40 << 20];
        let (folder, archive) = zip(&[("a", &zeros), ("b", &zeros), ("c", b"x")]);
        let (mut archive, out) = (archive.unwrap(), folder.path().join("out"));
        assert_eq!(archive.unpack(0, &out).unpacked, Ok(Some(40 << 20)));
        assert_eq!(archive.unpack(1, &out).unpacked, Err("unpacks to too much".into()));
        assert!(archive.is_exhausted());
        assert!(std::fs::metadata(&out).unwrap().len() < 30 << 20);
    }

    #[test]
    fn half_a_zip_and_one_of_countless_entries_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Archive::open(TemporaryFile::at(path)).err().unwrap()
        };
        assert!(open("half", b"PK\x03\x04 and no more").contains("its end is missing"));
        let mut end = *b"PK\x05\x06\0\0\0\0\xff\xfe\xff\xfe\0\0\0\0\0\0\0\0\0\0";
        assert!(open("many", &end).contains("more than 20000 files"));
        end[10..12].copy_from_slice(&[0xff; 2]);
        assert!(open("large", &end).contains("contradicts itself"));
    }
}
