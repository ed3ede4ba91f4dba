//! Matrices as the caller holds them: rows that lie some stride apart.

use crate::threads::{self, SharedPtr};

/// A matrix (rows, columns) whose rows lie `stride` numbers apart.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// Rows of `columns` numbers one after another.
    ///
    /// # Panics
    /// When `data` is no whole number of rows.
    pub fn new(data: &'a [T], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, data.len(), "whole rows of {columns} numbers");
        Self { data, rows, columns, stride: columns }
    }

    /// `rows` rows of `columns` numbers, `stride` apart.
    ///
    /// # Panics
    /// When they overlap or leave `data`.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "{rows} rows, {stride} apart");
        Self { data, rows, columns, stride }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When there is none.
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.stride..][..self.columns]
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

/// A matrix to be written, as [`Rows`].
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `columns` numbers one after another.
    ///
    /// # Panics
    /// When `data` is no whole number of rows.
    pub fn new(data: &'a mut [T], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, data.len(), "whole rows of {columns} numbers");
        Self { data, rows, columns, stride: columns }
    }

    /// `rows` rows of `columns` numbers, `stride` apart.
    ///
    /// # Panics
    /// When they overlap or leave `data`.
    pub fn strided(data: &'a mut [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "{rows} rows, {stride} apart");
        Self { data, rows, columns, stride }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The rows, one after another.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let (rows, columns) = (self.rows, self.columns);
        let chunks = self.data.chunks_mut(self.stride.max(1)).take(rows);
        chunks.map(move |row| &mut row[..columns])
    }

    /// Runs `task(i, row i)` for every row, on all threads.
    ///
    /// # Panics
    /// When a task panics.
    pub fn parallel_rows(&mut self, task: impl Fn(usize, &mut [T]) + Sync)
    where
        T: Send,
    {
        let (rows, columns, stride) = (self.rows, self.columns, self.stride);
        let start = self.share();
        threads::parallel_for(rows, |i| {
            // SAFETY: rows lie within the data, which is borrowed alone, and do not overlap.
            task(i, unsafe { start.slice(i * stride, columns) });
        });
    }

    pub(crate) fn share(&mut self) -> SharedPtr<T> {
        SharedPtr::new(self.data)
    }
}

fn fits(len: usize, rows: usize, columns: usize, stride: usize) -> bool {
    let last = rows.saturating_sub(1) * stride;
    rows == 0 || (last + columns <= len && (columns <= stride || rows == 1))
}
