//! Sums over the tokens of each picture, in blocks of a fixed size, so that their bits do not depend on the number of
//! threads.

use std::ops::Range;

use crate::threads::{SharedPtr, parallel_for};

/// Tokens that one sum is taken over before sums are added.
const BLOCK: usize = 64;

/// Runs `task(rows, sums)` for every block of the rows (b, length), on all threads; `sums` are `width` zeros that the
/// task adds to. Returns the sums of each picture, (b, width).
pub(crate) fn sum_blocks(
    (b, length): (usize, usize),
    width: usize,
    task: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let blocks = length.div_ceil(BLOCK);
    let mut sums = vec![0.0; b * blocks * width];
    let shared = SharedPtr::new(&mut sums);
    parallel_for(b * blocks, |i| {
        let (picture, start) = (i / blocks, i % blocks * BLOCK);
        let rows = picture * length + start..picture * length + length.min(start + BLOCK);
        // SAFETY: blocks have disjoint sums.
        task(rows, unsafe { shared.slice(i * width, width) });
    });
    if blocks == 1 {
        return sums;
    }
    let mut totals = vec![0.0; b * width];
    for (i, part) in sums.chunks_exact(width.max(1)).enumerate() {
        let total = &mut totals[i / blocks * width..][..width];
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    totals
}
