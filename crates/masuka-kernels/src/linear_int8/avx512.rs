//! Four products a lane in one instruction: `vpdpbusd` of AVX-512 VNNI.

use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::tile::{Bytes, Bytes4, strip_of};
use crate::level::Avx512;
use crate::linear::Strip;

/// # Safety
/// The token proves the level; the strip's memory must be as it says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn strip(token: Avx512, strip: &Strip<'_, Bytes4>) {
    // SAFETY: the caller's promise.
    unsafe { strip_of(token, strip) };
}

impl Bytes for Avx512 {
    const LANES: usize = 16;
    const VECTORS: usize = 4;
    const ROWS: usize = 6;
    type Sums = __m512i;
    type X = __m512i;
    type W = __m512i;

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m512i {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sums(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), sums) };
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the token.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn splat(self, word: u32) -> __m512i {
        // SAFETY: the token.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> __m512i {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn dot(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the token.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }
}
