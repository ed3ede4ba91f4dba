//! A tensor that several operations write side by side, so that nothing is copied to join what they make.

use candle_core::{DType, Device, Tensor, WithDType};
use half::bf16;
use masuka_kernels::aligned::unwritten;
use masuka_kernels::{Number, RowsMut};

use super::slices::with_slice;
use crate::error::{Error, Result};

/// A tensor (…, n) on the processor, written from its first column to its last by one operation after another.
pub struct Columns {
    /// All axes but the last.
    shape: Vec<usize>,
    /// Of all operations together.
    width: usize,
    filled: usize,
    numbers: Numbers,
}

/// The numbers, of either kind.
pub(super) enum Numbers {
    /// In f32.
    F32(Vec<f32>),
    /// In bf16.
    Bf16(Vec<bf16>),
}

/// The numbers of a kind.
pub(super) trait Held: Number + WithDType {
    fn of(numbers: &mut Numbers) -> Option<&mut Vec<Self>>;
}

impl Held for f32 {
    fn of(numbers: &mut Numbers) -> Option<&mut Vec<Self>> {
        match numbers {
            Numbers::F32(numbers) => Some(numbers),
            Numbers::Bf16(_) => None,
        }
    }
}

impl Held for bf16 {
    fn of(numbers: &mut Numbers) -> Option<&mut Vec<Self>> {
        match numbers {
            Numbers::Bf16(numbers) => Some(numbers),
            Numbers::F32(_) => None,
        }
    }
}

impl Columns {
    /// Room for (`shape`…, `width`) in f32 or bf16; f32 for every other dtype.
    pub fn new(shape: &[usize], width: usize, dtype: DType) -> Self {
        let len = shape.iter().product::<usize>() * width;
        let numbers = match dtype {
            DType::BF16 => Numbers::Bf16(unwritten(len)),
            _ => Numbers::F32(unwritten(len)),
        };
        Self { shape: shape.to_vec(), width, filled: 0, numbers }
    }

    /// Of the numbers.
    pub fn dtype(&self) -> DType {
        match self.numbers {
            Numbers::F32(_) => DType::F32,
            Numbers::Bf16(_) => DType::BF16,
        }
    }

    /// Columns of all operations together.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The numbers from the first of the next `columns` columns on; rows lie [`width`](Self::width) apart.
    pub(super) fn next<T: Held>(&mut self, columns: usize) -> Result<&mut [T]> {
        let (from, width) = (self.filled, self.width);
        self.filled += columns;
        let numbers = T::of(&mut self.numbers).filter(|_| from + columns <= width);
        let numbers = numbers.ok_or_else(|| {
            let message = format!("{columns} columns of {:?} after {from} of {width}", T::DTYPE);
            Error::Tensor(candle_core::Error::Msg(message))
        })?;
        // Without rows there is no number at all.
        let from = from.min(numbers.len());
        Ok(&mut numbers[from..])
    }

    /// The next `columns` columns as rows.
    pub(super) fn next_rows<T: Held>(&mut self, columns: usize) -> Result<RowsMut<'_, T>> {
        let (rows, width) = (self.shape.iter().product(), self.width);
        Ok(RowsMut::strided(self.next(columns)?, rows, columns, width))
    }

    /// Copies `part` (…, columns) to the next columns.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn put(&mut self, part: &Tensor) -> Result<()> {
        let part = part.to_dtype(self.dtype())?;
        match self.dtype() {
            DType::BF16 => self.copy::<bf16>(&part),
            _ => self.copy::<f32>(&part),
        }
    }

    fn copy<T: Held>(&mut self, part: &Tensor) -> Result<()> {
        let columns = part.dims().last().copied().unwrap_or(0);
        let mut rows = self.next_rows::<T>(columns)?;
        with_slice::<T, _>(part, |part| {
            let parts = part.chunks_exact(columns.max(1));
            rows.rows_mut().zip(parts).for_each(|(row, part)| row.copy_from_slice(part));
            Ok(())
        })
    }

    /// The tensor.
    ///
    /// # Errors
    /// When columns are left over.
    pub fn finish(self) -> Result<Tensor> {
        if self.filled != self.width {
            let message = format!("{} of {} columns are written", self.filled, self.width);
            return Err(candle_core::Error::Msg(message).into());
        }
        let mut shape = self.shape;
        shape.push(self.width);
        Ok(match self.numbers {
            Numbers::F32(numbers) => Tensor::from_vec(numbers, shape, &Device::Cpu)?,
            Numbers::Bf16(numbers) => Tensor::from_vec(numbers, shape, &Device::Cpu)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_side_by_side_and_must_fill_the_room() {
        let part = |n: usize| Tensor::arange(0.0_f32, 6.0 * n as f32, &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::BF16] {
            let parts =
                [2, 3].map(|n| part(n).reshape((2, 3, n)).unwrap().to_dtype(dtype).unwrap());
            let mut columns = Columns::new(&[2, 3], 5, dtype);
            parts.iter().for_each(|part| columns.put(part).unwrap());
            let joined = columns.finish().unwrap();
            let expected = Tensor::cat(&parts, 2).unwrap();
            let numbers = |x: &Tensor| x.to_dtype(DType::F32).unwrap().to_vec3::<f32>().unwrap();
            assert_eq!((joined.dtype(), numbers(&joined)), (dtype, numbers(&expected)));

            let mut columns = Columns::new(&[2, 3], 4, dtype);
            columns.put(&parts[1]).unwrap();
            let error = columns.put(&parts[0]).unwrap_err().to_string();
            assert!(error.contains("2 columns of") && error.contains("after 3 of 4"), "{error}");
            let mut columns = Columns::new(&[2, 3], 4, dtype);
            columns.put(&parts[1]).unwrap();
            let error = columns.finish().unwrap_err().to_string();
            assert!(error.contains("3 of 4 columns"), "{error}");
        }
    }
}
