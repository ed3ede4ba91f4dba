//! Eight lanes of AVX2 and FMA.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128,
    _mm_max_ps, _mm_max_ss, _mm_movehdup_ps, _mm_movehl_ps, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_ps, _mm256_blendv_epi8,
    _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_cvtepu16_epi32, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_or_ps, _mm256_or_si256, _mm256_packus_epi32, _mm256_permute_ps,
    _mm256_permute4x64_epi64, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::{Vectors, Work};
use crate::level::Avx2;

/// Compiles `work` for AVX2, FMA and F16C.
///
/// # Safety
/// The token is the proof that the processor has them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<W: Work>(token: Avx2, work: W) -> W::Output {
    work.run(token)
}

/// The first `count` lanes.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

// SAFETY of all blocks below: the token proves AVX2 and FMA; memory is the caller's promise.
impl Vectors for Avx2 {
    const LANES: usize = 8;
    const PANEL: usize = 2;
    const EXP2_FLOOR: f32 = -127.0;
    type F32 = __m256;
    /// The first and the second of each pair.
    type Pairs = (__m256, __m256);

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> __m256 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_loadu_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> __m256 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_maskload_ps(x, first(count)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m256) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_storeu_ps(to, x) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: __m256, count: usize) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm256_maskstore_ps(to, first(count), x) };
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> __m256 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: __m256) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
            let quiet = _mm256_or_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(0x40));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let words = _mm256_blendv_epi8(rounded, quiet, is_nan);
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: the token. 8: to nearest, without an exception.
        unsafe { _mm256_round_ps::<8>(x) }
    }

    #[inline(always)]
    fn scale_by_power(self, x: __m256, n: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn copy_sign(self, x: __m256, sign: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe {
            let mask = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(mask, x), _mm256_and_ps(mask, sign))
        }
    }

    #[inline(always)]
    fn swap_neighbours(self, x: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_permute_ps::<0b10_11_00_01>(x) }
    }

    #[inline(always)]
    fn sum(self, x: __m256) -> f32 {
        // SAFETY: the token.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn maximum(self, x: __m256) -> f32 {
        // SAFETY: the token.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const u32) -> Self::Pairs {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let bits = _mm256_loadu_si256(x.cast());
            let second = _mm256_and_si256(bits, _mm256_set1_epi32(0xFFFF_0000_u32 as i32));
            let first = _mm256_slli_epi32::<16>(bits);
            (_mm256_castsi256_ps(first), _mm256_castsi256_ps(second))
        }
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        (self.splat(f32::from_bits(x << 16)), self.splat(f32::from_bits(x & 0xFFFF_0000)))
    }

    #[inline(always)]
    fn dot(self, acc: __m256, a: Self::Pairs, b: Self::Pairs) -> __m256 {
        self.mul_add(a.1, b.1, self.mul_add(a.0, b.0, acc))
    }
}
