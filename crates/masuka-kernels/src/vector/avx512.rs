//! Sixteen lanes of AVX-512, with products of bf16 pairs in one instruction.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_div_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_permute_ps, _mm512_rcp14_ps,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_reduce_ps, _mm512_roundscale_ps,
    _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_shuffle_i32x4, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem;

use super::math::{EXP2_ABOVE_FLOOR, polynomial};
use super::{Vectors, Work};
use crate::level::{Amx, Avx512};

/// Compiles `work` for AVX-512 with bf16 products.
///
/// # Safety
/// The token is the proof that the processor has them.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn run<W: Work>(token: Avx512, work: W) -> W::Output {
    work.run(token)
}

/// The first `count` lanes.
#[inline(always)]
fn first(count: usize) -> u16 {
    ((1_u32 << count) - 1) as u16
}

impl Vectors for Avx512 {
    const LANES: usize = 16;
    const PANEL: usize = 4;
    const EXP2_FLOOR: f32 = -200.0;
    type F32 = __m512;
    type Pairs = __m512bh;

    #[inline(always)]
    fn amx(self) -> Option<Amx> {
        Avx512::amx(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> __m512 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_loadu_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> __m512 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(first(count), x) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_storeu_ps(to, x) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: __m512, count: usize) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe { _mm512_mask_storeu_ps(to, first(count), x) };
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> __m512 {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: __m512) {
        // SAFETY: the token; memory is the caller's promise; both types are 32 bytes of bits.
        unsafe {
            let rounded = mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn store_two_bf16(self, to: *mut u16, x: [__m512; 2]) {
        // SAFETY: the token; memory is the caller's promise; both types are 64 bytes of bits.
        unsafe {
            let rounded = mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(x[1], x[0]));
            _mm512_storeu_si512(to.cast(), rounded);
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: the token. 0: to nearest, no binary places.
        unsafe { _mm512_roundscale_ps::<0>(x) }
    }

    #[inline(always)]
    fn scale_by_power(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_scalef_ps(x, n) }
    }

    #[inline(always)]
    fn exp2_coarse(self, x: __m512) -> __m512 {
        /// Towards minus infinity, no exceptions.
        const FLOOR: i32 = 0b1001;
        // SAFETY: the token.
        unsafe {
            // What is above the floor, which the last instruction takes by itself; 0 where x is infinite.
            let above = _mm512_reduce_ps::<FLOOR>(x);
            _mm512_scalef_ps(polynomial(self, above, &EXP2_ABOVE_FLOOR), x)
        }
    }

    #[inline(always)]
    fn reciprocal_coarse(self, x: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_rcp14_ps(x) }
    }

    #[inline(always)]
    fn copy_sign(self, x: __m512, sign: __m512) -> __m512 {
        // SAFETY: the token. 0xD8 picks the second operand where the third is 1, else the first.
        unsafe {
            let mask = _mm512_set1_epi32(i32::MIN);
            let (x, sign) = (_mm512_castps_si512(x), _mm512_castps_si512(sign));
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xD8>(x, sign, mask))
        }
    }

    #[inline(always)]
    fn swap_neighbours(self, x: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_permute_ps::<0b10_11_00_01>(x) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: the token.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn maximum(self, x: __m512) -> f32 {
        // SAFETY: the token.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const u32) -> __m512bh {
        // SAFETY: the token; memory is the caller's promise; both types are 64 bytes of bits.
        unsafe { mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(x.cast())) }
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> __m512bh {
        // SAFETY: the token; both types are 64 bytes of bits.
        unsafe { mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x as i32)) }
    }

    #[inline(always)]
    fn dot(self, acc: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_dpbf16_ps(acc, a, b) }
    }

    #[inline(always)]
    unsafe fn transpose(self, x: *const u32, stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: the token; memory is the caller's promise.
        unsafe {
            let mut rows = [_mm512_set1_epi32(0); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_si512(x.add(i * stride).cast());
            }
            for (i, column) in transposed(rows).into_iter().enumerate() {
                _mm512_storeu_si512(to.add(i * to_stride).cast(), column);
            }
        }
    }
}

/// The columns of sixteen rows: pairs of words, pairs of pairs, then quarters change places.
///
/// # Safety
/// Needs AVX-512 F.
#[inline(always)]
unsafe fn transposed(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut a, mut b) = (x, x);
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..4 {
            let (even, odd) = (4 * i, 4 * i + 1);
            b[4 * i] = _mm512_unpacklo_epi64(a[even], a[even + 2]);
            b[4 * i + 1] = _mm512_unpackhi_epi64(a[even], a[even + 2]);
            b[4 * i + 2] = _mm512_unpacklo_epi64(a[odd], a[odd + 2]);
            b[4 * i + 3] = _mm512_unpackhi_epi64(a[odd], a[odd + 2]);
        }
        // b[4g + c] holds columns c, c + 4, c + 8 and c + 12 of rows 4g to 4g + 3, one in each quarter.
        for c in 0..4 {
            let low = _mm512_shuffle_i32x4::<0x88>(b[c], b[c + 4]);
            let high = _mm512_shuffle_i32x4::<0xDD>(b[c], b[c + 4]);
            let low2 = _mm512_shuffle_i32x4::<0x88>(b[c + 8], b[c + 12]);
            let high2 = _mm512_shuffle_i32x4::<0xDD>(b[c + 8], b[c + 12]);
            a[c] = _mm512_shuffle_i32x4::<0x88>(low, low2);
            a[c + 8] = _mm512_shuffle_i32x4::<0xDD>(low, low2);
            a[c + 4] = _mm512_shuffle_i32x4::<0x88>(high, high2);
            a[c + 12] = _mm512_shuffle_i32x4::<0xDD>(high, high2);
        }
        a
    }
}
