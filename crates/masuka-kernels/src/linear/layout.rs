//! How packed weights lie in memory. Axis key: W is (outputs, words); a word is four bytes along the sum.

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use super::product::{Format, PANEL};
use crate::Simd;
use crate::aligned::Element;
use crate::threads::{self, SharedPtr};
use crate::vector::{Vectors, Work};

/// Columns of a step, and words and columns of its tiles: what AMX reads at once.
#[cfg(target_arch = "x86_64")]
pub(super) const STEP: usize = 32;
#[cfg(target_arch = "x86_64")]
pub(super) const TILE: usize = 16;
#[cfg(target_arch = "x86_64")]
const _: () = assert!(STEP == crate::amx::STEP && TILE == crate::amx::TILE);
/// Words of a step.
#[cfg(target_arch = "x86_64")]
pub(super) const STEP_WORDS: usize = STEP * TILE;

/// The order of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Panel by panel of 64 outputs, word by word, the outputs beside each other.
    Panels,
    /// For AMX: 32 outputs by 32 outputs, 16 words by 16 words; of those the first 16 outputs, then the others, word by
    /// word, the outputs beside each other. Words are filled up to sixteen.
    #[cfg(target_arch = "x86_64")]
    Steps,
}

impl Layout {
    /// How a level reads weights of numbers `F`.
    pub fn new<F: Format>(simd: Simd) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let (Simd::Amx(_), Some(_)) = (simd, F::TILES) {
            return Self::Steps;
        }
        let _ = simd;
        Self::Panels
    }

    /// Words of an output, with those that fill it up.
    pub fn depth(self, words: usize) -> usize {
        match self {
            Self::Panels => words,
            #[cfg(target_arch = "x86_64")]
            Self::Steps => words.next_multiple_of(TILE),
        }
    }

    /// Where the steps `steps` of outputs 32 · `column` and on lie.
    #[cfg(target_arch = "x86_64")]
    pub fn steps(depth: usize, column: usize, steps: Range<usize>) -> Range<usize> {
        let first = column * depth * STEP;
        first + steps.start * STEP_WORDS..first + steps.end * STEP_WORDS
    }

    /// Words from one to the next of an output.
    fn stride(self) -> usize {
        match self {
            Self::Panels => PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::Steps => TILE,
        }
    }

    /// Where word `word` of output `output` lies among outputs of `depth` words.
    pub fn index(self, depth: usize, output: usize, word: usize) -> usize {
        match self {
            Self::Panels => (output / PANEL * depth + word) * PANEL + output % PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::Steps => {
                let step = (output / STEP * depth + word / TILE * TILE) * STEP;
                step + output % STEP / TILE * TILE * TILE + word % TILE * TILE + output % TILE
            }
        }
    }
}

/// Rows that are read before they are laid out: together they stay in the second cache.
pub(crate) const ROWS_AT_ONCE: usize = 32;

/// Runs `task(panel, words)` over panels of `len` words. Each thread starts at a place of its own: two that met on a huge
/// page at its first touch would both clear it, and one for nothing.
pub(crate) fn parallel_panels<W: Element>(
    words: &mut [W],
    len: usize,
    task: impl Fn(usize, &mut [W]) + Sync,
) {
    let count = words.len() / len.max(1);
    let stripes = threads::count();
    let panels = count.div_ceil(stripes);
    let start = SharedPtr::new(words);
    threads::parallel_for(stripes * panels, |i| {
        let panel = i % stripes * panels + i / stripes;
        if panel < count {
            // SAFETY: panels lie within `words`, are disjoint, and each is one task's.
            task(panel, unsafe { start.slice(panel * len, len) });
        }
    });
}

/// Lays out some outputs of a panel, of `depth` words of four bytes.
pub(crate) struct LayOut<'a, W> {
    pub layout: Layout,
    /// The first of the outputs, a multiple of a tile's.
    pub column: usize,
    /// (outputs, depth), a multiple of a tile's.
    pub rows: &'a [W],
    pub depth: usize,
    /// The panel.
    pub to: &'a mut [W],
}

impl<W> Work for LayOut<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { layout, column: first, rows, depth, to } = self;
        let outputs = rows.len().checked_div(depth).unwrap_or(0);
        assert!(rows.len() == outputs * depth && to.len() == PANEL * depth);
        assert!(first + outputs <= PANEL && outputs.is_multiple_of(V::LANES));
        const { assert!(size_of::<W>() == size_of::<u32>()) };
        let from = rows.as_ptr().cast::<u32>();
        let to = to.as_mut_ptr().cast::<u32>();
        let whole = depth / V::LANES * V::LANES;
        for column in (0..outputs).step_by(V::LANES) {
            for word in (0..whole).step_by(V::LANES) {
                // SAFETY: `LANES` rows from `column` hold `LANES` words from `word`, and have their places, for vectors
                // divide a tile.
                unsafe {
                    let to = to.add(layout.index(depth, first + column, word));
                    v.transpose(from.add(column * depth + word), depth, to, layout.stride());
                }
            }
        }
        for column in 0..outputs {
            for word in whole..depth {
                // SAFETY: as above.
                unsafe {
                    let to = to.add(layout.index(depth, first + column, word));
                    *to = *from.add(column * depth + word);
                }
            }
        }
    }
}
