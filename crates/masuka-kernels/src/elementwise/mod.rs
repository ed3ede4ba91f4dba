//! Functions of one number after another: activations, sums, gated residuals. Computed in f32 and rounded once.

mod reference; // what is meant
mod backward; // gradients of GELU and gated residuals

pub use backward::{gated_backward, gelu_tanh_backward, gelu_tanh_rows};

use crate::level::Simd;
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Math, Number, Vectors, Work};

/// Numbers of a task: a few microseconds of work, 32 KiB of f32.
const CHUNK: usize = 8192;

/// √(2/π) · 2
const TANH_SCALE: f32 = 1.595_769_2;
/// The cubic term of the tanh approximation of GELU (arXiv:1606.08415).
const TANH_CUBIC: f32 = 0.044_715;

/// The activations that checkpoints name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// GELU by its tanh approximation, to 1e-6 relative (`gelu_new`, `gelu-approximate`).
    GeluTanh,
    /// GELU by the error function, to 3e-7 · |x| absolute (`gelu`).
    GeluErf,
    /// x · sigmoid(1.702 x), CLIP's GELU.
    QuickGelu,
    /// x · sigmoid(x), also called swish.
    Silu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GeluTanh, Self::GeluErf, Self::QuickGelu, Self::Silu];

    #[inline(always)]
    pub(crate) fn apply<V: Vectors>(self, v: V, x: V::F32) -> V::F32 {
        let share = match self {
            // (1 + tanh(z)) / 2 = sigmoid(2z)
            Self::GeluTanh => {
                let cubic = v.mul_add(v.mul(x, x), v.splat(TANH_CUBIC), v.splat(1.0));
                v.sigmoid(v.mul(v.mul(x, v.splat(TANH_SCALE)), cubic))
            }
            Self::GeluErf => v.normal_cdf(x),
            Self::QuickGelu => v.sigmoid(v.mul(x, v.splat(1.702))),
            Self::Silu => v.sigmoid(x),
        };
        v.mul(x, share)
    }
}

/// out = activation(x)
///
/// # Panics
/// When the lengths differ.
pub fn activate<T: Number>(activation: Activation, x: &[T], out: &mut [T]) {
    each(Simd::active(), Function::Activate(activation), [x, x], out);
}

/// out = x + y
///
/// # Panics
/// When the lengths differ.
pub fn add<T: Number>(x: &[T], y: &[T], out: &mut [T]) {
    each(Simd::active(), Function::Add, [x, y], out);
}

/// out = activation(x) · y, of gated feed-forward layers; the activation is not rounded in between.
///
/// # Panics
/// When the lengths differ.
pub fn activate_and_multiply<T: Number>(activation: Activation, x: &[T], y: &[T], out: &mut [T]) {
    each(Simd::active(), Function::ActivateAndMultiply(activation), [x, y], out);
}

/// out = x + gate · y for x and y (b, l, d) and gate (b, d).
///
/// # Panics
/// When the lengths disagree.
pub fn gated_add<T: Number>(x: &[T], gate: &[T], y: &[T], d: usize, out: &mut [T]) {
    gated_add_on(Simd::active(), [x, gate, y], d, out);
}

/// What is done with x and y.
#[derive(Debug, Clone, Copy)]
enum Function {
    Activate(Activation),
    Add,
    ActivateAndMultiply(Activation),
}

fn each<T: Number>(simd: Simd, function: Function, [x, y]: [&[T]; 2], out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "as many numbers in as out");
    assert_eq!(y.len(), out.len(), "as many numbers in as out");
    threads::parallel_chunks(out, CHUNK, |i, out| {
        let part = i * CHUNK..i * CHUNK + out.len();
        vector::run(simd, Each { function, x: &x[part.clone()], y: &y[part], out });
    });
}

struct Each<'a, T> {
    function: Function,
    x: &'a [T],
    y: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> Work for Each<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        // One loop a function, so that nothing is asked inside.
        match self.function {
            Function::Add => self.add(v),
            Function::Activate(Activation::GeluTanh) => self.activate(v, Activation::GeluTanh),
            Function::Activate(Activation::GeluErf) => self.activate(v, Activation::GeluErf),
            Function::Activate(Activation::QuickGelu) => self.activate(v, Activation::QuickGelu),
            Function::Activate(Activation::Silu) => self.activate(v, Activation::Silu),
            Function::ActivateAndMultiply(activation) => self.activate_and_multiply(v, activation),
        }
    }
}

impl<T: Number> Each<'_, T> {
    #[inline(always)]
    fn activate<V: Vectors>(self, v: V, activation: Activation) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), count - i);
                let to = self.out.as_mut_ptr().add(i);
                T::store_up_to(v, to, activation.apply(v, x), count - i);
            }
            i += V::LANES;
        }
    }

    #[inline(always)]
    fn add<V: Vectors>(self, v: V) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), count - i);
                let y = T::load_up_to(v, self.y.as_ptr().add(i), count - i);
                T::store_up_to(v, self.out.as_mut_ptr().add(i), v.add(x, y), count - i);
            }
            i += V::LANES;
        }
    }

    #[inline(always)]
    fn activate_and_multiply<V: Vectors>(self, v: V, activation: Activation) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), count - i);
                let y = T::load_up_to(v, self.y.as_ptr().add(i), count - i);
                let y = v.mul(activation.apply(v, x), y);
                T::store_up_to(v, self.out.as_mut_ptr().add(i), y, count - i);
            }
            i += V::LANES;
        }
    }
}

fn gated_add_on<T: Number>(simd: Simd, [x, gate, y]: [&[T]; 3], d: usize, out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "as many numbers in as out");
    assert_eq!(y.len(), out.len(), "as many numbers in as out");
    let rows = out.len().checked_div(d).unwrap_or(0);
    let b = gate.len().checked_div(d).unwrap_or(0);
    assert!(rows * d == out.len() && b * d == gate.len(), "rows of {d} numbers");
    assert!(b > 0 && rows.is_multiple_of(b), "{rows} rows for {b} gates");
    let rows_per_gate = rows / b;
    let out = SharedPtr::new(out);
    threads::parallel_for(rows, |row| {
        let part = row * d..(row + 1) * d;
        let gate = &gate[row / rows_per_gate * d..][..d];
        // SAFETY: rows do not overlap.
        let out = unsafe { out.slice(part.start, d) };
        vector::run(simd, GatedRow { x: &x[part.clone()], gate, y: &y[part], out });
    });
}

struct GatedRow<'a, T> {
    x: &'a [T],
    gate: &'a [T],
    y: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> Work for GatedRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), count - i);
                let gate = T::load_up_to(v, self.gate.as_ptr().add(i), count - i);
                let y = T::load_up_to(v, self.y.as_ptr().add(i), count - i);
                let to = self.out.as_mut_ptr().add(i);
                T::store_up_to(v, to, v.mul_add(gate, y, x), count - i);
            }
            i += V::LANES;
        }
    }
}

#[cfg(test)]
mod tests; // every level against the plain loops
