//! Eight lanes as an array.

use super::Vectors;

/// What every processor has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 8;
type F32 = [f32; LANES];

/// Adding and subtracting it leaves an integer, since f32 has 24 bits.
const ROUNDER: f32 = 12_582_912.0;

#[inline(always)]
fn each(a: F32, b: F32, f: impl Fn(f32, f32) -> f32) -> F32 {
    let mut y = a;
    for i in 0..LANES {
        y[i] = f(a[i], b[i]);
    }
    y
}

impl Vectors for Portable {
    const LANES: usize = LANES;
    const PANEL: usize = 1;
    const EXP2_FLOOR: f32 = -127.0;
    type F32 = F32;
    /// The first and the second of each pair.
    type Pairs = (F32, F32);

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> F32 {
        // SAFETY: the caller's promise.
        unsafe { x.cast::<F32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> F32 {
        let mut y = [0.0; LANES];
        for (i, y) in y.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's promise.
            *y = unsafe { x.add(i).read_unaligned() };
        }
        y
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: F32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<F32>().write_unaligned(x) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: F32, count: usize) {
        for (i, x) in x.into_iter().enumerate().take(count) {
            // SAFETY: the caller's promise.
            unsafe { to.add(i).write_unaligned(x) };
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> F32 {
        // SAFETY: the caller's promise.
        let bits = unsafe { x.cast::<[u16; LANES]>().read_unaligned() };
        let mut y = [0.0; LANES];
        for i in 0..LANES {
            y[i] = f32::from_bits(u32::from(bits[i]) << 16);
        }
        y
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: F32) {
        let mut bits = [0; LANES];
        for i in 0..LANES {
            bits[i] = half::bf16::from_f32(x[i]).to_bits();
        }
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) };
    }

    #[inline(always)]
    fn add(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: F32, b: F32, c: F32) -> F32 {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self, x: F32) -> F32 {
        each(x, x, |x, _| (x + ROUNDER) - ROUNDER)
    }

    #[inline(always)]
    fn scale_by_power(self, x: F32, n: F32) -> F32 {
        each(x, n, |x, n| x * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn copy_sign(self, x: F32, sign: F32) -> F32 {
        each(x, sign, f32::copysign)
    }

    #[inline(always)]
    fn swap_neighbours(self, x: F32) -> F32 {
        [x[1], x[0], x[3], x[2], x[5], x[4], x[7], x[6]]
    }

    #[inline(always)]
    fn sum(self, x: F32) -> f32 {
        let [a, b, c, d, e, f, g, h] = x;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn maximum(self, x: F32) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const u32) -> Self::Pairs {
        // SAFETY: the caller's promise.
        let bits = unsafe { x.cast::<[u32; LANES]>().read_unaligned() };
        let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            first[i] = f32::from_bits(bits[i] << 16);
            second[i] = f32::from_bits(bits[i] & 0xFFFF_0000);
        }
        (first, second)
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        (self.splat(f32::from_bits(x << 16)), self.splat(f32::from_bits(x & 0xFFFF_0000)))
    }

    #[inline(always)]
    fn dot(self, acc: F32, a: Self::Pairs, b: Self::Pairs) -> F32 {
        self.mul_add(a.1, b.1, self.mul_add(a.0, b.0, acc))
    }
}
