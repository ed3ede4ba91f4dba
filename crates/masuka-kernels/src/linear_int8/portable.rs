//! Multiplications one by one, eight lanes beside each other.

use super::tile::Bytes;

/// What every processor has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 8;

impl Bytes for Portable {
    const LANES: usize = LANES;
    const VECTORS: usize = 1;
    const ROWS: usize = 4;
    type Sums = [i32; LANES];
    type X = [i32; 4];
    type W = [u32; LANES];

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> Self::Sums {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Sums>().read() }
    }

    #[inline(always)]
    unsafe fn store_sums(self, to: *mut i32, sums: Self::Sums) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Sums>().write(sums) };
    }

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    fn splat(self, word: u32) -> [i32; 4] {
        word.to_ne_bytes().map(i32::from)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::W {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::W>().read() }
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, x: [i32; 4], w: Self::W) -> Self::Sums {
        for (sum, w) in sums.iter_mut().zip(w) {
            let w = w.cast_signed();
            *sum += x[0] * (w << 24 >> 24) + x[1] * (w << 16 >> 24);
            *sum += x[2] * (w << 8 >> 24) + x[3] * (w >> 24);
        }
        sums
    }
}
