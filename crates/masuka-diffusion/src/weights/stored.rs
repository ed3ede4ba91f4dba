//! A tensor as its file stores it, and its way into memory: some of its rows, decoded in parallel a few MiB at a time, so
//! that a file's bytes and their copy never stand beside each other.

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use masuka_kernels::linear::PackedLinear;
use masuka_kernels::linear_int8::PackedInt8;
use rayon::prelude::*;

use super::mapped_file::MappedFile;
use super::stored_rows::StoredRows;
use crate::error::{Error, Result};
use crate::ops::{PackedWeight, Packing};

/// Bytes of a file that are decoded before their pages are given back.
const CHUNK_BYTES: usize = 8 << 20;
/// Numbers that one task decodes.
const TASK: usize = 64 << 10;

/// How a file spells numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoding {
    /// IEEE 754, 4 bytes.
    F32,
    /// IEEE 754, 2 bytes.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 1 byte, without infinities (arXiv:2209.05433), times `scale`.
    F8E4m3 {
        /// What every number is multiplied by.
        scale: f32,
    },
    /// 1 byte, the upper half of an f16, times `scale`.
    F8E5m2 {
        /// What every number is multiplied by.
        scale: f32,
    },
    /// GGML's blocks of numbers along a row.
    Blocks(GgmlDType),
    /// What only small tensors use: integers and f64.
    Other(DType),
}

impl Encoding {
    /// Bytes of `elements` numbers in a file.
    pub fn bytes_of(self, elements: usize) -> usize {
        match self {
            Self::F32 => 4 * elements,
            Self::F16 | Self::Bf16 => 2 * elements,
            Self::F8E4m3 { .. } | Self::F8E5m2 { .. } => elements,
            Self::Blocks(kind) => elements / kind.block_size() * kind.type_size(),
            Self::Other(dtype) => elements * dtype.size_in_bytes(),
        }
    }
}

/// A tensor that lies in a file.
pub struct StoredTensor<'a> {
    /// The file.
    pub file: &'a MappedFile,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
    /// What they mean.
    pub encoding: Encoding,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl StoredTensor<'_> {
    /// Reads the rows (of the first axis) of `ranges`, one range after the other, as `dtype` in `shape`.
    ///
    /// # Errors
    /// When the device or the tensor library fails.
    pub fn read(
        &self,
        ranges: &[Range<usize>],
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = match (self.encoding, dtype) {
            (Encoding::Blocks(_), _) => self
                .quantized(ranges, &self.rows_shape(ranges), &Device::Cpu)?
                .dequantize(&Device::Cpu)?
                .reshape(shape)?
                .to_dtype(dtype)?,
            (Encoding::Other(stored), _) => self.convert(ranges, stored, shape, dtype)?,
            (_, DType::BF16) => self.decode::<bf16>(ranges, shape)?,
            (_, DType::F16) => self.decode::<f16>(ranges, shape)?,
            (_, _) => self.decode::<f32>(ranges, shape)?.to_dtype(dtype)?,
        };
        Ok(tensor.to_device(device)?)
    }

    /// Reads those rows as blocks. Only for [`Encoding::Blocks`].
    ///
    /// # Errors
    /// When the encoding is another, or one that the tensor library cannot compute with.
    pub fn quantized(
        &self,
        ranges: &[Range<usize>],
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor> {
        let Encoding::Blocks(kind) = self.encoding else {
            let message = format!("{:?} has no blocks", self.encoding);
            return Err(Error::model(self.file.path().display(), message));
        };
        let spans: Vec<_> = ranges.iter().map(|rows| self.span(rows)).collect();
        let joined;
        let bytes = match spans.as_slice() {
            [span] => &self.file.bytes()[span.clone()],
            spans => {
                let parts = spans.iter().map(|span| &self.file.bytes()[span.clone()]);
                joined = parts.collect::<Vec<_>>().concat();
                joined.as_slice()
            }
        };
        let tensor = ggml_file::qtensor_from_ggml(kind, bytes, shape.to_vec(), device)?;
        spans.into_iter().for_each(|span| self.file.give_back(span));
        Ok(tensor)
    }

    /// Packs those rows of a matrix for the processor's products, some rows at a time from the file; none if they are of a
    /// kind that has to be read as a tensor.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pack(&self, ranges: &[Range<usize>], packing: Packing) -> Result<Option<PackedWeight>> {
        if matches!(self.encoding, Encoding::Blocks(_) | Encoding::Other(_)) {
            return Ok(None);
        }
        let rows = StoredRows::new(self, ranges);
        let (out_features, in_features) = (rows.rows.len(), rows.width);
        let packed = match packing {
            Packing::F32 => PackedWeight::F32(PackedLinear::from_rows(
                out_features,
                in_features,
                |row, numbers| rows.read(row, numbers),
            )),
            Packing::Bf16 => PackedWeight::Bf16(PackedLinear::from_rows(
                out_features,
                in_features,
                |row, numbers| rows.read(row, numbers),
            )),
            Packing::Int8 => PackedWeight::Int8(PackedInt8::from_rows(
                out_features,
                in_features,
                |row, numbers| rows.read(row, numbers),
            )),
        };
        rows.finish()?;
        Ok(Some(packed))
    }

    pub(super) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    fn rows_shape(&self, ranges: &[Range<usize>]) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = ranges.iter().map(ExactSizeIterator::len).sum();
        }
        shape
    }

    /// The bytes in the file of some rows.
    pub(super) fn span(&self, rows: &Range<usize>) -> Range<usize> {
        let row_bytes = self.bytes.len() / self.rows().max(1);
        self.bytes.start + rows.start * row_bytes..self.bytes.start + rows.end * row_bytes
    }

    fn decode<T: Number>(&self, ranges: &[Range<usize>], shape: &[usize]) -> Result<Tensor> {
        let elements = shape.iter().product();
        let mut numbers: Vec<T> = Vec::with_capacity(elements);
        let mut rest = &mut numbers.spare_capacity_mut()[..elements];
        for rows in ranges {
            let mut span = self.span(rows);
            while !span.is_empty() {
                let chunk = span.start..span.end.min(span.start + CHUNK_BYTES);
                let (out, after) = rest.split_at_mut(chunk.len() / self.encoding.bytes_of(1));
                decode(self.encoding, &self.file.bytes()[chunk.clone()], out);
                self.file.give_back(chunk.clone());
                (rest, span.start) = (after, chunk.end);
            }
        }
        assert!(rest.is_empty(), "{shape:?} is not what the rows {ranges:?} hold");
        // SAFETY: the capacity is at least `elements`, and `decode` has written every one of them, since nothing of
        // the spare capacity's first `elements` is left.
        unsafe { numbers.set_len(elements) };
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }

    fn convert(
        &self,
        ranges: &[Range<usize>],
        stored: DType,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Tensor> {
        let parts = ranges.iter().map(|rows| &self.file.bytes()[self.span(rows)]);
        let bytes = parts.collect::<Vec<_>>().concat();
        Ok(Tensor::from_raw_buffer(&bytes, stored, shape, &Device::Cpu)?.to_dtype(dtype)?)
    }
}

/// A dtype that weights have in memory.
pub(super) trait Number: WithDType {
    /// How a file of little-endian numbers spells it.
    const ENCODING: Encoding;

    fn rounded(value: f32) -> Self;
}

impl Number for f32 {
    const ENCODING: Encoding = Encoding::F32;

    fn rounded(value: f32) -> Self {
        value
    }
}

impl Number for bf16 {
    const ENCODING: Encoding = Encoding::Bf16;

    fn rounded(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Number for f16 {
    const ENCODING: Encoding = Encoding::F16;

    fn rounded(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// Writes every element of `out`, on all threads.
fn decode<T: Number>(encoding: Encoding, bytes: &[u8], out: &mut [MaybeUninit<T>]) {
    let bytes = bytes.par_chunks(encoding.bytes_of(TASK));
    out.par_chunks_mut(TASK).zip(bytes).for_each(|(out, bytes)| decode_part(encoding, bytes, out));
}

/// Writes every element of `out`, on this thread.
pub(super) fn decode_here<T: Number>(encoding: Encoding, bytes: &[u8], out: &mut [T]) {
    // SAFETY: a number may be written where one may be missing, and `decode_part` takes none away.
    let places: &mut [MaybeUninit<T>] =
        unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len()) };
    decode_part(encoding, bytes, places);
}

fn decode_part<T: Number>(encoding: Encoding, bytes: &[u8], out: &mut [MaybeUninit<T>]) {
    if encoding == T::ENCODING && cfg!(target_endian = "little") {
        assert_eq!(bytes.len(), size_of_val(out), "a number for each place");
        // SAFETY: both are as long, and the file spells numbers as memory does.
        unsafe {
            out.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        };
        return;
    }
    match encoding {
        Encoding::F32 => each(bytes, out, |b: [u8; 4]| T::rounded(f32::from_le_bytes(b))),
        Encoding::F16 => each(bytes, out, |b: [u8; 2]| T::rounded(f16::from_le_bytes(b).to_f32())),
        Encoding::Bf16 => {
            each(bytes, out, |b: [u8; 2]| T::rounded(bf16::from_le_bytes(b).to_f32()));
        }
        Encoding::F8E4m3 { scale } => {
            let table: Vec<T> = (0..=255).map(|byte| T::rounded(e4m3(byte) * scale)).collect();
            each(bytes, out, |[byte]| table[usize::from(byte)]);
        }
        Encoding::F8E5m2 { scale } => {
            let value = |byte: u8| f16::from_bits(u16::from(byte) << 8).to_f32();
            let table: Vec<T> = (0..=255).map(|byte| T::rounded(value(byte) * scale)).collect();
            each(bytes, out, |[byte]| table[usize::from(byte)]);
        }
        Encoding::Blocks(_) | Encoding::Other(_) => unreachable!("`read` has other ways for these"),
    }
}

/// `out[i]` from the i-th `SIZE` bytes; there must be as many.
fn each<const SIZE: usize, T: Number>(
    bytes: &[u8],
    out: &mut [MaybeUninit<T>],
    value: impl Fn([u8; SIZE]) -> T,
) {
    let (numbers, _) = bytes.as_chunks::<SIZE>();
    assert_eq!(numbers.len(), out.len(), "a number for each place");
    for (out, number) in out.iter_mut().zip(numbers) {
        out.write(value(*number));
    }
}

/// The value of an e4m3 byte: sign, four bits of exponent with bias 7, three of mantissa, no infinities.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 0xf), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_has_the_values_of_the_paper() {
        let known = [(0x00, 0.0), (0x01, 2f32.powi(-9)), (0x08, 2f32.powi(-6)), (0x38, 1.0)];
        for (byte, value) in
            known.into_iter().chain([(0x7e, 448.0), (0xb8, -1.0), (0x07, 0.013671875)])
        {
            assert_eq!(e4m3(byte), value, "{byte:#x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }
}
