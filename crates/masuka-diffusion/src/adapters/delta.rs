//! What an adapter adds to one matrix (out, in): kept in factors, multiplied out only where a norm needs it.

use std::ops::Range;

use candle_core::{DType, Tensor};

use crate::error::Result;

/// Rows of a LoHa update that are multiplied out at a time: 256 × 12288 in f32 are 12 MiB.
const TILE_ROWS: usize = 256;

/// A matrix (rows, columns), whole or as a product.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// As it is.
    Whole(Tensor),
    /// up (rows, rank) · down (rank, columns).
    Product {
        /// B.
        up: Tensor,
        /// A.
        down: Tensor,
    },
}

/// What is added to a weight (out, in), before any scale.
#[derive(Debug, Clone)]
pub enum Delta {
    /// LoRA's B · A, or the difference itself.
    Plain(Matrix),
    /// LoHa (arXiv:2108.06098): the elements of two products, multiplied.
    Hadamard(Matrix, Matrix),
    /// LoKr (arXiv:2309.14859): W₁ (a, b) ⊗ W₂ (c, d), and which of its a · c rows are meant.
    Kronecker(Matrix, Matrix, Vec<Range<usize>>),
}

impl Matrix {
    /// How many rows it has.
    ///
    /// # Errors
    /// When it is no matrix.
    pub fn rows(&self) -> Result<usize> {
        match self {
            Self::Whole(whole) => Ok(whole.dims2()?.0),
            Self::Product { up, .. } => Ok(up.dims2()?.0),
        }
    }

    /// How many columns it has.
    ///
    /// # Errors
    /// When it is no matrix.
    pub fn columns(&self) -> Result<usize> {
        match self {
            Self::Whole(whole) => Ok(whole.dims2()?.1),
            Self::Product { down, .. } => Ok(down.dims2()?.1),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Whole(whole) => whole.dtype(),
            Self::Product { up, .. } => up.dtype(),
        }
    }

    /// The rank of a product.
    pub fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product { down, .. } => down.dims().first().copied(),
        }
    }

    /// Those rows, one range after the other.
    fn select(&self, ranges: &[Range<usize>]) -> Result<Self> {
        Ok(match self {
            Self::Whole(whole) => Self::Whole(select_rows(whole, ranges)?),
            Self::Product { up, down } => {
                Self::Product { up: select_rows(up, ranges)?, down: down.clone() }
            }
        })
    }

    /// Multiplied out, in f32.
    fn dense(&self) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => Ok(whole.to_dtype(DType::F32)?),
            Self::Product { up, down } => {
                Ok(up.to_dtype(DType::F32)?.matmul(&down.to_dtype(DType::F32)?)?)
            }
        }
    }

    /// x (n, columns) as (n, rows).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => Ok(x.matmul(&whole.t()?)?),
            Self::Product { up, down } => Ok(x.matmul(&down.t()?)?.matmul(&up.t()?)?),
        }
    }

    fn map(&self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Whole(whole) => Self::Whole(f(whole)?),
            Self::Product { up, down } => Self::Product { up: f(up)?, down: f(down)? },
        })
    }
}

impl Delta {
    /// (out, in).
    ///
    /// # Errors
    /// When a factor is no matrix.
    pub fn shape(&self) -> Result<(usize, usize)> {
        match self {
            Self::Plain(matrix) | Self::Hadamard(matrix, _) => {
                Ok((matrix.rows()?, matrix.columns()?))
            }
            Self::Kronecker(first, second, rows) => {
                let out = rows.iter().map(ExactSizeIterator::len).sum();
                Ok((out, first.columns()? * second.columns()?))
            }
        }
    }

    /// The factors of a plain product: up (out, rank) and down (rank, in).
    pub fn low_rank(&self) -> Option<(&Tensor, &Tensor)> {
        match self {
            Self::Plain(Matrix::Product { up, down }) => Some((up, down)),
            _ => None,
        }
    }

    /// Those output rows, one range after the other.
    ///
    /// # Errors
    /// When they are beyond the matrix.
    pub fn select(&self, ranges: &[Range<usize>]) -> Result<Self> {
        Ok(match self {
            Self::Plain(matrix) => Self::Plain(matrix.select(ranges)?),
            Self::Hadamard(a, b) => Self::Hadamard(a.select(ranges)?, b.select(ranges)?),
            Self::Kronecker(a, b, rows) => {
                Self::Kronecker(a.clone(), b.clone(), select_ranges(rows, ranges))
            }
        })
    }

    /// Rows `range`, multiplied out in f32.
    ///
    /// # Errors
    /// When the factors' shapes disagree.
    pub fn dense_rows(&self, range: Range<usize>) -> Result<Tensor> {
        let ranges = [range];
        match self {
            Self::Plain(matrix) => matrix.select(&ranges)?.dense(),
            Self::Hadamard(a, b) => {
                Ok((a.select(&ranges)?.dense()? * b.select(&ranges)?.dense()?)?)
            }
            Self::Kronecker(a, b, rows) => {
                let rows = select_ranges(rows, &ranges).into_iter().flatten();
                let height = b.rows()?;
                let (i, j): (Vec<_>, Vec<_>) =
                    rows.map(|row| ((row / height) as u32, (row % height) as u32)).unzip();
                let (a, b) = (a.dense()?, b.dense()?);
                let a = a.index_select(&Tensor::new(i, a.device())?, 0)?.unsqueeze(2)?; // (n, b, 1)
                let b = b.index_select(&Tensor::new(j, b.device())?, 0)?.unsqueeze(1)?; // (n, 1, d)
                Ok(a.broadcast_mul(&b)?.flatten_from(1)?) // (n, b · d)
            }
        }
    }

    /// All of it times `scale`, in the dtype of its factors.
    ///
    /// # Errors
    /// When the factors' shapes disagree.
    pub fn dense(&self, scale: f64) -> Result<Tensor> {
        let dtype = match self {
            Self::Plain(matrix) | Self::Hadamard(matrix, _) | Self::Kronecker(matrix, _, _) => {
                matrix.dtype()
            }
        };
        Ok((self.dense_rows(0..self.shape()?.0)? * scale)?.to_dtype(dtype)?)
    }

    /// x (n, in) as (n, out).
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(matrix) => matrix.forward(x),
            Self::Hadamard(..) => self.forward_in_tiles(x),
            Self::Kronecker(first, second, rows) => kronecker(first, second, rows, x),
        }
    }

    /// The same with every factor changed by `f`.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map(&self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Plain(matrix) => Self::Plain(matrix.map(f)?),
            Self::Hadamard(a, b) => Self::Hadamard(a.map(f)?, b.map(f)?),
            Self::Kronecker(a, b, rows) => Self::Kronecker(a.map(f)?, b.map(f)?, rows.clone()),
        })
    }

    fn forward_in_tiles(&self, x: &Tensor) -> Result<Tensor> {
        let (out, _) = self.shape()?;
        let tile = |start| {
            let rows = self.dense_rows(start..(start + TILE_ROWS).min(out))?;
            Ok(x.matmul(&rows.to_dtype(x.dtype())?.t()?)?) // (n, tile)
        };
        let tiles = (0..out).step_by(TILE_ROWS).map(tile).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&tiles, 1)?)
    }
}

/// x (n, b·d) times rows `rows` of first (a, b) ⊗ second (c, d): second on the inner axis, then first on the outer.
fn kronecker(first: &Matrix, second: &Matrix, rows: &[Range<usize>], x: &Tensor) -> Result<Tensor> {
    let (n, (b, d)) = (x.dim(0)?, (first.columns()?, second.columns()?));
    let c = second.rows()?;
    let inner = second.forward(&x.reshape((n * b, d))?)?; // (n · b, c)
    let inner = inner.reshape((n, b, c))?.transpose(1, 2)?.reshape((n * c, b))?; // (n · c, b)
    let part = |range: &Range<usize>| {
        let (from, to) = (range.start / c, range.end.div_ceil(c));
        let outer = first.select(&[from..to])?.forward(&inner)?; // (n · c, blocks)
        let outer = outer.reshape((n, c, to - from))?.transpose(1, 2)?; // (n, blocks, c)
        Ok(outer.flatten_from(1)?.narrow(1, range.start - from * c, range.len())?)
    };
    Ok(Tensor::cat(&rows.iter().map(part).collect::<Result<Vec<_>>>()?, 1)?)
}

/// Rows of `tensor`, one range after the other.
pub(super) fn select_rows(tensor: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
    let parts = ranges.iter().map(|range| tensor.narrow(0, range.start, range.len()));
    let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
    match parts.as_slice() {
        [all] if all.dims() == tensor.dims() => Ok(tensor.clone()),
        parts => Ok(Tensor::cat(parts, 0)?.contiguous()?),
    }
}

/// What `picked` picks of the numbers that `ranges` count up.
fn select_ranges(ranges: &[Range<usize>], picked: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut selected = Vec::new();
    for pick in picked {
        let mut before = 0;
        for range in ranges {
            let from = pick.start.clamp(before, before + range.len()) - before;
            let to = pick.end.clamp(before, before + range.len()) - before;
            if from < to {
                selected.push(range.start + from..range.start + to);
            }
            before += range.len();
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(rows: usize, columns: usize) -> Tensor {
        Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu).unwrap()
    }

    fn product(rows: usize, columns: usize) -> Matrix {
        Matrix::Product { up: random(rows, 3), down: random(3, columns) }
    }

    fn assert_near(a: &Tensor, b: &Tensor) {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-3);
    }

    /// Checks rows and products of `delta` against its `dense` matrix.
    fn check(delta: &Delta, dense: &Tensor) {
        let (out, columns) = dense.dims2().unwrap();
        assert_eq!(delta.shape().unwrap(), (out, columns));
        let x = random(5, columns);
        for ranges in
            [vec![0..out], vec![1..out / 2], vec![out / 2..out, 0..out / 2], vec![2..3, 5..7]]
        {
            let expected = select_rows(dense, &ranges).unwrap();
            let selected = delta.select(&ranges).unwrap();
            assert_near(&selected.dense_rows(0..expected.dim(0).unwrap()).unwrap(), &expected);
            assert_near(&selected.forward(&x).unwrap(), &x.matmul(&expected.t().unwrap()).unwrap());
        }
    }

    fn plain_kronecker(a: &Tensor, b: &Tensor) -> Tensor {
        let (a, b) = (a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
        let row = |i: usize, j: usize| -> Vec<f32> {
            a[i].iter().flat_map(|x| b[j].iter().map(move |y| x * y)).collect()
        };
        let rows: Vec<_> = (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| (i, j))).collect();
        let rows: Vec<_> = rows.into_iter().map(|(i, j)| row(i, j)).collect();
        Tensor::new(rows, &Device::Cpu).unwrap()
    }

    #[test]
    fn products_tiles_and_kronecker_products_equal_the_dense_matrix() {
        let (a, b) = (product(600, 7), product(600, 7));
        check(&Delta::Plain(a.clone()), &a.dense().unwrap());
        let hadamard = (a.dense().unwrap() * b.dense().unwrap()).unwrap();
        check(&Delta::Hadamard(a, b), &hadamard);
        let (a, b) = (random(4, 3), product(6, 5));
        let dense = plain_kronecker(&a, &b.dense().unwrap());
        check(&Delta::Kronecker(Matrix::Whole(a), b, vec![0..24]), &dense);
    }

    #[test]
    fn rows_of_a_selection_are_counted_within_it() {
        assert_eq!(select_ranges(&[10..14, 0..4], &[3..6]), [13..14, 0..2]);
        assert_eq!(select_ranges(&[5..10], &[4..5, 0..1]), [9..10, 5..6]);
    }
}
