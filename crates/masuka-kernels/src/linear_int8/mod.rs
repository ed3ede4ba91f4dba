//! y = x · Wᵀ + b in int8: weights quantised once, each output by its own scale, and rows of x while they are used,
//! each by its own scale and offset. Sums are exact, in i32; what follows is done in f32 as in [`linear`](crate::linear).
//!
//! Axis key: x is (rows, in), W (out, in), y (rows, out).

mod reference; // what is meant
mod quantize; // rows of x and of W as bytes
mod tile; // the innermost loop, over what each level can do with bytes
mod portable; // multiplications one by one
#[cfg(target_arch = "x86_64")]
mod avx2; // bytes widened to 16 bits
#[cfg(target_arch = "x86_64")]
mod avx512; // four products in one instruction (VNNI)

use std::ops::Range;

use crate::Simd;
use crate::aligned::{AlignedBuf, with_scratch};
use crate::linear::{
    Branch, Epilogue, Finish, LayOut, Layout, Output, PANEL, Panels, Place, ROWS_AT_ONCE,
    RightSide, WeightRows, multiply, narrow, parallel_panels,
};
use crate::rows::{Rows, RowsMut};
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Vectors, Work};
use quantize::{RowScale, quantize_row, quantize_weight_row};
use tile::Bytes4;

/// More numbers along a sum could overflow 31 bits: 255 · 127 · 65,536 < 2³¹.
const MOST_IN_FEATURES: usize = 65_536;

/// A weight W (out, in) in int8 and its scales, packed as [`PackedLinear`](crate::linear::PackedLinear) is.
#[derive(Debug)]
pub struct PackedInt8 {
    /// A word is four inputs.
    words: AlignedBuf<u32>,
    simd: Simd,
    layout: Layout,
    out_features: usize,
    in_features: usize,
    /// w ≈ scale · q
    scales: Vec<f32>,
    /// Σ q of each output, which an offset of x adds to a sum.
    sums: Vec<i32>,
}

impl PackedInt8 {
    /// Quantises and packs `weight` for the active level.
    ///
    /// # Panics
    /// When the length is not `out_features · in_features` or rows are longer than 65,536.
    pub fn pack(weight: WeightRows<'_>, out_features: usize, in_features: usize) -> Self {
        Self::pack_on(Simd::active(), weight, out_features, in_features)
    }

    /// [`PackedInt8::pack`] for a level of the caller's choice, which products with it are then taken on.
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
        let read = |output: usize, to: &mut [f32]| weight.read(output * in_features, to);
        Self::new(simd, out_features, in_features, read)
    }

    /// Quantises and packs the rows that `read(output, numbers)` writes, from all threads and in no order: row `output` and
    /// those after it, as many as `numbers` holds.
    ///
    /// # Panics
    /// When rows are longer than 65,536.
    pub fn from_rows(
        out_features: usize,
        in_features: usize,
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        Self::new(Simd::active(), out_features, in_features, read)
    }

    fn new(
        simd: Simd,
        out_features: usize,
        in_features: usize,
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        assert!(in_features <= MOST_IN_FEATURES, "{in_features} inputs");
        let layout = Layout::new::<Bytes4>(simd);
        let depth = layout.depth(in_features.div_ceil(4));
        let panels = out_features.div_ceil(PANEL);
        let mut words = AlignedBuf::zeroed(panels * depth * PANEL);
        let (mut scales, mut sums) = (vec![0.0; out_features], vec![0; out_features]);
        let (to_scales, to_sums) = (SharedPtr::new(&mut scales), SharedPtr::new(&mut sums));
        parallel_panels(&mut words, depth * PANEL, |panel, to| {
            with_scratch(ROWS_AT_ONCE * in_features, |numbers: &mut [f32]| {
                with_scratch(ROWS_AT_ONCE * depth, |rows: &mut [u32]| {
                    for column in (0..PANEL).step_by(ROWS_AT_ONCE) {
                        let first = panel * PANEL + column;
                        let count = ROWS_AT_ONCE.min(out_features.saturating_sub(first));
                        if count > 0 {
                            read(first, &mut numbers[..count * in_features]);
                        }
                        rows.fill(0);
                        let numbers = numbers.chunks_exact(in_features.max(1));
                        let words = rows.chunks_exact_mut(depth.max(1));
                        for (i, (row, words)) in numbers.zip(words).take(count).enumerate() {
                            let (scale, sum) = quantize_weight_row(simd, row, bytes_of(words));
                            // SAFETY: the output is below `out_features`, and no other task has this panel.
                            unsafe {
                                *to_scales.at(first + i) = scale;
                                *to_sums.at(first + i) = sum;
                            }
                        }
                        vector::run(simd, LayOut { layout, column, rows, depth, to: &mut *to });
                    }
                });
            });
        });
        Self { words, simd, layout, out_features, in_features, scales, sums }
    }

    /// Columns of y.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Columns of x.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Bytes of the packed weight.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    fn depth_words(&self) -> usize {
        self.layout.depth(self.in_features.div_ceil(4))
    }
}

/// The bytes of words.
fn bytes_of(words: &mut [u32]) -> &mut [i8] {
    // SAFETY: a word is four bytes, and any bits make a byte and a word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 4) }
}

impl Panels<Bytes4> for PackedInt8 {
    const COMPUTED: bool = false;

    fn columns(&self) -> usize {
        self.out_features
    }

    fn block<'a>(&'a self, panel: usize, words: Range<usize>, _: &'a mut [u32]) -> &'a [u32] {
        debug_assert_eq!(self.layout, Layout::Panels);
        let panel = panel * self.depth_words();
        &self.words[(panel + words.start) * PANEL..(panel + words.end) * PANEL]
    }
}

impl RightSide<Bytes4> for PackedInt8 {
    fn depth(&self) -> usize {
        self.in_features.next_multiple_of(4)
    }

    #[cfg(target_arch = "x86_64")]
    fn steps<'a>(&'a self, column: usize, steps: Range<usize>, _: &'a mut [u32]) -> &'a [u32] {
        debug_assert_eq!(self.layout, Layout::Steps);
        &self.words[Layout::steps(self.depth_words(), column, steps)]
    }
}

/// y = epilogue(x · Wᵀ) for a weight in int8, on the level that it is packed for.
///
/// # Panics
/// When the shapes disagree.
pub fn linear_int8<T: Number, Y: Number>(
    x: Rows<'_, T>,
    weight: &PackedInt8,
    epilogue: &Epilogue<'_, T, Y>,
    mut y: RowsMut<'_, Y>,
) {
    let simd = weight.simd;
    assert_eq!(x.columns(), weight.in_features, "numbers of a row of x");
    assert_eq!(y.rows(), x.rows(), "rows of y");
    assert_eq!(y.columns(), weight.out_features, "columns of y");
    let output = Output::new(&mut y).with(epilogue);
    let narrow: Vec<_> = epilogue.lora.iter().map(|lora| narrow(x, lora)).collect();
    let branches: Vec<_> = epilogue.lora.iter().zip(&narrow).map(Branch::of).collect();
    assert!(branches.iter().all(|branch| branch.columns() == weight.out_features));
    quantized(simd, x, |bytes, scales| {
        multiply::<Bytes4, _>(simd, bytes, weight, |place, sums| {
            let sums = vector::run(simd, Dequantize { weight, place, scales, sums });
            branches.iter().for_each(|branch| branch.add_to(simd, place, sums));
            vector::run(simd, Finish { output: &output, place, sums });
        });
    });
}

/// Lends `task` the rows of `x` as bytes, filled up to whole words, with their scales.
fn quantized<T: Number>(simd: Simd, x: Rows<'_, T>, task: impl FnOnce(Rows<'_, u8>, &[RowScale])) {
    let width = x.columns().next_multiple_of(4);
    let mut scales = vec![RowScale::default(); x.rows()];
    with_scratch(x.rows() * width, |bytes: &mut [u8]| {
        let to = SharedPtr::new(bytes);
        threads::parallel_chunks(&mut scales, 1, |i, scale| {
            // SAFETY: row i is one task's alone.
            let bytes = unsafe { to.slice(i * width, width) };
            scale[0] = quantize_row(simd, x.row(i), bytes);
        });
        task(Rows::strided(bytes, x.rows(), width, width), &scales);
    });
}

/// Sums of bytes as sums of numbers, in place.
struct Dequantize<'a> {
    weight: &'a PackedInt8,
    place: Place,
    scales: &'a [RowScale],
    sums: &'a mut [i32],
}

impl<'a> Work for Dequantize<'a> {
    type Output = &'a mut [f32];

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> &'a mut [f32] {
        let Place { row, rows, panel, columns } = self.place;
        let part = panel * PANEL..panel * PANEL + columns;
        let (scales, offsets) = (&self.weight.scales[part.clone()], &self.weight.sums[part]);
        let rows = self.sums.chunks_exact_mut(PANEL).zip(&self.scales[row..row + rows]);
        for (sums, x) in rows {
            for ((sum, scale), offset) in sums.iter_mut().zip(scales).zip(offsets) {
                let number = (*sum - x.offset * offset) as f32 * (x.scale * scale);
                *sum = number.to_bits().cast_signed();
            }
        }
        // SAFETY: i32 and f32 have the same size and alignment, and every i32 is the bits of an f32.
        unsafe { std::slice::from_raw_parts_mut(self.sums.as_mut_ptr().cast(), self.sums.len()) }
    }
}

#[cfg(test)]
mod tests; // every level against the plain loops
