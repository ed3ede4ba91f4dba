//! Rows of a table by token id.

use candle_core::Tensor;

use crate::error::Result;
use crate::weights::Weights;

/// A table of embeddings.
pub struct Embedding {
    table: Tensor,
    channels: usize,
}

impl Embedding {
    /// Loads `weight` (rows, d).
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load(weights: &Weights, rows: usize, channels: usize) -> Result<Self> {
        Ok(Self { table: weights.tensor("weight", &[rows, channels])?, channels })
    }

    /// The rows of `ids` (b, l) as (b, l, d).
    ///
    /// # Errors
    /// When an id is beyond the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, l) = ids.dims2()?;
        let rows = self.table.index_select(&ids.flatten_all()?, 0)?; // (b·l, d)
        Ok(rows.reshape((b, l, self.channels))?) // (b, l, d)
    }
}
