//! y = x · Wᵀ + b with a weight that is packed once, and what follows it in the same pass: LoRA, activation, gate and
//! residual. Numbers are f32, or bf16 whose products are summed in f32.
//!
//! Axis key: x is (rows, in), W (out, in), y (rows, out).

pub(crate) mod reference; // what is meant
mod product; // how a product is cut and who computes what
mod tile; // the innermost loops
#[cfg(target_arch = "x86_64")]
mod tiles; // how a product is cut for AMX
mod layout; // how packed weights lie in memory
mod widened; // products of bf16 in f32
mod panels; // weights packed, turned, or as they lie in memory
mod epilogue; // bias, activation, gate and residual
mod backward; // the gradient of the input

pub use backward::{LowRank, grad_input};
pub use epilogue::Gated;
pub(crate) use epilogue::{Finish, Output};
pub(crate) use layout::{LayOut, Layout, ROWS_AT_ONCE, parallel_panels};
pub(crate) use product::{Format, PANEL, Panels, Place, RightSide, Strip, multiply};

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;

use half::{bf16, f16};

use crate::Simd;
use crate::aligned::{Element, with_scratch};
use crate::elementwise::Activation;
use crate::rows::{Rows, RowsMut};
use crate::vector::{self, Number};
use panels::Packed;
use tile::Floats;
use widened::{Widened, widen};

/// The rows of a weight (out, in) as a checkpoint stores them.
#[derive(Debug, Clone, Copy)]
pub enum WeightRows<'a> {
    /// In bf16.
    Bf16(&'a [bf16]),
    /// In f16.
    F16(&'a [f16]),
    /// In f32.
    F32(&'a [f32]),
}

impl WeightRows<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bf16(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::F32(data) => data.len(),
        }
    }

    /// Writes the numbers from `start` on as `T`.
    pub(crate) fn read<T: Number>(&self, start: usize, numbers: &mut [T]) {
        let part = start..start + numbers.len();
        match self {
            Self::Bf16(data) => convert(&data[part], numbers, |x| T::from_f32(x.to_f32())),
            Self::F16(data) => convert(&data[part], numbers, |x| T::from_f32(x.to_f32())),
            Self::F32(data) => convert(&data[part], numbers, T::from_f32),
        }
    }
}

fn convert<A: Element, B: Element>(from: &[A], to: &mut [B], number: impl Fn(A) -> B) {
    if TypeId::of::<A>() == TypeId::of::<B>() {
        assert_eq!(from.len(), to.len(), "numbers of a row");
        // SAFETY: both are slices of the same type and length, and `to` is borrowed alone.
        unsafe { to.as_mut_ptr().cast::<A>().copy_from_nonoverlapping(from.as_ptr(), to.len()) };
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, from)| *to = number(*from));
}

/// A weight W (out, in) laid out for products with f32 or bf16 rows on one level. 64 outputs make a panel; the last is
/// filled with zeros.
#[derive(Debug)]
pub struct PackedLinear<T: Number> {
    weight: Packed<T>,
}

impl<T: Number> PackedLinear<T> {
    /// Packs `weight` for the active level, rounding it to `T`.
    ///
    /// # Panics
    /// When the length is not `out_features · in_features`.
    pub fn pack(weight: WeightRows<'_>, out_features: usize, in_features: usize) -> Self {
        Self::pack_on(Simd::active(), weight, out_features, in_features)
    }

    /// [`PackedLinear::pack`] for a level of the caller's choice, which products with it are then taken on.
    ///
    /// # Panics
    /// As said there.
    pub fn pack_on(
        simd: Simd,
        weight: WeightRows<'_>,
        out_features: usize,
        in_features: usize,
    ) -> Self {
        assert_eq!(weight.len(), out_features * in_features, "numbers of the weight");
        let read = |output: usize, to: &mut [T]| weight.read(output * in_features, to);
        Self { weight: Packed::new(simd, out_features, in_features, read) }
    }

    /// Packs the rows that `read(output, numbers)` writes, from all threads and in no order: row `output` and those after
    /// it, as many as `numbers` holds.
    pub fn from_rows(
        out_features: usize,
        in_features: usize,
        read: impl Fn(usize, &mut [T]) + Sync,
    ) -> Self {
        Self { weight: Packed::new(Simd::active(), out_features, in_features, read) }
    }

    /// Columns of y.
    pub fn out_features(&self) -> usize {
        self.weight.out_features()
    }

    /// Columns of x.
    pub fn in_features(&self) -> usize {
        self.weight.in_features()
    }

    /// Bytes of the packed weight.
    pub fn bytes(&self) -> usize {
        self.weight.bytes()
    }

    /// Writes row `output` of W, as it was packed.
    ///
    /// # Panics
    /// When there is no such row or `numbers` is not as long.
    pub fn unpack_row(&self, output: usize, numbers: &mut [T]) {
        assert!(output < self.out_features(), "row {output}");
        assert_eq!(numbers.len(), self.in_features(), "numbers of a row");
        self.weight.unpack_row(output, numbers);
    }
}

/// A low-rank update: y += scale · (x · downᵀ) · upᵀ, added in f32.
pub struct Lora<'a, T: Number> {
    /// A, (rank, in).
    pub down: &'a PackedLinear<T>,
    /// B, (out, rank).
    pub up: &'a PackedLinear<f32>,
    /// The user's weight times alpha / rank.
    pub scale: f32,
}

/// What follows a product in the same pass, in this order: LoRA, bias, activation, gate and residual.
pub struct Epilogue<'a, T: Number, Y> {
    /// Any number of updates.
    pub lora: &'a [Lora<'a, T>],
    /// (out)
    pub bias: Option<&'a [f32]>,
    /// The activation.
    pub activation: Option<Activation>,
    /// Gate and residual.
    pub gated: Option<Gated<'a, Y>>,
}

impl<T: Number, Y> Default for Epilogue<'_, T, Y> {
    fn default() -> Self {
        Self { lora: &[], bias: None, activation: None, gated: None }
    }
}

impl<T: Number, Y> fmt::Debug for Epilogue<'_, T, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Epilogue");
        f.field("lora", &self.lora.len()).field("bias", &self.bias.is_some());
        f.field("activation", &self.activation).field("gated", &self.gated.is_some()).finish()
    }
}

/// y = epilogue(x · Wᵀ), on the level that the weight is packed for.
///
/// # Panics
/// When the shapes disagree.
pub fn linear<T: Number, Y: Number>(
    x: Rows<'_, T>,
    weight: &PackedLinear<T>,
    epilogue: &Epilogue<'_, T, Y>,
    mut y: RowsMut<'_, Y>,
) {
    assert_eq!(y.rows(), x.rows(), "rows of y");
    assert_eq!(y.columns(), weight.out_features(), "columns of y");
    let simd = weight.weight.simd();
    let output = Output::new(&mut y).with(epilogue);
    let narrow: Vec<_> = epilogue.lora.iter().map(|lora| narrow(x, lora)).collect();
    let branches: Vec<_> = epilogue.lora.iter().zip(&narrow).map(Branch::of).collect();
    assert!(branches.iter().all(|branch| branch.columns() == weight.out_features()));
    let finish = |place: Place, sums: &mut [f32]| {
        branches.iter().for_each(|branch| branch.add_to(simd, place, sums));
        vector::run(simd, Finish { output: &output, place, sums });
    };
    let bf16_weight = (&weight.weight as &dyn Any).downcast_ref::<Packed<bf16>>();
    match bf16_weight.filter(|_| simd.widens_bf16()) {
        Some(weight) => {
            let wide = widen(simd, x);
            let x = Rows::strided(&wide, x.rows(), x.columns(), x.columns());
            multiply(simd, x, &Widened(weight), finish);
        }
        None => multiply::<Floats<T>, _>(simd, x, &weight.weight, finish),
    }
}

/// hidden (rows, rank) · matrix (rank, columns), to be added to a product.
pub(crate) struct Branch<'a, P> {
    hidden: Rows<'a, f32>,
    matrix: &'a P,
}

impl<'a> Branch<'a, Packed<f32>> {
    /// The wide half of a LoRA update.
    pub(crate) fn of<T: Number>((lora, hidden): (&Lora<'a, T>, &'a Vec<f32>)) -> Self {
        Self { hidden: Rows::new(hidden, lora.up.in_features()), matrix: &lora.up.weight }
    }
}

impl<P: Panels<Floats<f32>>> Branch<'_, P> {
    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.matrix.columns()
    }

    /// Adds it to a block of sums.
    pub(crate) fn add_to(&self, simd: Simd, place: Place, sums: &mut [f32]) {
        let rank = self.hidden.columns();
        let room = if P::COMPUTED { rank * PANEL } else { 0 };
        with_scratch(room, |scratch| {
            let panel = self.matrix.block(place.panel, 0..rank, scratch);
            assert!(sums.len() >= place.rows * PANEL && panel.len() == rank * PANEL);
            assert!(place.row + place.rows <= self.hidden.rows());
            let strip = Strip {
                x: self.hidden.as_ptr().wrapping_add(place.row * self.hidden.stride()),
                stride: self.hidden.stride(),
                rows: place.rows,
                words: rank,
                panel: panel.as_ptr(),
                sums: sums.as_mut_ptr(),
                add: true,
                lives: PhantomData,
            };
            // SAFETY: all three were just seen to be as long as the strip says.
            unsafe { Floats::<f32>::multiply(simd, strip) };
        });
    }
}

/// scale · x · downᵀ, (rows, rank)
pub(crate) fn narrow<T: Number>(x: Rows<'_, T>, lora: &Lora<'_, T>) -> Vec<f32> {
    let rank = lora.down.out_features();
    assert_eq!(lora.up.in_features(), rank, "rank of the second half of a LoRA update");
    let mut hidden = vec![0.0; x.rows() * rank];
    linear(x, lora.down, &Epilogue::default(), RowsMut::new(&mut hidden, rank));
    hidden.iter_mut().for_each(|x| *x *= lora.scale);
    hidden
}

#[cfg(test)]
mod tests; // every level against the plain loops
