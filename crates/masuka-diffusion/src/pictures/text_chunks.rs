//! The text chunks of a PNG file (PNG specification, third edition, 11.3.3), read without trusting the file and
//! without decoding its pixels: sizes are bounded, checksums are checked, everything else is skipped.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::ZlibDecoder;

/// The longest text that is read, stored or unpacked.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const MAX_CHUNK_BYTES: u32 = 0x7fff_ffff;

/// What a walk over the chunks found.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Keyword and text, of the wanted keywords only, in the file's order.
    pub texts: Vec<(String, String)>,
}

/// Walks over the chunks of `reader` and returns the texts whose keyword is in `wanted`.
///
/// # Errors
/// A sentence about what is wrong with the file, to stand behind its name.
pub fn read(reader: &mut (impl Read + Seek), wanted: &[&str]) -> Result<Found, String> {
    let mut signature = [0; 8];
    if reader.read_exact(&mut signature).is_err() || signature != SIGNATURE {
        return Err("is not a PNG file".into());
    }
    let mut found = Found::default();
    let header = Chunk::next(reader)?.filter(|chunk| chunk.kind == *b"IHDR" && chunk.length == 13);
    let header = header.ok_or("is a damaged PNG file: its header is missing")?.read(reader)?;
    found.width = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    found.height = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    while let Some(chunk) = Chunk::next(reader)? {
        match &chunk.kind {
            b"IEND" => return Ok(found),
            b"tEXt" | b"zTXt" | b"iTXt" => found.texts.extend(chunk.text(reader, wanted)?),
            _ => chunk.skip(reader)?,
        }
    }
    Err("is a damaged PNG file: it ends too early; copy it again".into())
}

struct Chunk {
    kind: [u8; 4],
    length: u32,
}

impl Chunk {
    /// The head of the next chunk; none at the end of the file.
    fn next(reader: &mut impl Read) -> Result<Option<Self>, String> {
        let mut head = [0; 8];
        if reader.read_exact(&mut head).is_err() {
            return Ok(None);
        }
        let [l0, l1, l2, l3, kind @ ..] = head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > MAX_CHUNK_BYTES {
            return Err("is a damaged PNG file: a chunk is longer than PNG allows".into());
        }
        Ok(Some(Self { kind, length }))
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }

    fn skip(&self, reader: &mut impl Seek) -> Result<(), String> {
        let beyond = i64::from(self.length) + 4; // and the checksum
        reader.seek(SeekFrom::Current(beyond)).map_err(|e| e.to_string())?;
        Ok(())
    }

    /// The chunk's data, checked against its checksum.
    fn read(&self, reader: &mut impl Read) -> Result<Vec<u8>, String> {
        if self.length as usize > 2 * MAX_TEXT_BYTES {
            let mib = self.length >> 20;
            return Err(format!("holds a {} chunk of {mib} MiB, which is too much", self.name()));
        }
        let damaged = || format!("is a damaged PNG file: its {} chunk is broken", self.name());
        let mut data = Vec::new();
        let mut limited = reader.take(u64::from(self.length));
        limited.read_to_end(&mut data).map_err(|e| e.to_string())?;
        let mut checksum = [0; 4];
        reader.read_exact(&mut checksum).map_err(|_| damaged())?;
        let mut crc = Crc::new();
        crc.update(&self.kind);
        crc.update(&data);
        if crc.sum() != u32::from_be_bytes(checksum) {
            return Err(damaged());
        }
        Ok(data)
    }

    /// Keyword and text of a text chunk, if its keyword is wanted; others are not unpacked.
    fn text(
        &self,
        reader: &mut (impl Read + Seek),
        wanted: &[&str],
    ) -> Result<Option<(String, String)>, String> {
        if self.length as usize > 2 * MAX_TEXT_BYTES {
            self.skip(reader)?;
            return Ok(None);
        }
        let data = self.read(reader)?;
        let Some((keyword, body)) = split_zero(&data) else { return Ok(None) };
        let keyword = latin1(keyword);
        if !wanted.contains(&keyword.as_str()) {
            return Ok(None);
        }
        let text = match &self.kind {
            b"tEXt" => Some(latin1(body)),
            b"zTXt" => body.get(1..).map(unpack).transpose()?.map(|text| latin1(&text)), // byte 0: method
            _ => international(body)?,
        };
        let damaged = || format!("is a damaged PNG file: its text `{keyword}` cannot be read");
        let text = text.ok_or_else(damaged)?;
        Ok(Some((keyword, text)))
    }
}

/// The text of an iTXt chunk behind its keyword: flag, method, language, translated keyword, UTF-8.
fn international(body: &[u8]) -> Result<Option<String>, String> {
    let Some(([packed, _method], rest)) = body.split_first_chunk::<2>() else { return Ok(None) };
    let text = split_zero(rest).and_then(|(_language, rest)| split_zero(rest));
    let Some((_translated, text)) = text else { return Ok(None) };
    let text = if *packed == 0 { text.to_vec() } else { unpack(text)? };
    Ok(String::from_utf8(text).ok())
}

fn split_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Unpacks at most [`MAX_TEXT_BYTES`], so that a small file cannot fill the memory.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut decoder = ZlibDecoder::new(packed).take(MAX_TEXT_BYTES as u64 + 1);
    let result: io::Result<usize> = decoder.read_to_end(&mut text);
    if result.is_err() {
        return Err("is a damaged PNG file: a packed text cannot be unpacked".into());
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("holds a text of more than {} MiB", MAX_TEXT_BYTES >> 20));
    }
    Ok(text)
}
