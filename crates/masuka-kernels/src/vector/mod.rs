//! Vectors of f32 as a trait that each level implements, so that a kernel is written once. The tokens of
//! [`level`](crate::level) are the implementors: whoever holds one may execute its instructions.

mod portable; // arrays that the compiler turns into whatever the target has
#[cfg(target_arch = "x86_64")]
mod avx2; // eight lanes
#[cfg(target_arch = "x86_64")]
mod avx512; // sixteen lanes, bf16 products in one instruction
mod number; // f32 and bf16 as what lies in memory
mod math; // exponential, logistic function, error function

pub(crate) use math::Math;
pub use number::Number;
pub(crate) use number::Product;

use crate::level::{Amx, Simd};

/// What a processor level can do with a vector of f32. Every method is inlined into the function that
/// [`Work::run`] is called from, which is compiled for the level.
pub trait Vectors: Copy + Send + Sync + 'static {
    /// Numbers in a vector.
    const LANES: usize;
    /// Vectors across a panel of a packed matrix: what the registers hold beside six rows.
    const PANEL: usize;
    /// Powers of two at and below this one are zero.
    const EXP2_FLOOR: f32;
    /// A vector of f32.
    type F32: Copy;
    /// A vector of pairs of bf16, ready to be multiplied.
    type Pairs: Copy;

    fn splat(self, x: f32) -> Self::F32;
    /// `LANES` numbers from `x`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, x: *const f32) -> Self::F32;
    /// `count` ≤ `LANES` numbers from `x`, then zeros.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_first(self, x: *const f32, count: usize) -> Self::F32;
    /// # Safety
    /// `LANES` numbers must be writable.
    unsafe fn store(self, to: *mut f32, x: Self::F32);
    /// # Safety
    /// `count` ≤ `LANES` numbers must be writable.
    unsafe fn store_first(self, to: *mut f32, x: Self::F32, count: usize);
    /// `LANES` bf16, by their bits, as f32.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_bf16(self, x: *const u16) -> Self::F32;
    /// Rounds to the nearest bf16, ties to even.
    ///
    /// # Safety
    /// `LANES` bf16 must be writable.
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F32);
    /// Two vectors beside each other, as [`store_bf16`](Self::store_bf16).
    ///
    /// # Safety
    /// 2 · `LANES` bf16 must be writable.
    #[inline(always)]
    unsafe fn store_two_bf16(self, to: *mut u16, x: [Self::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_bf16(to, x[0]);
            self.store_bf16(to.add(Self::LANES), x[1]);
        }
    }

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The greater; `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// To the nearest integer, for |x| < 2²².
    fn round(self, x: Self::F32) -> Self::F32;
    /// x · 2ⁿ for integers n from `EXP2_FLOOR` to 128.
    fn scale_by_power(self, x: Self::F32, n: Self::F32) -> Self::F32;
    /// 2ˣ for x < 128 to 8e-5, a twentieth of what rounding to bf16 costs; 0 far below.
    #[inline(always)]
    fn exp2_coarse(self, x: Self::F32) -> Self::F32 {
        math::exp2_coarse(self, x)
    }
    /// 1 / x to 6e-5, for normal numbers; 0 for infinity.
    #[inline(always)]
    fn reciprocal_coarse(self, x: Self::F32) -> Self::F32 {
        self.div(self.splat(1.0), x)
    }
    /// The magnitude of `x` with the sign of `sign`.
    fn copy_sign(self, x: Self::F32, sign: Self::F32) -> Self::F32;
    /// (x₁, x₀, x₃, x₂, …)
    fn swap_neighbours(self, x: Self::F32) -> Self::F32;
    fn sum(self, x: Self::F32) -> f32;
    fn maximum(self, x: Self::F32) -> f32;

    /// `LANES` pairs.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_pairs(self, x: *const u32) -> Self::Pairs;
    fn splat_pair(self, x: u32) -> Self::Pairs;
    /// acc + a₀·b₀ + a₁·b₁, lane by lane, in f32.
    fn dot(self, acc: Self::F32, a: Self::Pairs, b: Self::Pairs) -> Self::F32;

    /// The tiles that the level has beside its vectors.
    #[inline(always)]
    fn amx(self) -> Option<Amx> {
        None
    }

    /// Writes the transpose of `LANES` rows of `LANES` words, `stride` words apart, to rows `to_stride` words apart.
    ///
    /// # Safety
    /// Source and target must be readable and writable and not overlap.
    #[inline(always)]
    unsafe fn transpose(self, x: *const u32, stride: usize, to: *mut u32, to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the caller's promise.
                unsafe {
                    let word = x.add(row * stride + column).read_unaligned();
                    to.add(column * to_stride + row).write(word);
                }
            }
        }
    }
}

/// A kernel, to be compiled for each level. `run` and all that it calls must be `#[inline(always)]`, and its loops
/// must not stand in closures, which are compiled for no level.
pub(crate) trait Work {
    type Output;
    fn run<V: Vectors>(self, v: V) -> Self::Output;
}

/// Runs `work` on the level `simd`.
pub(crate) fn run<W: Work>(simd: Simd, work: W) -> W::Output {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the processor has the instructions.
        Simd::Amx(token) => unsafe { avx512::run(token.avx512(), work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx512(token) => unsafe { avx512::run(token, work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2(token) => unsafe { avx2::run(token, work) },
        _ => work.run(portable::Portable),
    }
}
