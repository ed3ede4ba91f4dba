//! The right sides of products: weights packed once, the same weights read the other way round, and matrices as they
//! lie in memory.

use std::ops::Range;

use super::product::{PANEL, Panels};
use super::tile::Floats;
use crate::Simd;
use crate::aligned::{AlignedBuf, with_scratch};
use crate::rows::Rows;
use crate::threads;
use crate::vector::{self, Number, Product, Vectors, Work};

type Unit<T> = <<T as Number>::Product as Product>::Unit;

const fn group<T: Number>() -> usize {
    <T::Product as Product>::DEPTH
}

/// Wᵀ of a weight W (out, in), packed: panel by panel, word by word along `in`, `PANEL` outputs beside each other.
#[derive(Debug)]
pub(crate) struct Packed<T: Number> {
    words: AlignedBuf<Unit<T>>,
    out_features: usize,
    in_features: usize,
}

impl<T: Number> Packed<T> {
    /// Packs the rows that `row(output, numbers)` writes.
    pub fn new(
        out_features: usize,
        in_features: usize,
        row: impl Fn(usize, &mut [T]) + Sync,
    ) -> Self {
        let depth = in_features.div_ceil(group::<T>());
        let panels = out_features.div_ceil(PANEL);
        let simd = Simd::active();
        let mut words = AlignedBuf::zeroed(panels * depth * PANEL);
        threads::parallel_chunks(&mut words, (depth * PANEL).max(1), |panel, to| {
            with_scratch(PANEL * depth, |rows: &mut [Unit<T>]| {
                let outputs = PANEL.min(out_features - panel * PANEL);
                for (column, words) in rows.chunks_exact_mut(depth.max(1)).enumerate() {
                    let (numbers, rest) = numbers_of_mut::<T>(words).split_at_mut(in_features);
                    if column < outputs {
                        row(panel * PANEL + column, numbers);
                    } else {
                        numbers.fill(T::default());
                    }
                    rest.fill(T::default());
                }
                vector::run(simd, Transpose { rows, depth, to });
            });
        });
        Self { words, out_features, in_features }
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

    fn depth_words(&self) -> usize {
        self.in_features.div_ceil(group::<T>())
    }

    /// Writes row `output` of W.
    pub fn unpack_row(&self, output: usize, numbers: &mut [T]) {
        let panel = output / PANEL * self.depth_words() * PANEL;
        let units = self.words[panel + output % PANEL..].iter().step_by(PANEL);
        for (numbers, unit) in numbers.chunks_mut(group::<T>()).zip(units) {
            numbers.copy_from_slice(&numbers_of::<T>(unit)[..numbers.len()]);
        }
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

/// `PANEL` rows of `depth` words of four bytes as one panel.
pub(crate) struct Transpose<'a, W> {
    pub rows: &'a [W],
    pub depth: usize,
    pub to: &'a mut [W],
}

impl<W> Work for Transpose<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { rows, depth, to } = self;
        assert!(rows.len() == PANEL * depth && to.len() == PANEL * depth);
        const { assert!(size_of::<W>() == size_of::<u32>()) };
        let from = rows.as_ptr().cast::<u32>();
        let to = to.as_mut_ptr().cast::<u32>();
        let whole = depth / V::LANES * V::LANES;
        for column in (0..PANEL).step_by(V::LANES) {
            for word in (0..whole).step_by(V::LANES) {
                // SAFETY: `LANES` rows from `column` hold `LANES` words from `word`, and the panel has their places.
                unsafe {
                    let from = from.add(column * depth + word);
                    v.transpose(from, depth, to.add(word * PANEL + column), PANEL);
                }
            }
        }
        for column in 0..PANEL {
            for word in whole..depth {
                // SAFETY: as above.
                unsafe {
                    *to.add(word * PANEL + column) = *from.add(column * depth + word);
                }
            }
        }
    }
}

impl<T: Number> Panels<Floats<T>> for Packed<T> {
    const COMPUTED: bool = false;

    fn depth(&self) -> usize {
        self.in_features
    }

    fn columns(&self) -> usize {
        self.out_features
    }

    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        _: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
        let panel = panel * self.depth_words();
        &self.words[(panel + words.start) * PANEL..(panel + words.end) * PANEL]
    }
}

/// W (out, in) itself as the right side, read from the packing of Wᵀ: for dX = dY · W.
pub(crate) struct Turned<'a, T: Number>(pub &'a Packed<T>);

impl<T: Number> Panels<Floats<T>> for Turned<'_, T> {
    const COMPUTED: bool = true;

    fn depth(&self) -> usize {
        self.0.out_features
    }

    fn columns(&self) -> usize {
        self.0.in_features
    }

    fn block<'a>(
        &'a self,
        panel: usize,
        words: Range<usize>,
        scratch: &'a mut [Unit<T>],
    ) -> &'a [Unit<T>] {
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

    fn depth(&self) -> usize {
        self.rows()
    }

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
