//! The right sides of products: weights packed once, the same weights read the other way round, and matrices as they
//! lie in memory.

use std::ops::Range;

use super::layout::{LayOut, Layout, ROWS_AT_ONCE, parallel_panels};
#[cfg(target_arch = "x86_64")]
use super::layout::{STEP, STEP_WORDS, TILE};
use super::product::{PANEL, Panels, RightSide};
use super::tile::Floats;
use crate::Simd;
use crate::aligned::{AlignedBuf, with_scratch};
use crate::rows::Rows;
use crate::vector::{self, Number, Product};
#[cfg(target_arch = "x86_64")]
use crate::vector::{Vectors, Work};

type Unit<T> = <<T as Number>::Product as Product>::Unit;

const fn group<T: Number>() -> usize {
    <T::Product as Product>::DEPTH
}

/// Wᵀ of a weight W (out, in), packed for a level.
#[derive(Debug)]
pub(crate) struct Packed<T: Number> {
    words: AlignedBuf<Unit<T>>,
    simd: Simd,
    layout: Layout,
    out_features: usize,
    in_features: usize,
}

impl<T: Number> Packed<T> {
    /// Packs the rows that `read(output, numbers)` writes: row `output` and those after it, as many as `numbers` holds.
    pub fn new(
        simd: Simd,
        out_features: usize,
        in_features: usize,
        read: impl Fn(usize, &mut [T]) + Sync,
    ) -> Self {
        let layout = Layout::new::<Floats<T>>(simd);
        let depth = layout.depth(in_features.div_ceil(group::<T>()));
        let panels = out_features.div_ceil(PANEL);
        let mut words = AlignedBuf::zeroed(panels * depth * PANEL);
        parallel_panels(&mut words, depth * PANEL, |panel, to| {
            with_scratch(ROWS_AT_ONCE * depth, |rows: &mut [Unit<T>]| {
                for column in (0..PANEL).step_by(ROWS_AT_ONCE) {
                    let output = panel * PANEL + column;
                    let count = ROWS_AT_ONCE.min(out_features.saturating_sub(output));
                    let (numbers, none) =
                        numbers_of_mut::<T>(rows).split_at_mut(count * depth * group::<T>());
                    read_rows(output, in_features, depth * group::<T>(), numbers, &read);
                    none.fill(T::default());
                    vector::run(simd, LayOut { layout, column, rows, depth, to: &mut *to });
                }
            });
        });
        Self { words, simd, layout, out_features, in_features }
    }

    /// The level it is packed for.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    pub fn out_features(&self) -> usize {
        self.out_features
    }

    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// The words `words` of panel `panel`, where they lie in panels.
    pub fn units(&self, panel: usize, words: Range<usize>) -> &[Unit<T>] {
        debug_assert_eq!(self.layout, Layout::Panels);
        let panel = panel * self.depth_words();
        &self.words[(panel + words.start) * PANEL..(panel + words.end) * PANEL]
    }

    fn depth_words(&self) -> usize {
        self.layout.depth(self.in_features.div_ceil(group::<T>()))
    }

    /// Writes row `output` of W.
    pub fn unpack_row(&self, output: usize, numbers: &mut [T]) {
        let depth = self.depth_words();
        for (word, numbers) in numbers.chunks_mut(group::<T>()).enumerate() {
            let unit = &self.words[self.layout.index(depth, output, word)];
            numbers.copy_from_slice(&numbers_of::<T>(unit)[..numbers.len()]);
        }
    }
}

/// Rows from `output` on, (rows, width), of whose numbers `in_features` are real and the others zero.
fn read_rows<T: Number>(
    output: usize,
    in_features: usize,
    width: usize,
    numbers: &mut [T],
    read: &impl Fn(usize, &mut [T]),
) {
    if width == in_features && !numbers.is_empty() {
        return read(output, numbers);
    }
    for (i, row) in numbers.chunks_exact_mut(width).enumerate() {
        let (row, rest) = row.split_at_mut(in_features);
        read(output + i, row);
        rest.fill(T::default());
    }
}

/// The numbers of a word.
fn numbers_of<T: Number>(unit: &Unit<T>) -> &[T] {
    const { assert!(size_of::<Unit<T>>() == size_of::<T>() * group::<T>()) };
    // SAFETY: a word is made of GROUP numbers, the first in its first bytes, and is aligned for them.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(unit).cast(), group::<T>()) }
}

/// The numbers of words.
fn numbers_of_mut<T: Number>(words: &mut [Unit<T>]) -> &mut [T] {
    const { assert!(size_of::<Unit<T>>() == size_of::<T>() * group::<T>()) };
    let len = words.len() * group::<T>();
    // SAFETY: a word is made of GROUP numbers and is aligned for them; any bits make a number and a word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}

impl<T: Number> Panels<Floats<T>> for Packed<T> {
    const COMPUTED: bool = false;

    fn columns(&self) -> usize {
        self.out_features
    }

    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        _: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        self.units(panel, words)
    }
}

impl<T: Number> RightSide<Floats<T>> for Packed<T> {
    fn depth(&self) -> usize {
        self.in_features
    }

    #[cfg(target_arch = "x86_64")]
    fn steps<'a>(
        &'a self,
        column: usize,
        steps: Range<usize>,
        _: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        debug_assert_eq!(self.layout, Layout::Steps);
        &self.words[Layout::steps(self.depth_words(), column, steps)]
    }
}

/// W (out, in) itself as the right side, read from the packing of Wᵀ: for dX = dY · W.
pub(crate) struct Turned<'a, T: Number>(pub &'a Packed<T>);

impl<T: Number> Panels<Floats<T>> for Turned<'_, T> {
    const COMPUTED: bool = true;

    fn columns(&self) -> usize {
        self.0.in_features
    }

    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        scratch: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        debug_assert_eq!(self.0.layout, Layout::Panels);
        let group = group::<T>();
        let depth = self.0.depth_words();
        let scratch = &mut scratch[..words.len() * PANEL];
        scratch.fill(Unit::<T>::default());
        // The inputs of this panel by words of the packing; `PANEL` is a whole number of words.
        let inputs = panel * PANEL / group..((panel + 1) * PANEL / group).min(depth);
        for (i, word) in words.enumerate() {
            let output = word * group;
            let packed = output / PANEL * depth * PANEL + output % PANEL;
            let to = &mut scratch[i * PANEL..(i + 1) * PANEL];
            for (input, to) in inputs.clone().zip(to.chunks_exact_mut(group)) {
                // The same inputs of `group` outputs that lie beside each other.
                let from = &self.0.words[packed + input * PANEL..][..group];
                turn::<T>(from, to);
            }
        }
        scratch
    }
}

impl<T: Number> RightSide<Floats<T>> for Turned<'_, T> {
    fn depth(&self) -> usize {
        self.0.out_features
    }

    /// A step of W is one of Wᵀ turned.
    #[cfg(target_arch = "x86_64")]
    fn steps<'a>(
        &'a self,
        column: usize,
        steps: Range<usize>,
        scratch: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        debug_assert_eq!(self.0.layout, Layout::Steps);
        let depth = self.0.depth_words();
        let scratch = &mut scratch[..steps.len() * STEP_WORDS];
        for (step, to) in steps.zip(scratch.chunks_exact_mut(STEP_WORDS)) {
            // The last panel of inputs may end after one column of steps.
            if (column + 1) * TILE <= depth {
                let from = &self.0.words[Layout::steps(depth, step, column..column + 1)];
                vector::run(self.0.simd, Turn::<T> { from, to });
            } else {
                to.fill(Unit::<T>::default());
            }
        }
        scratch
    }
}

/// Transposes a square of `group` numbers.
#[inline(always)]
fn turn<T: Number>(from: &[Unit<T>], to: &mut [Unit<T>]) {
    for (i, to) in to.iter_mut().enumerate() {
        let mut numbers = [T::default(); 2];
        for (number, from) in numbers.iter_mut().zip(from) {
            *number = numbers_of::<T>(from)[i];
        }
        *to = T::Product::unit(&numbers[..from.len()]);
    }
}

impl<T: Number> Panels<Floats<T>> for Rows<'_, T> {
    const COMPUTED: bool = true;

    fn columns(&self) -> usize {
        Rows::columns(self)
    }

    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        scratch: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        let group = group::<T>();
        let columns = panel * PANEL..((panel + 1) * PANEL).min(Rows::columns(self));
        let scratch = &mut scratch[..words.len() * PANEL];
        scratch.fill(Unit::<T>::default());
        for (word, to) in words.zip(scratch.chunks_exact_mut(PANEL)) {
            let rows = word * group..((word + 1) * group).min(self.rows());
            for (i, to) in columns.clone().zip(to) {
                let mut numbers = [T::default(); 2];
                for (number, row) in numbers.iter_mut().zip(rows.clone()) {
                    *number = self.row(row)[i];
                }
                *to = T::Product::unit(&numbers[..group]);
            }
        }
        scratch
    }
}

/// A step of W, (out, in), from one of Wᵀ: 32 by 32 numbers in pairs.
#[cfg(target_arch = "x86_64")]
struct Turn<'a, T: Number> {
    from: &'a [Unit<T>],
    to: &'a mut [Unit<T>],
}

#[cfg(target_arch = "x86_64")]
impl<T: Number> Work for Turn<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        const { assert!(STEP_WORDS == 2 * TILE * TILE) };
        assert!(self.from.len() == STEP_WORDS && self.to.len() == STEP_WORDS);
        // Outputs row by row: (32, 32) numbers.
        let mut rows = [[0_u32; TILE]; STEP];
        let from = self.from.as_ptr().cast::<u32>();
        for tile in 0..2 {
            for row in (0..TILE).step_by(V::LANES) {
                for column in (0..TILE).step_by(V::LANES) {
                    // SAFETY: a tile is sixteen by sixteen words, which vectors divide.
                    unsafe {
                        let from = from.add((tile * TILE + row) * TILE + column);
                        let to = rows.as_mut_ptr().add(tile * TILE + column).cast::<u32>().add(row);
                        v.transpose(from, TILE, to, TILE);
                    }
                }
            }
        }
        // SAFETY: 32 rows of 16 words are as many of 32 numbers of two bytes.
        let rows: &[[u16; STEP]; STEP] = unsafe { &*(&raw const rows).cast() };
        let to = self.to.as_mut_ptr().cast::<[[u16; 2]; TILE]>();
        for (i, pair) in rows.chunks_exact(2).enumerate() {
            for tile in 0..2 {
                let mut words = [[0; 2]; TILE];
                for (j, word) in words.iter_mut().enumerate() {
                    *word = [pair[0][tile * TILE + j], pair[1][tile * TILE + j]];
                }
                // SAFETY: word i of each tile is sixteen pairs.
                unsafe { to.add(tile * TILE + i).write(words) };
            }
        }
    }
}
