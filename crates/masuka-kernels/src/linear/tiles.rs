//! How a product is cut for AMX. Slabs of B of 32 columns by 12 steps (24 KiB) stay in the first cache while groups of
//! rows of A pass from the second; the sums of 256 rows by 512 columns wait there for the next slab. What comes next
//! is fetched meanwhile. On a processor with 2 MiB of second cache this was the best of the sizes tried.

use std::ops::Range;

use super::layout::STEP_WORDS;
use super::product::{Format, PANEL, Place, RightSide};
use crate::aligned::with_scratch;
use crate::amx::{NEXT_A, NEXT_B, PackRows, STEP, STEP_BYTES, Strip, TILE, Tiles, Words};
use crate::level::Amx;
use crate::rows::Rows;
use crate::{Simd, threads, vector};

/// Steps of a slab.
const SLAB: usize = 12;
/// Rows of a block and panels of a block of sums.
const BLOCK: (usize, usize) = (256, 8);
/// The same where the right side has to be computed first, which more rows pay for.
const BLOCK_OF_COMPUTED: (usize, usize) = (768, 2);
/// Tasks a thread should find, so that none waits long for the last.
const TASKS_PER_THREAD: usize = 3;

/// x (m, depth) · panels (depth, columns), handed to `finish` block by block with the sums (rows, `PANEL`).
pub(super) fn multiply<F: Format, P: RightSide<F>>(
    (token, format): (Amx, Words),
    x: Rows<'_, F::X>,
    panels: &P,
    finish: &(impl Fn(Place, &mut [F::Sum]) + Sync),
) {
    let cut = Cut::<F, P>::new(token, format, x, panels);
    threads::parallel_for(cut.row_blocks * cut.splits, |task| {
        let (split, block) = (task / cut.row_blocks, task % cut.row_blocks);
        let first = split * cut.panels_per_split;
        let panels = first..(first + cut.panels_per_split).min(cut.panel_count);
        let row = block * cut.block_rows;
        let rows = cut.block_rows.min(x.rows() - row);
        let groups = rows.div_ceil(STEP);
        with_scratch(groups * cut.steps * STEP_BYTES, |a: &mut [u8]| {
            cut.pack(row, rows, a);
            with_scratch(cut.panels_at_once * groups * STEP * PANEL, |sums| {
                let room = if P::COMPUTED { cut.slab * STEP_WORDS } else { 0 };
                with_scratch(room, |scratch| {
                    for first in panels.clone().step_by(cut.panels_at_once) {
                        let panels = first..(first + cut.panels_at_once).min(panels.end);
                        cut.compute(a, groups, panels.clone(), scratch, sums);
                        for (panel, sums) in panels.zip(sums.chunks_mut(groups * STEP * PANEL)) {
                            let columns = PANEL.min(cut.panels.columns() - panel * PANEL);
                            let place = Place { row, rows, panel, columns };
                            finish(place, &mut sums[..rows * PANEL]);
                        }
                    }
                });
            });
        });
    });
}

/// A product cut into tasks of one block of rows and some panels.
struct Cut<'a, F: Format, P> {
    token: Amx,
    format: Words,
    x: Rows<'a, F::X>,
    panels: &'a P,
    /// Along the sum.
    steps: usize,
    /// Steps of a slab.
    slab: usize,
    block_rows: usize,
    row_blocks: usize,
    panel_count: usize,
    panels_at_once: usize,
    /// How often the panels are shared out between tasks.
    splits: usize,
    panels_per_split: usize,
}

impl<'a, F: Format, P: RightSide<F>> Cut<'a, F, P> {
    fn new(token: Amx, format: Words, x: Rows<'a, F::X>, panels: &'a P) -> Self {
        let (most_rows, panels_at_once) = if P::COMPUTED { BLOCK_OF_COMPUTED } else { BLOCK };
        // Blocks of equal size, so that the last is not a small one.
        let row_blocks = x.rows().div_ceil(most_rows).max(1);
        let block_rows = x.rows().div_ceil(row_blocks).next_multiple_of(STEP).max(STEP);
        let row_blocks = x.rows().div_ceil(block_rows);
        let panel_count = panels.columns().div_ceil(PANEL);
        let wanted = threads::count() * TASKS_PER_THREAD;
        let even = row_blocks.is_multiple_of(threads::count());
        let splits = if even { 1 } else { wanted.div_ceil(row_blocks.max(1)) };
        let panels_per_split = panel_count.div_ceil(splits).max(1);
        let splits = panel_count.div_ceil(panels_per_split);
        let steps = panels.depth().div_ceil(F::GROUP).div_ceil(TILE);
        // A single group of rows uses B once: it passes in one piece.
        let slabs = if x.rows() <= STEP { 1 } else { steps.div_ceil(SLAB).max(1) };
        let slab = steps.div_ceil(slabs).max(1);
        Self {
            token,
            format,
            x,
            panels,
            steps,
            slab,
            block_rows,
            row_blocks,
            panel_count,
            panels_at_once,
            splits,
            panels_per_split,
        }
    }

    /// Copies `rows` rows from `row` on into steps.
    fn pack(&self, row: usize, rows: usize, to: &mut [u8]) {
        assert!(rows.div_ceil(STEP) * self.steps * STEP_BYTES <= to.len());
        let stride = self.x.stride() * size_of::<F::X>();
        let first = self.x.as_ptr().cast::<u8>().wrapping_add(row * stride);
        let words = self.panels.depth().div_ceil(F::GROUP);
        let work = PackRows { x: first, stride, rows, words, slab: self.slab, to: to.as_mut_ptr() };
        vector::run(Simd::Amx(self.token), work);
    }

    /// The sums of groups of rows, in steps as `a`, and some panels. What lies behind the last row is anything, and so are
    /// its sums.
    fn compute(
        &self,
        a: &[u8],
        groups: usize,
        panels: Range<usize>,
        scratch: &mut [F::W],
        sums: &mut [F::Sum],
    ) {
        let columns = 2 * panels.start..2 * panels.end;
        assert!(panels.len() * groups * STEP * PANEL <= sums.len());
        assert!(groups * self.steps * STEP_BYTES <= a.len());
        if self.steps == 0 {
            sums.fill(F::Sum::default());
            return;
        }
        let tiles = Tiles::new(self.token);
        let first = a.as_ptr();
        for start in (0..self.steps).step_by(self.slab) {
            let steps = start..(start + self.slab).min(self.steps);
            let a = first.wrapping_add(start * groups * STEP_BYTES);
            let slab = steps.len() * groups * STEP_BYTES;
            // Behind the last slab, other panels begin with the first.
            let next_a = if steps.end < self.steps { a.wrapping_add(slab) } else { first };
            for (i, column) in columns.clone().enumerate() {
                let next = self.next(column, &steps, &columns);
                let b = self.panels.steps(column, steps.clone(), scratch);
                assert_eq!(b.len(), steps.len() * STEP_WORDS);
                let mut strip = Strip {
                    a,
                    b: b.as_ptr().cast(),
                    steps: steps.len(),
                    // Two columns of strips make a panel.
                    c: sums[i / 2 * groups * STEP * PANEL + i % 2 * STEP..].as_mut_ptr().cast(),
                    c_stride: PANEL * size_of::<F::Sum>(),
                    add: start > 0,
                    next_b: next.unwrap_or(b.as_ptr()).cast(),
                    // This column's part.
                    next_a: next_a.wrapping_add(slab / columns.len() * i),
                };
                for _ in 0..groups {
                    // SAFETY: rows, slab and sums were just seen to be as long as the strips say.
                    unsafe { tiles.multiply(self.format, &strip) };
                    strip.a = strip.a.wrapping_add(steps.len() * STEP_BYTES);
                    strip.c = strip.c.wrapping_add(STEP * strip.c_stride);
                    strip.next_a = strip.next_a.wrapping_add(steps.len() * NEXT_A);
                    if next.is_some() {
                        strip.next_b = strip.next_b.wrapping_add(steps.len() * NEXT_B);
                    }
                }
            }
        }
    }

    /// The slab of B that follows the steps `steps` of column `column`, where it need not be computed.
    fn next(
        &self,
        column: usize,
        steps: &Range<usize>,
        columns: &Range<usize>,
    ) -> Option<*const F::W> {
        if P::COMPUTED {
            return None;
        }
        let (column, start) = match (column + 1 < columns.end, steps.end < self.steps) {
            (true, _) => (column + 1, steps.start),
            (false, true) => (columns.start, steps.end),
            (false, false) if columns.end < 2 * self.panel_count => (columns.end, 0),
            (false, false) => return None,
        };
        let steps = start..(start + self.slab).min(self.steps);
        Some(self.panels.steps(column, steps, &mut []).as_ptr())
    }
}
