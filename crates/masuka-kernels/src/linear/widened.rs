//! Products of bf16 in f32, for levels that multiply f32 faster: panels are widened block by block, for many rows at once,
//! and so are the rows of x.

use std::ops::Range;

use half::bf16;

use super::panels::Packed;
use super::product::{PANEL, Panels, RightSide};
use super::tile::Floats;
use crate::Simd;
use crate::aligned::unwritten;
use crate::rows::{Rows, RowsMut};
use crate::vector::{self, Number, Vectors, Work};

/// Numbers of a unit.
const GROUP: usize = 2;

/// A packed weight, seen in f32.
pub(super) struct Widened<'a>(pub &'a Packed<bf16>);

impl Panels<Floats<f32>> for Widened<'_> {
    const COMPUTED: bool = true;

    fn columns(&self) -> usize {
        self.0.out_features()
    }

    fn block<'a>(&'a self, panel: usize, words: Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
        // Blocks begin with whole units; the last number of the last unit may be none of W.
        let units = words.start / GROUP..words.end.div_ceil(GROUP);
        let from = self.0.units(panel, units);
        let to = &mut scratch[..words.len() * PANEL];
        vector::run(self.0.simd(), WidenPairs { from, to: &mut *to });
        to
    }
}

impl RightSide<Floats<f32>> for Widened<'_> {
    fn depth(&self) -> usize {
        self.0.in_features()
    }

    #[cfg(target_arch = "x86_64")]
    fn steps<'a>(&'a self, _: usize, _: Range<usize>, _: &'a mut [f32]) -> &'a [f32] {
        unreachable!("AMX has no products of f32")
    }
}

/// Rows in f32, one after another.
pub(super) fn widen<T: Number>(simd: Simd, x: Rows<'_, T>) -> Vec<f32> {
    let mut wide = unwritten(x.rows() * x.columns());
    RowsMut::new(&mut wide, x.columns())
        .parallel_rows(|i, wide| vector::run(simd, WidenRow { x: x.row(i), wide }));
    wide
}

struct WidenRow<'a, T> {
    x: &'a [T],
    wide: &'a mut [f32],
}

impl<T: Number> Work for WidenRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let count = self.wide.len();
        assert_eq!(self.x.len(), count, "numbers of a row");
        for i in (0..count).step_by(V::LANES) {
            // SAFETY: i < count, which both slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), count - i);
                f32::store_up_to(v, self.wide.as_mut_ptr().add(i), x, count - i);
            }
        }
    }
}

/// Units of a panel as numbers: those of each in two rows, the second of which may be missing at the end.
struct WidenPairs<'a> {
    /// (units, `PANEL`)
    from: &'a [u32],
    /// (numbers, `PANEL`)
    to: &'a mut [f32],
}

impl Work for WidenPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) {
        let rows = self.to.chunks_mut(GROUP * PANEL).zip(self.from.chunks_exact(PANEL));
        for (to, from) in rows {
            let (first, second) = to.split_at_mut(PANEL);
            for (to, from) in first.iter_mut().zip(from) {
                *to = f32::from_bits(from << 16);
            }
            for (to, from) in second.iter_mut().zip(from) {
                *to = f32::from_bits(from & 0xFFFF_0000);
            }
        }
    }
}
