//! Convolution by its definition in the tiles of AMX, for kernels of 3×3 that keep the size of the picture and twofold
//! upsampling. The pixels that a region of outputs sees are copied once; the copy lies in the second cache, and what a
//! window sees in the first. While products run, the sums before them are written, the next region is copied, and its norm
//! and activation are applied.

use std::mem;

use super::output::Output;
use super::pixels::{self, Copying, Region};
use super::{Method, PackedConv2d, Picture};
use crate::aligned::{LINE, with_scratch};
use crate::amx::{TILE, Tiles, WINDOW_ROWS, WINDOW_SUMS, WindowSlice};
use crate::level::Simd;
use crate::threads;
use crate::vector::{self, Number, Vectors, Work};

/// Outputs of a region, rows and columns, at most. With 512 channels its copy takes 0.6 MB, and there are two.
const REGION: (usize, usize) = (16, 32);

/// Windows of channels that are computed one after another and written together: 32 bf16 are a line.
const PAIR: usize = 2;

/// Outputs of a row that are written at once, and how many such pieces a window has.
const PIECE: usize = 4;
const PIECES: usize = WINDOW_ROWS * TILE / PIECE;

/// Rows of regions a thread should find where they cannot be shared out evenly.
const ROWS_PER_THREAD: usize = 4;

/// Outputs that one kernel makes of the copied pixels.
#[derive(Clone, Copy)]
struct Pass {
    /// The copied pixel, row and column, that the first tap of the first output sees.
    offset: (usize, usize),
    /// Output pixels between neighbours, and the first one.
    out_step: usize,
    out_origin: (usize, usize),
}

/// Whether the level has tiles for such numbers.
pub(super) fn are_for<T: Number>(simd: Simd) -> bool {
    matches!(simd, Simd::Amx(_)) && size_of::<T>() == 2
}

pub(super) fn forward<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    output: &Output<'_, T>,
) {
    let whole = [Pass { offset: (0, 0), out_step: 1, out_origin: (0, 0) }];
    let parities = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let doubled = parities.map(|at| Pass { offset: at, out_step: 2, out_origin: at });
    let (passes, kernel) = match conv.method {
        Method::UpsamplingWindows => (&doubled[..], 2),
        _ => (&whole[..], 3),
    };
    let slices = pixels::slices::<T>(conv.geometry.c_in);
    let walk = Walk { conv, picture, output, passes, kernel, slices };
    let rows = picture.height.div_ceil(REGION.0);
    let threads = threads::count();
    // A thread walks along a row of regions, unless others would then wait for it.
    let is_even = rows.is_multiple_of(threads) || rows >= ROWS_PER_THREAD * threads;
    let columns = if is_even { picture.width.max(1) } else { REGION.1 };
    let strips = picture.width.div_ceil(columns);
    threads::parallel_for(rows * strips, |task| {
        let (y, x) = (task / strips * REGION.0, task % strips * columns);
        let end = (x + columns).min(picture.width);
        let regions = (x..end).step_by(REGION.1).map(|x| {
            let size = (REGION.0.min(picture.height - y), REGION.1.min(end - x));
            Region::new((y, x), size, slices)
        });
        let bytes = regions.clone().map(|region| region.bytes()).max().unwrap_or_default();
        with_scratch::<u8, _>(2 * bytes, |pixels| {
            let (now, next) = pixels.split_at_mut(bytes);
            with_scratch::<f32, _>(2 * PAIR * WINDOW_SUMS, |sums| {
                vector::run(conv.simd, (&walk, regions, Workspace { now, next, sums }));
            });
        });
    });
}

/// A walk over regions.
struct Walk<'a, T: Number> {
    conv: &'a PackedConv2d<T>,
    picture: Picture<'a, T>,
    output: &'a Output<'a, T>,
    passes: &'a [Pass],
    /// Rows and columns of the kernel of a pass.
    kernel: usize,
    /// Of the channels of a pixel.
    slices: usize,
}

/// Working memory of a walk.
struct Workspace<'a> {
    /// Pixels of the region that is computed, and of the one after it.
    now: &'a mut [u8],
    next: &'a mut [u8],
    /// Of two pairs of windows: one is computed while the other is written.
    sums: &'a mut [f32],
}

/// Where the sums of a pair of windows go.
#[derive(Clone, Copy)]
struct Place {
    pass: Pass,
    /// The first channel, and how many windows of channels.
    channel: usize,
    windows: usize,
    /// The first output before anything is doubled, row and column.
    at: (usize, usize),
}

/// Sums of the pair of windows that is computed and of the one before it, and where the latter belongs.
struct Pairs<'a> {
    now: &'a mut [f32],
    before: &'a mut [f32],
    written: Option<Place>,
}

/// What the products of a pair of windows are taken of, and where they belong.
struct Products<'a> {
    place: Place,
    region: Region,
    /// What the region sees.
    pixels: &'a [u8],
    /// The weights of the pair.
    weights: *const u8,
}

/// What comes next, of which a part is done with each slice of channels.
struct Next<'a, T> {
    /// The region that is copied, and how many of its pixels at a time.
    copying: Option<Copying<'a, T>>,
    pixels: usize,
    /// The weights that are fetched, and how many lines of them at a time.
    weights: *const u8,
    lines: usize,
}

impl<T: Number> Next<'_, T> {
    /// Does the next part.
    #[inline(always)]
    fn go_on<V: Vectors>(&mut self, v: V, tiles: &Tiles) {
        for line in 0..self.lines {
            tiles.fetch(self.weights.wrapping_add(line * LINE));
        }
        self.weights = self.weights.wrapping_add(self.lines * LINE);
        if let Some(copying) = &mut self.copying {
            copying.advance(v, self.pixels);
        }
    }
}

impl<T: Number, R: Iterator<Item = Region>> Work for (&Walk<'_, T>, R, Workspace<'_>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (walk, mut regions, Workspace { mut now, mut next, sums }) = self;
        let Some(amx) = v.amx() else { unreachable!("weights were packed for tiles") };
        let (sums, before) = sums.split_at_mut(PAIR * WINDOW_SUMS);
        let mut pairs = Pairs { now: sums, before, written: None };
        let mut following = regions.next();
        if let Some(region) = following {
            walk.copying(region, now).advance(v, usize::MAX);
        }
        let tiles = Tiles::new(amx);
        while let Some(region) = following {
            following = regions.next();
            let copying = following.map(|following| walk.copying(following, next));
            walk.compute_region(v, &tiles, (region, now), copying, &mut pairs);
            (now, next) = (next, now);
        }
        if let Some(place) = &pairs.written {
            for piece in 0..PIECES {
                walk.write(v, place, piece, pairs.before);
            }
        }
    }
}

impl<T: Number> Walk<'_, T> {
    #[inline(always)]
    fn copying<'a>(&'a self, region: Region, to: &'a mut [u8]) -> Copying<'a, T> {
        Copying::new(self.picture, self.conv.geometry.c_in, region, to)
    }

    /// Bytes of the weights of a pass for one window of channels.
    #[inline(always)]
    fn window_bytes(&self) -> usize {
        self.kernel * self.kernel * self.slices * TILE * LINE
    }

    /// Windows of channels of a pass.
    #[inline(always)]
    fn windows(&self) -> usize {
        self.output.c_out.div_ceil(TILE)
    }

    /// How often a slice is added to a window of the region.
    #[inline(always)]
    fn steps(&self, region: Region) -> usize {
        self.passes.len() * self.windows() * region.windows() * self.slices
    }

    /// The weights of a pass for the window of channels that begins at `channel`; behind the last are the first.
    #[inline(always)]
    fn weights(&self, pass: usize, channel: usize) -> *const u8 {
        let window = pass * self.windows() + channel / TILE;
        let window = if window < self.passes.len() * self.windows() { window } else { 0 };
        self.conv.weights.as_ptr().cast::<u8>().wrapping_add(window * self.window_bytes())
    }

    /// Computes all outputs of a region but the last pair of windows, which is left to be written.
    #[inline(always)]
    fn compute_region<V: Vectors>(
        &self,
        v: V,
        tiles: &Tiles,
        (region, pixels): (Region, &[u8]),
        copying: Option<Copying<'_, T>>,
        pairs: &mut Pairs<'_>,
    ) {
        let all = copying.as_ref().map_or(0, |copying| copying.region().pixels());
        let lines = (self.kernel * self.kernel * TILE).div_ceil(region.windows());
        let share = all.div_ceil(self.steps(region));
        let mut next = Next { copying, pixels: share, weights: self.weights(0, 0), lines };
        for (i, pass) in self.passes.iter().enumerate() {
            for channel in (0..self.output.c_out).step_by(PAIR * TILE) {
                let windows = PAIR.min((self.output.c_out - channel).div_ceil(TILE));
                let weights = self.weights(i, channel);
                next.weights = self.weights(i, channel + windows * TILE);
                for y in (0..region.size.0).step_by(WINDOW_ROWS) {
                    for x in (0..region.size.1).step_by(TILE) {
                        let at = (region.first.0 + y, region.first.1 + x);
                        let place = Place { pass: *pass, channel, windows, at };
                        let products = Products { place, region, pixels, weights };
                        // SAFETY: weights were packed in this order.
                        unsafe { self.compute(v, tiles, &products, &mut next, pairs) };
                    }
                }
            }
        }
        if let Some(copying) = &mut next.copying {
            copying.advance(v, usize::MAX);
        }
    }

    /// Takes the products of a pair of windows; while they run, writes the pair before and does a part of what comes next.
    ///
    /// # Safety
    /// The weights must be those of the place's pass and channels.
    #[inline(always)]
    unsafe fn compute<V: Vectors>(
        &self,
        v: V,
        tiles: &Tiles,
        products: &Products<'_>,
        next: &mut Next<'_, T>,
        pairs: &mut Pairs<'_>,
    ) {
        let Products { place, region, pixels, weights } = *products;
        let y = place.at.0 - region.first.0 + place.pass.offset.0;
        let x = place.at.1 - region.first.1 + place.pass.offset.1;
        let columns = region.seen.1;
        let first = pixels[(y * columns + x) * LINE..].as_ptr();
        let steps = place.windows * self.slices;
        let mut step = 0;
        for window in 0..place.windows {
            let c = pairs.now[window * WINDOW_SUMS..][..WINDOW_SUMS].as_mut_ptr();
            tiles.begin_window();
            for slice in 0..self.slices {
                let b = weights.wrapping_add(step * (self.window_bytes() / self.slices));
                let a = first.wrapping_add(slice * region.pixels() * LINE);
                let slice = WindowSlice { a, a_row: columns * LINE, b, c };
                // SAFETY: the caller's promise; whole windows and what their taps see around them were copied.
                unsafe { tiles.add_to_window(self.kernel, &slice) };
                for piece in step * PIECES / steps..(step + 1) * PIECES / steps {
                    self.fetch_outputs(tiles, &place, piece);
                    if let Some(written) = &pairs.written {
                        self.write(v, written, piece, pairs.before);
                    }
                }
                next.go_on(v, tiles);
                step += 1;
            }
            // SAFETY: room for a window was seen.
            unsafe { tiles.store_window(c) };
        }
        pairs.written = Some(place);
        mem::swap(&mut pairs.now, &mut pairs.before);
    }

    /// The output pixels of a piece of a window that lie in the picture: the first, how far apart, and how many.
    #[inline(always)]
    fn outputs(&self, place: &Place, piece: usize) -> (usize, usize, usize) {
        let Place { pass, at, .. } = *place;
        let (row, column) = (at.0 + piece * PIECE / TILE, at.1 + piece * PIECE % TILE);
        let y = pass.out_origin.0 + pass.out_step * row;
        let x = pass.out_origin.1 + pass.out_step * column;
        let first = y * pass.out_step * self.picture.width + x;
        let is_inside = row < self.picture.height;
        let count = if is_inside { self.picture.width.saturating_sub(column) } else { 0 };
        (first, pass.out_step, count.min(PIECE))
    }

    /// Fetches the lines of a piece, which come from far: stores would wait for them.
    #[inline(always)]
    fn fetch_outputs(&self, tiles: &Tiles, place: &Place, piece: usize) {
        let (first, step, count) = self.outputs(place, piece);
        for i in 0..count {
            let at = (first + i * step) * self.output.c_out + place.channel;
            // SAFETY: the pixel and the channel exist.
            let out = unsafe { self.output.out.at(at) }.cast::<u8>();
            tiles.fetch_to_write(out);
            if !out.addr().is_multiple_of(LINE) {
                tiles.fetch_to_write(out.wrapping_add(LINE - 1));
            }
            if let Some(residual) = self.output.residual {
                tiles.fetch(residual[at..].as_ptr());
            }
        }
    }

    /// Writes what of a piece lies in the picture.
    #[inline(always)]
    fn write<V: Vectors>(&self, v: V, place: &Place, piece: usize, sums: &[f32]) {
        let (first, step, count) = self.outputs(place, piece);
        for i in 0..count {
            let pixel = first + i * step;
            let at = (piece * PIECE + i) * TILE;
            // SAFETY: regions and windows have outputs of their own, and the channels exist; a level with tiles has
            // vectors as wide as they.
            unsafe {
                let sum = v.load(sums[at..][..TILE].as_ptr());
                if place.windows == PAIR {
                    let other = v.load(sums[WINDOW_SUMS + at..][..TILE].as_ptr());
                    self.output.finish_two(v, pixel, place.channel, [sum, other]);
                } else {
                    self.output.finish(v, pixel, place.channel, sum);
                }
            }
        }
    }
}
