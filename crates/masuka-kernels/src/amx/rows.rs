//! Rows of A copied into steps.

use super::{LINE, STEP, STEP_BYTES, TILE, TILE_BYTES};
use crate::vector::{Vectors, Work};

/// Copies rows, as they lie in memory, into steps: slab by slab along the sum, group of [`STEP`] rows by group, step by
/// step. Words behind the last are zero; rows behind the last are left as they are.
pub(crate) struct PackRows {
    pub x: *const u8,
    /// Bytes from row to row.
    pub stride: usize,
    pub rows: usize,
    /// Words of a row.
    pub words: usize,
    /// Steps of a slab.
    pub slab: usize,
    /// Room for whole slabs and groups.
    pub to: *mut u8,
}

impl Work for PackRows {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) {
        let groups = self.rows.div_ceil(STEP);
        let steps = self.words.div_ceil(TILE);
        for group in 0..groups {
            for step in 0..steps {
                let (slab, step_of_slab) = (step / self.slab, step % self.slab);
                // The last slab may be shorter.
                let length = self.slab.min(steps - slab * self.slab);
                let before = slab * self.slab * groups + group * length + step_of_slab;
                // SAFETY: whoever made this promises the rows and the room.
                unsafe { self.pack(group, step, self.to.add(before * STEP_BYTES)) };
            }
        }
    }
}

impl PackRows {
    #[inline(always)]
    unsafe fn pack(&self, group: usize, step: usize, to: *mut u8) {
        let bytes = LINE.min(4 * self.words - step * LINE);
        for i in 0..STEP.min(self.rows - group * STEP) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = self.x.add((group * STEP + i) * self.stride + step * LINE);
                let to = to.add(i / TILE * TILE_BYTES + i % TILE * LINE);
                let mut line = [0_u8; LINE];
                if bytes == LINE {
                    line = from.cast::<[u8; LINE]>().read_unaligned();
                } else {
                    line.as_mut_ptr().copy_from_nonoverlapping(from, bytes);
                }
                to.cast::<[u8; LINE]>().write(line);
            }
        }
    }
}
