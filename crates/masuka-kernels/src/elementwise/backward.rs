//! Gradients of GELU and of gated residuals, and the activation of rows that lie some stride apart.

use super::{Activation, TANH_CUBIC, TANH_SCALE};
use crate::level::Simd;
use crate::rows::{Rows, RowsMut};
use crate::threads::{self, SharedPtr};
use crate::token_blocks::sum_blocks;
use crate::vector::{self, Math, Number, Vectors, Work};

/// Numbers of a task, at least one row.
const CHUNK: usize = 8192;

/// out = GELU(x) by its tanh approximation, row by row.
///
/// # Panics
/// When the shapes differ.
pub fn gelu_tanh_rows<T: Number>(x: Rows<'_, T>, out: RowsMut<'_, T>) {
    gelu_on(Simd::active(), x, None, out);
}

/// dx = grad · GELU'(x) by its tanh approximation.
///
/// # Panics
/// When the shapes differ.
pub fn gelu_tanh_backward<T: Number>(x: Rows<'_, T>, grad: Rows<'_, T>, dx: RowsMut<'_, T>) {
    gelu_on(Simd::active(), x, Some(grad), dx);
}

/// GELU of x, or its gradient where one of the result is given.
pub(super) fn gelu_on<T: Number>(
    simd: Simd,
    x: Rows<'_, T>,
    grad: Option<Rows<'_, T>>,
    mut out: RowsMut<'_, T>,
) {
    let (rows, columns, stride) = (x.rows(), x.columns(), out.stride());
    assert_eq!((out.rows(), out.columns()), (rows, columns), "shape of the result");
    let fits = |grad: &Rows<'_, T>| (grad.rows(), grad.columns()) == (rows, columns);
    assert!(grad.as_ref().is_none_or(fits), "shape of the gradient");
    let rows_per_task = (CHUNK / columns.max(1)).max(1);
    let out = out.share();
    threads::parallel_for(rows.div_ceil(rows_per_task), |task| {
        let first = task * rows_per_task;
        for row in first..rows.min(first + rows_per_task) {
            // SAFETY: rows do not overlap.
            let out = unsafe { out.slice(row * stride, columns) };
            let grad = grad.map(|grad| grad.row(row));
            vector::run(simd, Gelu { x: x.row(row), grad, out });
        }
    });
}

struct Gelu<'a, T> {
    x: &'a [T],
    grad: Option<&'a [T]>,
    out: &'a mut [T],
}

impl<T: Number> Work for Gelu<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            let left = count - i;
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), left);
                let y = match self.grad {
                    None => Activation::GeluTanh.apply(v, x),
                    Some(grad) => {
                        let grad = T::load_up_to(v, grad.as_ptr().add(i), left);
                        v.mul(grad, slope(v, x))
                    }
                };
                T::store_up_to(v, self.out.as_mut_ptr().add(i), y, left);
            }
            i += V::LANES;
        }
    }
}

/// Of x · s(z) with z = scale · (x + cubic · x³): s + x · s · (1 - s) · z'.
#[inline(always)]
fn slope<V: Vectors>(v: V, x: V::F32) -> V::F32 {
    let one = v.splat(1.0);
    let square = v.mul(x, x);
    let z = v.mul(v.mul(x, v.splat(TANH_SCALE)), v.mul_add(square, v.splat(TANH_CUBIC), one));
    let share = v.sigmoid(z);
    let curve = v.mul_add(square, v.splat(3.0 * TANH_CUBIC), one);
    let rise = v.mul(v.mul(x, v.splat(TANH_SCALE)), curve);
    v.mul(share, v.mul_add(rise, v.sub(one, share), one))
}

/// Of out = x + gate · y: writes the gradient of y from that of the result, `grad` (b, l, d), and returns that of the
/// gate (b, d). That of x is `grad` itself.
///
/// # Panics
/// When the lengths disagree.
pub fn gated_backward<Y: Number>(
    grad: &[f32],
    gate: &[f32],
    y: &[f32],
    d: usize,
    dy: &mut [Y],
) -> Vec<f32> {
    gated_backward_on(Simd::active(), [grad, gate, y], d, dy)
}

pub(super) fn gated_backward_on<Y: Number>(
    simd: Simd,
    [grad, gate, y]: [&[f32]; 3],
    d: usize,
    dy: &mut [Y],
) -> Vec<f32> {
    assert_eq!(grad.len(), y.len(), "as many gradients as numbers");
    assert_eq!(dy.len(), y.len(), "as many numbers in as out");
    let rows = y.len().checked_div(d).unwrap_or(0);
    let b = gate.len().checked_div(d).unwrap_or(0);
    assert!(rows * d == y.len() && b * d == gate.len(), "rows of {d} numbers");
    assert!(b > 0 && rows.is_multiple_of(b), "{rows} rows for {b} gates");
    let (dy, length) = (SharedPtr::new(dy), rows / b);
    sum_blocks((b, length), d, |rows, dgate| {
        let gate = &gate[rows.start / length * d..][..d];
        for row in rows {
            let part = row * d..(row + 1) * d;
            // SAFETY: rows do not overlap.
            let dy = unsafe { dy.slice(part.start, d) };
            let (grad, y) = (&grad[part.clone()], &y[part]);
            vector::run(simd, GatedRow { grad, gate, y, dy, dgate });
        }
    })
}

struct GatedRow<'a, Y> {
    grad: &'a [f32],
    gate: &'a [f32],
    y: &'a [f32],
    dy: &'a mut [Y],
    dgate: &'a mut [f32],
}

impl<Y: Number> Work for GatedRow<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let count = self.dy.len();
        let mut i = 0;
        while i < count {
            let left = count - i;
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let grad = f32::load_up_to(v, self.grad.as_ptr().add(i), left);
                let gate = f32::load_up_to(v, self.gate.as_ptr().add(i), left);
                let y = f32::load_up_to(v, self.y.as_ptr().add(i), left);
                let dgate = self.dgate.as_mut_ptr().add(i);
                let sum = v.mul_add(grad, y, f32::load_up_to(v, dgate, left));
                f32::store_up_to(v, dgate, sum, left);
                Y::store_up_to(v, self.dy.as_mut_ptr().add(i), v.mul(grad, gate), left);
            }
            i += V::LANES;
        }
    }
}
