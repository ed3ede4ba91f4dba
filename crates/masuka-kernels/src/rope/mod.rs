//! Rotary position embedding over interleaved pairs (arXiv:2104.09864), alone or after the RMSNorm of queries and
//! keys, in one pass.
//!
//! Axis key: x is (b, l, h, d) with tokens `stride` numbers apart; tables are (l, d/2).

mod reference; // what is meant
mod backward; // the gradient, with that of the norm

pub use backward::rotate_backward;

use crate::aligned::with_scratch;
use crate::level::Simd;
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Vectors, Work};

/// Heads of tokens that lie in a row: (b, l, h, d).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadsShape {
    /// Batch.
    pub b: usize,
    /// Tokens.
    pub l: usize,
    /// Heads.
    pub h: usize,
    /// Width of a head, even.
    pub d: usize,
}

/// How heads are normalised and turned.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// The weight (d) and epsilon of an RMSNorm over each head beforehand.
    pub norm: Option<(&'a [f32], f32)>,
    /// Cosines of the angles, (l, d/2).
    pub cos: &'a [f32],
    /// Sines of the angles, (l, d/2).
    pub sin: &'a [f32],
}

/// Tokens in a slice, for reading or writing.
#[derive(Debug)]
pub struct Tokens<S> {
    /// The slice, from the first token on.
    pub data: S,
    /// Numbers from token to token, at least h · d; batch elements follow each other after l tokens.
    pub stride: usize,
    /// Numbers from batch element to batch element.
    pub batch_stride: usize,
}

/// Normalises (where asked to) and rotates every head of `x` into `out`, rounding once.
///
/// # Panics
/// When d is odd or a slice too short.
pub fn rotate<T: Number>(
    shape: HeadsShape,
    x: &Tokens<&[T]>,
    rotation: &Rotation<'_>,
    out: &mut Tokens<&mut [T]>,
) {
    rotate_on(Simd::active(), shape, x, rotation, out);
}

fn rotate_on<T: Number>(
    simd: Simd,
    shape: HeadsShape,
    x: &Tokens<&[T]>,
    rotation: &Rotation<'_>,
    out: &mut Tokens<&mut [T]>,
) {
    let HeadsShape { b, l, h, d } = shape;
    if [b, l, h, d].contains(&0) {
        return;
    }
    assert!(d.is_multiple_of(2), "heads of {d} numbers have no pairs");
    let reach = |stride, batch_stride| (b - 1) * batch_stride + (l - 1) * stride + h * d;
    assert!(x.data.len() >= reach(x.stride, x.batch_stride), "x is too short for {shape:?}");
    assert!(out.data.len() >= reach(out.stride, out.batch_stride), "out is too short");
    assert!(out.stride >= h * d && (b == 1 || out.batch_stride >= l * h * d), "tokens overlap");
    assert!(rotation.cos.len() >= l * d / 2 && rotation.sin.len() >= l * d / 2, "short tables");
    assert!(rotation.norm.is_none_or(|(weight, _)| weight.len() == d), "the weight is not {d}");
    let (stride, batch_stride) = (out.stride, out.batch_stride);
    let out = SharedPtr::new(out.data);
    threads::parallel_for(b * l, |task| {
        let (b, token) = (task / l, task % l);
        // SAFETY: tokens of the result do not overlap.
        let out = unsafe { out.slice(b * batch_stride + token * stride, h * d) };
        let x = &x.data[b * x.batch_stride + token * x.stride..][..h * d];
        with_scratch::<f32, _>(2 * d, |factors| {
            let (straight, crossed) = factors.split_at_mut(d);
            fill_factors(rotation, token, straight, crossed);
            let eps = rotation.norm.map(|(_, eps)| eps);
            vector::run(simd, RotateToken { x, eps, straight, crossed, out });
        });
    });
}

/// All heads of one token.
struct RotateToken<'a, T> {
    x: &'a [T],
    /// Of the norm, if there is one.
    eps: Option<f32>,
    straight: &'a [f32],
    crossed: &'a [f32],
    out: &'a mut [T],
}

impl<T: Number> Work for RotateToken<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let d = self.straight.len();
        for (x, out) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)) {
            let factor = match self.eps {
                Some(eps) => 1.0 / (mean_square(v, x) + eps).sqrt(),
                None => 1.0,
            };
            rotate_head(v, x, (self.straight, self.crossed), factor, out);
        }
    }
}

/// The factors (d) of a number and of its partner in the rotated pair, the norm's weight included.
fn fill_factors(rotation: &Rotation<'_>, token: usize, straight: &mut [f32], crossed: &mut [f32]) {
    let pairs = straight.len() / 2;
    let weight = |i: usize| rotation.norm.map_or(1.0, |(weight, _)| weight[i]);
    for i in 0..pairs {
        let (cos, sin) = (rotation.cos[token * pairs + i], rotation.sin[token * pairs + i]);
        straight[2 * i] = cos * weight(2 * i);
        straight[2 * i + 1] = cos * weight(2 * i + 1);
        crossed[2 * i] = -sin * weight(2 * i + 1);
        crossed[2 * i + 1] = sin * weight(2 * i);
    }
}

#[inline(always)]
fn rotate_head<V: Vectors, T: Number>(
    v: V,
    x: &[T],
    (straight, crossed): (&[f32], &[f32]),
    factor: f32,
    out: &mut [T],
) {
    let d = x.len();
    let mut i = 0;
    while i < d {
        // SAFETY: i < d, which all slices hold; LANES and d are even, so a pair is never cut.
        unsafe {
            let x = v.mul(T::load_up_to(v, x.as_ptr().add(i), d - i), v.splat(factor));
            let straight = f32::load_up_to(v, straight.as_ptr().add(i), d - i);
            let crossed = f32::load_up_to(v, crossed.as_ptr().add(i), d - i);
            let y = v.mul_add(v.swap_neighbours(x), crossed, v.mul(x, straight));
            T::store_up_to(v, out.as_mut_ptr().add(i), y, d - i);
        }
        i += V::LANES;
    }
}

/// The mean of x².
#[inline(always)]
pub(crate) fn mean_square<V: Vectors, T: Number>(v: V, x: &[T]) -> f32 {
    let d = x.len();
    let mut sum = v.splat(0.0);
    let mut i = 0;
    while i < d {
        // SAFETY: i < d.
        unsafe {
            let x = T::load_up_to(v, x.as_ptr().add(i), d - i);
            sum = v.mul_add(x, x, sum);
        }
        i += V::LANES;
    }
    v.sum(sum) / d as f32
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::testing::{Random, assert_close};

    fn check(simd: Simd, shape: HeadsShape, gap: usize, is_normed: bool) {
        let HeadsShape { b, l, h, d } = shape;
        let mut random = Random::new(7);
        let (stride, batch_stride) = (h * d + gap, l * (h * d + gap) + 3);
        let x16 = random.vec_bf16(b * batch_stride);
        let x: Vec<f32> = x16.iter().map(|x| x.to_f32()).collect();
        let angles: Vec<f32> = random.vec_f32(l * d / 2).iter().map(|x| 4.0 * x).collect();
        let weight = random.vec_f32(d);
        let cos: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
        let norm = is_normed.then_some((&*weight, 1e-6));
        let rotation = Rotation { norm, cos: &cos, sin: &sin };
        let expected = reference::rotate(shape, &x, (stride, batch_stride), &rotation);
        let case = format!("{simd:?} {shape:?} gap {gap} normed {is_normed}");

        let from = Tokens { data: &*x, stride, batch_stride };
        let mut y = vec![0.0; b * l * h * d];
        let mut to = Tokens { data: &mut *y, stride: h * d, batch_stride: l * h * d };
        rotate_on(simd, shape, &from, &rotation, &mut to);
        // A few roundings of numbers up to √d.
        assert_close(&y, &expected, |y| 1e-6 * y.abs() + 2e-6, &case);

        let from = Tokens { data: &*x16, stride, batch_stride };
        let mut y = vec![bf16::ZERO; b * l * h * d];
        let mut to = Tokens { data: &mut *y, stride: h * d, batch_stride: l * h * d };
        rotate_on(simd, shape, &from, &rotation, &mut to);
        let y: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
        assert_close(&y, &expected, |y| y.abs() / 256.0 + 2e-6, &case);
    }

    fn check_backward(simd: Simd, shape: HeadsShape, gap: usize) {
        let HeadsShape { b, l, h, d } = shape;
        let mut random = Random::new(8);
        let (stride, batch_stride) = (h * d + gap, l * (h * d + gap) + 3);
        let [x16, grad16] = [(); 2].map(|()| random.vec_bf16(b * batch_stride));
        let [x, grad] = [&x16, &grad16].map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>());
        let angles = random.vec_f32(l * d / 2);
        let weight = random.vec_f32(d);
        let cos: Vec<f32> = angles.iter().map(|x| (4.0 * x).cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|x| (4.0 * x).sin()).collect();
        let rotation = Rotation { norm: Some((&weight, 1e-6)), cos: &cos, sin: &sin };
        let strides = (stride, batch_stride);
        let expected = reference::rotate_backward(shape, (&x, &grad), strides, &rotation);
        let case = format!("{simd:?} {shape:?} gap {gap} backward");
        let tokens = |data| Tokens { data, stride, batch_stride };
        let mut dx = vec![0.0; b * l * h * d];
        let mut to = Tokens { data: &mut *dx, stride: h * d, batch_stride: l * h * d };
        backward::rotate_backward_on(
            simd,
            shape,
            &tokens(&*x),
            &rotation,
            &tokens(&*grad),
            &mut to,
        );
        // Heads of two numbers may be short, and are divided by their length.
        let bound = |y: f32| 1e-5 * y.abs() + if d == 2 { 1e-3 } else { 1e-5 };
        assert_close(&dx, &expected, bound, &case);

        let tokens = |data| Tokens { data, stride, batch_stride };
        let mut dx = vec![bf16::ZERO; b * l * h * d];
        let mut to = Tokens { data: &mut *dx, stride: h * d, batch_stride: l * h * d };
        let (x, grad) = (tokens(&*x16), tokens(&*grad16));
        backward::rotate_backward_on(simd, shape, &x, &rotation, &grad, &mut to);
        let dx: Vec<f32> = dx.iter().map(|y| y.to_f32()).collect();
        assert_close(&dx, &expected, |y| y.abs() / 256.0 + bound(y), &case);
    }

    #[test]
    fn the_gradient_agrees_with_the_definition_at_every_level() {
        for simd in Simd::supported() {
            for (b, l, h, d) in [(1, 1, 1, 2), (2, 3, 2, 64), (1, 5, 3, 128), (2, 4, 1, 38)] {
                for gap in [0, 5] {
                    check_backward(simd, HeadsShape { b, l, h, d }, gap);
                }
            }
        }
    }

    #[test]
    fn every_level_agrees_with_the_definition() {
        for simd in Simd::supported() {
            for (b, l, h, d) in [(1, 1, 1, 2), (2, 3, 2, 64), (1, 5, 3, 128), (2, 4, 1, 38)] {
                for (gap, is_normed) in [(0, false), (5, true)] {
                    check(simd, HeadsShape { b, l, h, d }, gap, is_normed);
                }
            }
        }
    }
}
