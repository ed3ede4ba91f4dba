//! How a product is cut: blocks of rows, panels of columns, blocks along the sum; and who computes what. Products by AMX
//! are cut in [`tiles`](super::tiles).
//!
//! The blocks along the sum are the same whatever the rows and the threads, so that a row's result has the same bits
//! in any company.

use std::marker::PhantomData;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::tiles;
use crate::Simd;
use crate::aligned::{Element, with_scratch};
#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::rows::Rows;
use crate::threads;

/// Columns of a panel.
pub(crate) const PANEL: usize = 64;

/// Words of a block along the sum: 128 KiB of a panel, a small part of the second cache (1 MiB on Zen 4).
const BLOCK_WORDS: usize = 512;

/// Rows that share a block of a panel while it is in the cache. Theirs are 48 KiB of sums.
const BLOCK_ROWS: usize = 192;

/// The same where the panel has to be computed first, which more rows pay for.
const BLOCK_ROWS_OF_COMPUTED: usize = 768;

/// Tasks a thread should find, so that none waits long for the last.
const TASKS_PER_THREAD: usize = 6;

/// What numbers are multiplied and how they are summed.
pub(crate) trait Format: Sized + Copy + Send + Sync + 'static {
    /// A number of x.
    type X: Element + Default;
    /// A word of a panel.
    type W: Element;
    /// A sum.
    type Sum: Element + Default;
    /// Numbers in a word.
    const GROUP: usize;
    /// How AMX multiplies them, if it does.
    #[cfg(target_arch = "x86_64")]
    const TILES: Option<amx::Words>;

    /// Multiplies a strip.
    ///
    /// # Safety
    /// The strip's memory must be as it says.
    unsafe fn multiply(simd: Simd, strip: Strip<'_, Self>);
}

/// Rows of x times a block of a panel: sums (rows, `PANEL`) = or += x (rows, words) · panel (words, `PANEL`).
pub(crate) struct Strip<'a, F: Format> {
    pub x: *const F::X,
    /// Numbers from row to row.
    pub stride: usize,
    pub rows: usize,
    pub words: usize,
    pub panel: *const F::W,
    pub sums: *mut F::Sum,
    /// Whether `sums` already holds a part.
    pub add: bool,
    pub lives: PhantomData<&'a F>,
}

/// A matrix (sum, columns) cut into panels.
pub(crate) trait Panels<F: Format>: Sync {
    /// Whether blocks have to be computed.
    const COMPUTED: bool;
    /// Columns, without those that fill the last panel.
    fn columns(&self) -> usize;
    /// The words `words` of panel `panel`; `scratch` has room for them.
    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        scratch: &'a mut [F::W],
    ) -> &'a [F::W];
}

/// The right side of a product.
pub(crate) trait RightSide<F: Format>: Panels<F> {
    /// Numbers along the sum.
    fn depth(&self) -> usize;
    /// The steps `steps` of columns 32 · `column` and on, as AMX reads them; `scratch` has room for them.
    #[cfg(target_arch = "x86_64")]
    fn steps<'a>(
        &'a self,
        column: usize,
        steps: Range<usize>,
        scratch: &'a mut [F::W],
    ) -> &'a [F::W];
}

/// Where a finished block of sums belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The first row.
    pub row: usize,
    /// How many rows.
    pub rows: usize,
    /// The panel.
    pub panel: usize,
    /// How many of its columns are real.
    pub columns: usize,
}

/// x (m, depth) · panels (depth, columns), handed to `finish` block by block with the sums (rows, `PANEL`).
///
/// # Panics
/// When the depths differ.
pub(crate) fn multiply<F: Format, P: RightSide<F>>(
    simd: Simd,
    x: Rows<'_, F::X>,
    panels: &P,
    finish: impl Fn(Place, &mut [F::Sum]) + Sync,
) {
    assert_eq!(x.columns(), panels.depth(), "numbers of a row of x");
    if x.columns().is_multiple_of(F::GROUP) {
        return multiply_words(simd, x, panels, finish);
    }
    // A last word that is not full is filled with zeros, out of the caller's memory.
    let width = x.columns().next_multiple_of(F::GROUP);
    with_scratch(x.rows() * width, |copy: &mut [F::X]| {
        for (row, copy) in copy.chunks_exact_mut(width).enumerate() {
            copy[..x.columns()].copy_from_slice(x.row(row));
            copy[x.columns()..].fill(F::X::default());
        }
        multiply_words(simd, Rows::new(copy, width), panels, finish);
    });
}

/// [`multiply`] where rows are whole words.
fn multiply_words<F: Format, P: RightSide<F>>(
    simd: Simd,
    x: Rows<'_, F::X>,
    panels: &P,
    finish: impl Fn(Place, &mut [F::Sum]) + Sync,
) {
    #[cfg(target_arch = "x86_64")]
    if let (Simd::Amx(token), Some(words)) = (simd, F::TILES) {
        return tiles::multiply((token, words), x, panels, &finish);
    }
    Cut::new(simd, x, panels).run(&finish);
}

/// A product cut into tasks of one block of rows and some panels.
struct Cut<'a, F: Format, P> {
    simd: Simd,
    x: Rows<'a, F::X>,
    panels: &'a P,
    words: usize,
    block_rows: usize,
    row_blocks: usize,
    panel_count: usize,
    panels_per_task: usize,
}

impl<'a, F: Format, P: RightSide<F>> Cut<'a, F, P> {
    fn new(simd: Simd, x: Rows<'a, F::X>, panels: &'a P) -> Self {
        let most = if P::COMPUTED { BLOCK_ROWS_OF_COMPUTED } else { BLOCK_ROWS };
        // Blocks of equal size, so that the last is not a small one.
        let row_blocks = x.rows().div_ceil(most).max(1);
        let block_rows = x.rows().div_ceil(row_blocks).next_multiple_of(12);
        let row_blocks = x.rows().div_ceil(block_rows);
        let panel_count = panels.columns().div_ceil(PANEL);
        let wanted = threads::count() * TASKS_PER_THREAD;
        let panels_per_task = (panel_count * row_blocks / wanted).clamp(1, panel_count.max(1));
        let words = panels.depth().div_ceil(F::GROUP);
        Self { simd, x, panels, words, block_rows, row_blocks, panel_count, panels_per_task }
    }

    fn run(&self, finish: &(impl Fn(Place, &mut [F::Sum]) + Sync)) {
        let groups = self.panel_count.div_ceil(self.panels_per_task);
        threads::parallel_for(groups * self.row_blocks, |task| {
            // Neighbours in time share panels, which come from memory, rather than rows.
            let (group, block) = (task / self.row_blocks, task % self.row_blocks);
            let first = group * self.panels_per_task;
            let last = (first + self.panels_per_task).min(self.panel_count);
            let room = if P::COMPUTED { BLOCK_WORDS * PANEL } else { 0 };
            with_scratch(self.block_rows * PANEL, |sums| {
                with_scratch(room, |scratch| {
                    for panel in first..last {
                        let place = self.place(block, panel);
                        self.compute(place, sums, scratch);
                        finish(place, &mut sums[..place.rows * PANEL]);
                    }
                });
            });
        });
    }

    fn place(&self, block: usize, panel: usize) -> Place {
        let row = block * self.block_rows;
        let rows = self.block_rows.min(self.x.rows() - row);
        let columns = PANEL.min(self.panels.columns() - panel * PANEL);
        Place { row, rows, panel, columns }
    }

    fn compute(&self, place: Place, sums: &mut [F::Sum], scratch: &mut [F::W]) {
        let Place { row, rows, panel, .. } = place;
        assert!(rows * PANEL <= sums.len());
        let mut start = 0;
        loop {
            let words = BLOCK_WORDS.min(self.words - start);
            let block = self.panels.block(panel, start..start + words, scratch);
            assert_eq!(block.len(), words * PANEL);
            let strip = Strip {
                // The rows from `row` on, from word `start` on.
                x: self.x.as_ptr().wrapping_add(row * self.x.stride() + start * F::GROUP),
                stride: self.x.stride(),
                rows,
                words,
                panel: block.as_ptr(),
                sums: sums.as_mut_ptr(),
                add: start > 0,
                lives: PhantomData,
            };
            // SAFETY: the rows lie within x, whose rows hold `self.words` whole words; the others were just checked.
            unsafe { F::multiply(self.simd, strip) };
            start += words;
            if start == self.words {
                break;
            }
        }
    }
}
