//! Rows of a table by token id.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::weights::{Table, Weights};

/// A table of embeddings.
pub struct Embedding {
    table: Table,
    rows: usize,
    channels: usize,
    dtype: DType,
}

impl Embedding {
    /// Loads `weight` (rows, d).
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load(weights: &Weights, rows: usize, channels: usize) -> Result<Self> {
        let table = weights.table("weight", [rows, channels])?;
        Ok(Self { table, rows, channels, dtype: weights.dtype() })
    }

    /// The rows of `ids` (b, l) as (b, l, d).
    ///
    /// # Errors
    /// When an id is beyond the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, l) = ids.dims2()?;
        let ids = ids.flatten_all()?;
        // A card would read beyond its memory and be of no use to anyone afterwards.
        let highest = ids.max(0)?.to_scalar::<u32>()? as usize;
        if highest >= self.rows {
            let rule = format!(
                "is not one of the {} of this model; its tokenizer is another's",
                self.rows
            );
            return Err(Error::invalid("token", highest, rule));
        }
        let rows = match &self.table {
            Table::Dense(table) => table.index_select(&ids, 0)?,
            Table::Quantized(table) => table.embedding(&ids)?.to_dtype(self.dtype)?,
        }; // (b·l, d)
        Ok(rows.reshape((b, l, self.channels))?) // (b, l, d)
    }
}
