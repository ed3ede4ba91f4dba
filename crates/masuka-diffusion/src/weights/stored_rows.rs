//! Rows of a stored matrix as its packing wants them: some at a time, from any thread, each in the file's order or not.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use masuka_kernels::aligned::{Element, with_scratch};

use super::stored::{Number, StoredTensor, decode_here};
use crate::error::{Error, Result};

/// Some rows of a stored matrix.
pub(super) struct StoredRows<'a> {
    stored: &'a StoredTensor<'a>,
    /// Which, in the order in which they are wanted.
    pub rows: Vec<usize>,
    /// Numbers of a row.
    pub width: usize,
    failed: OnceLock<io::Error>,
}

impl<'a> StoredRows<'a> {
    pub fn new(stored: &'a StoredTensor<'a>, ranges: &[Range<usize>]) -> Self {
        let rows = ranges.iter().flat_map(Clone::clone).collect();
        let row_bytes = stored.bytes.len() / stored.rows().max(1);
        let width = row_bytes / stored.encoding.bytes_of(1);
        Self { stored, rows, width, failed: OnceLock::new() }
    }

    /// Writes row `first` and those after it, as many as `numbers` holds.
    pub fn read<T: Number + Element>(&self, first: usize, numbers: &mut [T]) {
        let count = numbers.len() / self.width.max(1);
        let mut rest = numbers;
        for run in self.rows[first..first + count].chunk_by(|row, next| row + 1 == *next) {
            let (here, after) = rest.split_at_mut(run.len() * self.width);
            let span = self.stored.span(&(run[0]..run[0] + run.len()));
            if let Err(error) = self.copy(span, here) {
                // One is enough to say.
                let _first = self.failed.set(error);
            }
            rest = after;
        }
    }

    fn copy<T: Number + Element>(&self, span: Range<usize>, numbers: &mut [T]) -> io::Result<()> {
        let StoredTensor { file, encoding, .. } = self.stored;
        if *encoding == T::ENCODING && cfg!(target_endian = "little") {
            // SAFETY: any bytes make numbers, which are borrowed alone.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers))
            };
            return file.copy(span.start, bytes);
        }
        with_scratch(span.len(), |bytes| {
            file.copy(span.start, bytes)?;
            decode_here(*encoding, bytes, numbers);
            Ok(())
        })
    }

    /// Says whether all could be read.
    ///
    /// # Errors
    /// When some could not.
    pub fn finish(self) -> Result<()> {
        match self.failed.into_inner() {
            Some(error) => Err(Error::io(self.stored.file.path(), error)),
            None => Ok(()),
        }
    }
}
