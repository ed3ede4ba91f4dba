//! One GGUF file: its header, checked, and its tensors, memory-mapped.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, gguf_file};

use super::mapped_file::MappedFile;
use super::stored::{Encoding, StoredTensor};
use crate::error::{Error, Result};

/// The first bytes of a GGUF file.
pub const MAGIC: &[u8] = b"GGUF";
/// Where the header of version 2 and above counts its tensors.
const COUNT: std::ops::Range<usize> = 8..16;
/// The key of the alignment of tensors, and within how much of a file it is looked for.
const ALIGNMENT_KEY: &[u8] = b"general.alignment";
const ALIGNMENT_WITHIN: usize = 16 << 20;
/// Blocks begin with half floats.
const BLOCK_ALIGNMENT: usize = 2;

/// A GGUF file whose header has been checked.
pub struct GgufFile {
    file: MappedFile,
    tensors: BTreeMap<String, TensorInfo>,
    data_start: u64,
}

impl GgufFile {
    /// Checks the header of a file that is mapped: every tensor must lie within the file.
    ///
    /// # Errors
    /// When the header is damaged or does not fit the file.
    pub fn read(file: MappedFile) -> Result<Self> {
        check_alignment(&file)?;
        let content = Content::read(&mut file.reader()).map_err(|e| {
            let message = format!("is no valid GGUF file ({e}); copy it again");
            Error::model(file.path().display(), message)
        })?;
        let version_1 = matches!(content.magic, gguf_file::VersionedMagic::GgufV1);
        let counted = file.bytes().get(COUNT).and_then(|bytes| bytes.try_into().ok());
        let counted = counted.map(u64::from_le_bytes).filter(|_| !version_1);
        let found = content.tensor_infos.len() as u64;
        if let Some(count) = counted.filter(|count| *count != found) {
            let message = format!(
                "lists {count} tensors under {found} names; a name that comes twice cannot be told apart"
            );
            return Err(Error::model(file.path().display(), message));
        }
        let tensors = content.tensor_infos.into_iter().collect();
        let gguf = Self { file, tensors, data_start: content.tensor_data_offset };
        for name in gguf.tensors.keys() {
            gguf.stored(name)?;
        }
        Ok(gguf)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of `name`, if it is there, slowest axis first.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.dims().to_vec())
    }

    /// The tensor `name` as it lies in the file, if it is there.
    ///
    /// # Errors
    /// When it does not lie within the file or its blocks do not fill its rows.
    pub fn stored(&self, name: &str) -> Result<Option<StoredTensor<'_>>> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let shape = info.shape.dims().to_vec();
        let refuse = |message: String| Error::model(self.path().display(), message);
        let encoding = match info.ggml_dtype {
            GgmlDType::F32 => Encoding::F32,
            GgmlDType::F16 => Encoding::F16,
            GgmlDType::BF16 => Encoding::Bf16,
            kind => Encoding::Blocks(kind),
        };
        let block = info.ggml_dtype.block_size();
        if shape.last().is_some_and(|columns| !columns.is_multiple_of(block)) {
            return Err(refuse(format!(
                "tensor `{name}` of shape {shape:?} cannot be in blocks of {block}; copy it again"
            )));
        }
        let elements = shape.iter().try_fold(1usize, |all, side| all.checked_mul(*side));
        let bytes = elements.filter(|n| *n < usize::MAX / 8).map(|n| encoding.bytes_of(n));
        let start =
            self.data_start.checked_add(info.offset).and_then(|at| usize::try_from(at).ok());
        let span = start.zip(bytes).and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let length = self.file.bytes().len();
        match span {
            Some(bytes) if bytes.end <= length && bytes.start.is_multiple_of(BLOCK_ALIGNMENT) => {
                Ok(Some(StoredTensor { file: &self.file, bytes, encoding, shape }))
            }
            _ => Err(refuse(format!(
                "is cut off: tensor `{name}` would end beyond its {length} bytes; copy it again"
            ))),
        }
    }
}

/// Refuses an alignment that is no power of two, by which the reader of headers would divide.
fn check_alignment(file: &MappedFile) -> Result<()> {
    let bytes = &file.bytes()[..file.bytes().len().min(ALIGNMENT_WITHIN)];
    let key = bytes.windows(ALIGNMENT_KEY.len()).position(|window| window == ALIGNMENT_KEY);
    let Some(value) = key.and_then(|at| bytes.get(at + ALIGNMENT_KEY.len()..)) else {
        return Ok(());
    };
    let kind =
        value.get(..4).and_then(|kind| kind.first_chunk()).map(|kind| u32::from_le_bytes(*kind));
    // Of 8, 16 and 32 bits, each unsigned or signed.
    let bytes = kind.filter(|kind| *kind < 6).and_then(|kind| value.get(4..4 + (1 << (kind / 2))));
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    match bytes.map(number) {
        Some(alignment) if !alignment.is_power_of_two() => {
            let message = format!(
                "aligns its tensors to {alignment} bytes, which is no power of two; copy it again"
            );
            Err(Error::model(file.path().display(), message))
        }
        _ => Ok(()),
    }
}
