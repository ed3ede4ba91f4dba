//! The gradient of the rotation and of the RMSNorm before it.

use super::{HeadsShape, Rotation, Tokens};
use crate::aligned::with_scratch;
use crate::level::Simd;
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Vectors, Work};

/// The gradient of x of [`rotate`](super::rotate) from that of its result, head by head.
///
/// # Panics
/// When d is odd, there is no norm or a slice is too short.
pub fn rotate_backward<T: Number>(
    shape: HeadsShape,
    x: &Tokens<&[T]>,
    rotation: &Rotation<'_>,
    grad: &Tokens<&[T]>,
    out: &mut Tokens<&mut [T]>,
) {
    rotate_backward_on(Simd::active(), shape, x, rotation, grad, out);
}

pub(super) fn rotate_backward_on<T: Number>(
    simd: Simd,
    shape: HeadsShape,
    x: &Tokens<&[T]>,
    rotation: &Rotation<'_>,
    grad: &Tokens<&[T]>,
    out: &mut Tokens<&mut [T]>,
) {
    let HeadsShape { b, l, h, d } = shape;
    if [b, l, h, d].contains(&0) {
        return;
    }
    let Some((weight, eps)) = rotation.norm else { panic!("a rotation without a norm") };
    assert!(d.is_multiple_of(2), "heads of {d} numbers have no pairs");
    let reach = |stride, batch_stride| (b - 1) * batch_stride + (l - 1) * stride + h * d;
    assert!(x.data.len() >= reach(x.stride, x.batch_stride), "x is too short for {shape:?}");
    assert!(grad.data.len() >= reach(grad.stride, grad.batch_stride), "the gradient is too short");
    assert!(out.data.len() >= reach(out.stride, out.batch_stride), "out is too short");
    assert!(out.stride >= h * d && (b == 1 || out.batch_stride >= l * h * d), "tokens overlap");
    assert!(rotation.cos.len() >= l * d / 2 && rotation.sin.len() >= l * d / 2, "short tables");
    assert!(weight.len() == d, "the weight is not {d}");
    let (stride, batch_stride) = (out.stride, out.batch_stride);
    let out = SharedPtr::new(out.data);
    threads::parallel_for(b * l, |task| {
        let (b, token) = (task / l, task % l);
        // SAFETY: tokens of the result do not overlap.
        let out = unsafe { out.slice(b * batch_stride + token * stride, h * d) };
        let x = &x.data[b * x.batch_stride + token * x.stride..][..h * d];
        let grad = &grad.data[b * grad.batch_stride + token * grad.stride..][..h * d];
        with_scratch::<f32, _>(3 * d, |room| {
            let (straight, rest) = room.split_at_mut(d);
            let (crossed, turned) = rest.split_at_mut(d);
            fill_factors(rotation, token, weight, straight, crossed);
            vector::run(simd, Token { x, grad, eps, straight, crossed, turned, out });
        });
    });
}

/// The factors (d) of a gradient and of its partner in the rotated pair: the rotation back, then the norm's weight.
fn fill_factors(
    rotation: &Rotation<'_>,
    token: usize,
    weight: &[f32],
    straight: &mut [f32],
    crossed: &mut [f32],
) {
    let pairs = weight.len() / 2;
    for i in 0..pairs {
        let (cos, sin) = (rotation.cos[token * pairs + i], rotation.sin[token * pairs + i]);
        straight[2 * i] = cos * weight[2 * i];
        straight[2 * i + 1] = cos * weight[2 * i + 1];
        crossed[2 * i] = sin * weight[2 * i];
        crossed[2 * i + 1] = -sin * weight[2 * i + 1];
    }
}

/// All heads of one token.
struct Token<'a, T> {
    x: &'a [T],
    grad: &'a [T],
    eps: f32,
    straight: &'a [f32],
    crossed: &'a [f32],
    /// Room for a head.
    turned: &'a mut [f32],
    out: &'a mut [T],
}

impl<T: Number> Work for Token<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let d = self.straight.len();
        let heads = self.x.chunks_exact(d).zip(self.grad.chunks_exact(d));
        for ((x, grad), out) in heads.zip(self.out.chunks_exact_mut(d)) {
            let (mut square, mut along) = (v.splat(0.0), v.splat(0.0));
            let mut i = 0;
            while i < d {
                let left = d - i;
                // SAFETY: i < d, which all slices hold; LANES and d are even, so a pair is never cut.
                unsafe {
                    let x = T::load_up_to(v, x.as_ptr().add(i), left);
                    let grad = T::load_up_to(v, grad.as_ptr().add(i), left);
                    let straight = f32::load_up_to(v, self.straight.as_ptr().add(i), left);
                    let crossed = f32::load_up_to(v, self.crossed.as_ptr().add(i), left);
                    let partner = v.mul(v.swap_neighbours(grad), crossed);
                    let turned = v.mul_add(grad, straight, partner);
                    f32::store_up_to(v, self.turned.as_mut_ptr().add(i), turned, left);
                    square = v.mul_add(x, x, square);
                    along = v.mul_add(turned, x, along);
                }
                i += V::LANES;
            }
            let inverse = 1.0 / (v.sum(square) / d as f32 + self.eps).sqrt();
            let along = v.splat(v.sum(along) * inverse * inverse / d as f32);
            let mut i = 0;
            while i < d {
                let left = d - i;
                // SAFETY: as above.
                unsafe {
                    let x = T::load_up_to(v, x.as_ptr().add(i), left);
                    let turned = f32::load_up_to(v, self.turned.as_ptr().add(i), left);
                    let dx = v.mul(v.sub(turned, v.mul(x, along)), v.splat(inverse));
                    T::store_up_to(v, out.as_mut_ptr().add(i), dx, left);
                }
                i += V::LANES;
            }
        }
    }
}
