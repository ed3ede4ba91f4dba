//! Bytes widened to 16 bits and multiplied in pairs: `vpmaddwd`. The byte instruction `vpmaddubsw` would saturate.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi16,
    _mm256_srai_epi16, _mm256_srli_epi16, _mm256_storeu_si256,
};

use super::tile::{Bytes, Bytes4, strip_of};
use crate::level::Avx2;
use crate::linear::Strip;

/// # Safety
/// The token proves the level; the strip's memory must be as it says.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn strip(token: Avx2, strip: &Strip<'_, Bytes4>) {
    // SAFETY: the caller's promise.
    unsafe { strip_of(token, strip) };
}

impl Bytes for Avx2 {
    const LANES: usize = 8;
    const VECTORS: usize = 2;
    const ROWS: usize = 4;
    type Sums = __m256i;
    /// Bytes 0 and 2 of the word in 16 bits, then 1 and 3.
    type X = (__m256i, __m256i);
    /// The same in each lane.
    type W = (__m256i, __m256i);

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m256i {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sums(self, to: *mut i32, sums: __m256i) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), sums) };
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: the token.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn splat(self, word: u32) -> Self::X {
        // SAFETY: the token.
        unsafe {
            let word = _mm256_set1_epi32(word.cast_signed());
            (_mm256_and_si256(word, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16::<8>(word))
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::W {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let words = _mm256_loadu_si256(from.cast());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words));
            (even, _mm256_srai_epi16::<8>(words))
        }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, x: Self::X, w: Self::W) -> __m256i {
        // SAFETY: the token.
        unsafe {
            let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x.0, w.0));
            _mm256_add_epi32(sums, _mm256_madd_epi16(x.1, w.1))
        }
    }
}
