//! The numbers that lie in memory, f32 and bf16, and how a matrix product takes them: one by one in f32, or in
//! pairs of bf16 whose products are summed in f32.

use half::bf16;

use super::{Math, Vectors};
use crate::aligned::Element;

/// What tensors hold.
pub trait Number: Element + Default {
    /// How products of such numbers are taken.
    type Product: Product<Number = Self>;

    /// # Safety
    /// `LANES` numbers must be readable.
    unsafe fn load<V: Vectors>(v: V, x: *const Self) -> V::F32;
    /// `count` numbers, then zeros.
    ///
    /// # Safety
    /// `count` ≤ `LANES` numbers must be readable.
    unsafe fn load_first<V: Vectors>(v: V, x: *const Self, count: usize) -> V::F32;
    /// # Safety
    /// `LANES` numbers must be writable.
    unsafe fn store<V: Vectors>(v: V, to: *mut Self, x: V::F32);
    /// # Safety
    /// 2 · `LANES` numbers must be writable.
    unsafe fn store_two<V: Vectors>(v: V, to: *mut Self, x: [V::F32; 2]);
    /// # Safety
    /// `count` ≤ `LANES` numbers must be writable.
    unsafe fn store_first<V: Vectors>(v: V, to: *mut Self, x: V::F32, count: usize);
    /// Rounded to the nearest, ties to even.
    fn from_f32(x: f32) -> Self;
    /// Exactly.
    fn to_f32(self) -> f32;

    /// A vector of the first numbers of `left`, zeros behind them.
    ///
    /// # Safety
    /// `left` numbers must be readable.
    #[inline(always)]
    unsafe fn load_up_to<V: Vectors>(v: V, x: *const Self, left: usize) -> V::F32 {
        // SAFETY: the caller's promise.
        unsafe { if left >= V::LANES { Self::load(v, x) } else { Self::load_first(v, x, left) } }
    }

    /// Writes as much of a vector as `left` numbers have room for.
    ///
    /// # Safety
    /// `left` numbers must be writable.
    #[inline(always)]
    unsafe fn store_up_to<V: Vectors>(v: V, to: *mut Self, x: V::F32, left: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if left >= V::LANES {
                Self::store(v, to, x);
            } else {
                Self::store_first(v, to, x, left);
            }
        }
    }
}

impl Number for f32 {
    type Product = Singles;

    #[inline(always)]
    unsafe fn load<V: Vectors>(v: V, x: *const Self) -> V::F32 {
        // SAFETY: the caller's promise.
        unsafe { v.load(x) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vectors>(v: V, x: *const Self, count: usize) -> V::F32 {
        // SAFETY: the caller's promise.
        unsafe { v.load_first(x, count) }
    }

    #[inline(always)]
    unsafe fn store<V: Vectors>(v: V, to: *mut Self, x: V::F32) {
        // SAFETY: the caller's promise.
        unsafe { v.store(to, x) };
    }

    #[inline(always)]
    unsafe fn store_two<V: Vectors>(v: V, to: *mut Self, x: [V::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            v.store(to, x[0]);
            v.store(to.add(V::LANES), x[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_first<V: Vectors>(v: V, to: *mut Self, x: V::F32, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { v.store_first(to, x, count) };
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

/// Room for a vector of any level.
const MOST_LANES: usize = 16;

impl Number for bf16 {
    type Product = Pairs;

    #[inline(always)]
    unsafe fn load<V: Vectors>(v: V, x: *const Self) -> V::F32 {
        // SAFETY: the caller's promise.
        unsafe { v.load_bf16(x.cast()) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vectors>(v: V, x: *const Self, count: usize) -> V::F32 {
        let mut padded = [0_u16; MOST_LANES];
        // SAFETY: `count` numbers are readable, and no vector is wider than `padded`.
        unsafe {
            padded.as_mut_ptr().copy_from_nonoverlapping(x.cast(), count);
            v.load_bf16(padded.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store<V: Vectors>(v: V, to: *mut Self, x: V::F32) {
        // SAFETY: the caller's promise.
        unsafe { v.store_bf16(to.cast(), x) };
    }

    #[inline(always)]
    unsafe fn store_two<V: Vectors>(v: V, to: *mut Self, x: [V::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe { v.store_two_bf16(to.cast(), x) };
    }

    #[inline(always)]
    unsafe fn store_first<V: Vectors>(v: V, to: *mut Self, x: V::F32, count: usize) {
        let mut padded = [0_u16; MOST_LANES];
        // SAFETY: no vector is wider than `padded`, and `count` numbers are writable.
        unsafe {
            v.store_bf16(padded.as_mut_ptr(), x);
            to.cast::<u16>().copy_from_nonoverlapping(padded.as_ptr(), count);
        }
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }
}

/// How a matrix product takes its numbers.
pub trait Product: Copy + Send + Sync + 'static {
    type Number: Number<Product = Self>;
    /// `DEPTH` numbers that lie beside each other along the sum, as one word.
    type Unit: Element + Default;
    /// A vector of units, ready to be multiplied.
    type Units<V: Vectors>: Copy;
    const DEPTH: usize;

    /// # Safety
    /// `LANES` units must be readable.
    unsafe fn load<V: Vectors>(v: V, x: *const Self::Unit) -> Self::Units<V>;
    fn splat<V: Vectors>(v: V, x: Self::Unit) -> Self::Units<V>;
    fn dot<V: Vectors>(v: V, acc: V::F32, a: Self::Units<V>, b: Self::Units<V>) -> V::F32;
    fn unit(numbers: &[Self::Number]) -> Self::Unit;
    /// 2ˣ as exactly as the numbers of this product deserve.
    fn exp2<V: Vectors>(v: V, x: V::F32) -> V::F32;
    /// 1 / (1 + e⁻ˣ), likewise.
    fn sigmoid<V: Vectors>(v: V, x: V::F32) -> V::F32;
}

/// f32 by f32.
#[derive(Clone, Copy)]
pub struct Singles;

impl Product for Singles {
    type Number = f32;
    type Unit = f32;
    type Units<V: Vectors> = V::F32;
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn load<V: Vectors>(v: V, x: *const f32) -> V::F32 {
        // SAFETY: the caller's promise.
        unsafe { v.load(x) }
    }

    #[inline(always)]
    fn splat<V: Vectors>(v: V, x: f32) -> V::F32 {
        v.splat(x)
    }

    #[inline(always)]
    fn dot<V: Vectors>(v: V, acc: V::F32, a: V::F32, b: V::F32) -> V::F32 {
        v.mul_add(a, b, acc)
    }

    #[inline(always)]
    fn unit(numbers: &[f32]) -> f32 {
        numbers.first().copied().unwrap_or_default()
    }

    #[inline(always)]
    fn exp2<V: Vectors>(v: V, x: V::F32) -> V::F32 {
        v.exp2(x)
    }

    #[inline(always)]
    fn sigmoid<V: Vectors>(v: V, x: V::F32) -> V::F32 {
        v.sigmoid(x)
    }
}

/// Two bf16 by two bf16, the first in the lower half of the word.
#[derive(Clone, Copy)]
pub struct Pairs;

impl Product for Pairs {
    type Number = bf16;
    type Unit = u32;
    type Units<V: Vectors> = V::Pairs;
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Vectors>(v: V, x: *const u32) -> V::Pairs {
        // SAFETY: the caller's promise.
        unsafe { v.load_pairs(x) }
    }

    #[inline(always)]
    fn splat<V: Vectors>(v: V, x: u32) -> V::Pairs {
        v.splat_pair(x)
    }

    #[inline(always)]
    fn dot<V: Vectors>(v: V, acc: V::F32, a: V::Pairs, b: V::Pairs) -> V::F32 {
        v.dot(acc, a, b)
    }

    #[inline(always)]
    fn unit(numbers: &[bf16]) -> u32 {
        let bits = |i| numbers.get(i).map_or(0, |x: &bf16| u32::from(x.to_bits()));
        bits(0) | bits(1) << 16
    }

    #[inline(always)]
    fn exp2<V: Vectors>(v: V, x: V::F32) -> V::F32 {
        v.exp2_coarse(x)
    }

    #[inline(always)]
    fn sigmoid<V: Vectors>(v: V, x: V::F32) -> V::F32 {
        v.sigmoid_coarse(x)
    }
}
