//! Packing of weights. The columns of every product are output channels; its sum runs over taps and, within a tap,
//! over input channels.

use super::{Geometry, Unit};
use crate::aligned::{AlignedBuf, Element};
#[cfg(target_arch = "x86_64")]
use crate::amx::TILE;
use crate::level::Simd;
use crate::panels::{Panels, Rows, pack_rows_as_columns};
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Product, Vectors, Work};

/// Positions of a transformed 4×4 tile.
pub(super) const POSITIONS: usize = 16;

/// How `columns` columns are cut on a level.
pub(super) fn panels(simd: Simd, columns: usize) -> Panels {
    struct Cut(usize);
    impl Work for Cut {
        type Output = Panels;
        #[inline(always)]
        fn run<V: Vectors>(self, v: V) -> Panels {
            Panels::new(v, self.0)
        }
    }
    vector::run(simd, Cut(columns))
}

/// Units of one tap's channels.
pub(super) fn tap_depth<T: Number>(c_in: usize) -> usize {
    c_in.div_ceil(T::Product::DEPTH)
}

/// Taps row by row.
pub(super) fn pack_direct<T: Number>(
    simd: Simd,
    weight: &[T],
    geometry: Geometry,
) -> AlignedBuf<Unit<T>> {
    pack(simd, geometry, geometry.kernel * geometry.kernel, &taps(weight, geometry))
}

/// Row `tap` of output channel `c_out`, in `fill(c_out, tap, row)`.
fn taps<T: Number>(weight: &[T], geometry: Geometry) -> impl Fn(usize, usize, &mut [T]) + Sync {
    let taps = geometry.kernel * geometry.kernel;
    move |c_out, tap, row| {
        for (c, to) in row.iter_mut().enumerate() {
            *to = weight[(c_out * geometry.c_in + c) * taps + tap];
        }
    }
}

/// The four kernels of 2×2 that see pixels of the small picture: for outputs of even and odd rows and, within those, even
/// and odd columns.
const PARITIES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// The taps of the four kernels, one kernel after another.
pub(super) fn pack_upsampling<T: Number>(
    simd: Simd,
    weight: &[T],
    geometry: Geometry,
) -> AlignedBuf<Unit<T>> {
    one_after_another(PARITIES.map(|odd| pack(simd, geometry, 4, &taps_of(weight, geometry, odd))))
}

/// As [`taps`], of the kernel of outputs in even or odd rows and columns.
fn taps_of<T: Number>(
    weight: &[T],
    geometry: Geometry,
    (odd_y, odd_x): (usize, usize),
) -> impl Fn(usize, usize, &mut [T]) + Sync {
    let c_in = geometry.c_in;
    move |c_out, tap, row| {
        for (c, to) in row.iter_mut().enumerate() {
            let kernel = &weight[(c_out * c_in + c) * 9..][..9];
            let taps = doubled_taps(odd_y, tap / 2).flat_map(|y| {
                doubled_taps(odd_x, tap % 2).map(move |x| kernel[3 * y + x].to_f32())
            });
            *to = T::from_f32(taps.sum());
        }
    }
}

fn one_after_another<T: Element>(parts: [AlignedBuf<T>; 4]) -> AlignedBuf<T> {
    let len = parts[0].len();
    let mut all = AlignedBuf::zeroed(4 * len);
    for (to, part) in all.chunks_exact_mut(len).zip(&parts) {
        to.copy_from_slice(part);
    }
    all
}

/// A kernel of 3×3, for [`windows`](super::windows).
#[cfg(target_arch = "x86_64")]
pub(super) fn pack_windows<T: Number>(weight: &[T], geometry: Geometry) -> AlignedBuf<Unit<T>> {
    in_windows(geometry, 3, &taps(weight, geometry))
}

/// The four kernels of [`pack_upsampling`] for [`windows`](super::windows).
#[cfg(target_arch = "x86_64")]
pub(super) fn pack_upsampling_windows<T: Number>(
    weight: &[T],
    geometry: Geometry,
) -> AlignedBuf<Unit<T>> {
    one_after_another(PARITIES.map(|odd| in_windows(geometry, 2, &taps_of(weight, geometry, odd))))
}

/// Tiles of sixteen output channels; within those slice by slice of the input's, column by column of the kernel, tap by
/// tap from its top.
#[cfg(target_arch = "x86_64")]
fn in_windows<T: Number>(
    geometry: Geometry,
    kernel: usize,
    fill: &(impl Fn(usize, usize, &mut [T]) + Sync),
) -> AlignedBuf<Unit<T>> {
    let Geometry { c_in, c_out, .. } = geometry;
    let (slices, taps) = (super::pixels::slices::<T>(c_in), kernel * kernel);
    let block = slices * taps * TILE * TILE;
    let mut packed = AlignedBuf::<Unit<T>>::zeroed(c_out.div_ceil(TILE) * block);
    threads::parallel_chunks(&mut packed, block, |block, to| {
        let mut row = vec![T::default(); c_in];
        for column in 0..TILE.min(c_out - block * TILE) {
            for tap in 0..taps {
                fill(block * TILE + column, tap, &mut row);
                let (y, x) = (tap / kernel, tap % kernel);
                for (k, numbers) in row.chunks(T::Product::DEPTH).enumerate() {
                    let tile = k / TILE * taps + x * kernel + y;
                    to[(tile * TILE + k % TILE) * TILE + column] = T::Product::unit(numbers);
                }
            }
        }
    });
    packed
}

/// The rows of a 3×3 kernel that fall on the same row of the small picture: an even output sees the row before it
/// once and its own twice, an odd one its own twice and the next once.
fn doubled_taps(odd: usize, tap: usize) -> std::ops::Range<usize> {
    match (odd, tap) {
        (0, 0) => 0..1,
        (0, _) => 1..3,
        (_, 0) => 0..2,
        _ => 2..3,
    }
}

/// G·g·Gᵀ of every 3×3 kernel g, position by position.
pub(super) fn pack_winograd<T: Number>(
    simd: Simd,
    weight: &[T],
    geometry: Geometry,
) -> AlignedBuf<Unit<T>> {
    const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let c_in = geometry.c_in;
    let rows = |c_out: usize, position: usize, row: &mut [T]| {
        let (gy, gx) = (G[position / 4], G[position % 4]);
        for (c, to) in row.iter_mut().enumerate() {
            let kernel = &weight[(c_out * c_in + c) * 9..][..9];
            let mut sum = 0.0;
            for (i, w) in kernel.iter().enumerate() {
                sum += gy[i / 3] * gx[i % 3] * w.to_f32();
            }
            *to = T::from_f32(sum);
        }
    };
    pack(simd, geometry, POSITIONS, &rows)
}

/// Packs, panel by panel, `taps` times the rows (c_in) that `fill(c_out, tap, row)` makes.
fn pack<T: Number>(
    simd: Simd,
    geometry: Geometry,
    taps: usize,
    fill: &(impl Fn(usize, usize, &mut [T]) + Sync),
) -> AlignedBuf<Unit<T>> {
    let panels = panels(simd, geometry.c_out);
    let depth = tap_depth::<T>(geometry.c_in);
    let mut packed = AlignedBuf::zeroed(panels.len(taps * depth));
    let to = SharedPtr::new(&mut packed);
    threads::parallel_for(panels.count() * taps, |task| {
        let (panel, tap) = (task / taps, task % taps);
        let (first, vectors) = (panels.column(panel), panels.vectors(panel));
        let last = panels.columns().min(panels.column(panel + 1)).min(geometry.c_out);
        let mut rows = vec![T::default(); (last - first) * geometry.c_in];
        for (i, row) in rows.chunks_exact_mut(geometry.c_in).enumerate() {
            fill(first + i, tap, row);
        }
        let width = panels.columns().min(panels.column(panel + 1)) - first;
        let start = panels.start(panel, taps * depth) + tap * depth * width;
        // SAFETY: every panel and tap has a place of its own.
        let to = unsafe { to.slice(start, depth * width) };
        vector::run(simd, PackTap { rows: &rows, c_in: geometry.c_in, depth, vectors, to });
    });
    packed
}

struct PackTap<'a, T: Number> {
    rows: &'a [T],
    c_in: usize,
    depth: usize,
    vectors: usize,
    to: &'a mut [Unit<T>],
}

impl<T: Number> Work for PackTap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (count, c_in) = (self.rows.len() / self.c_in, self.c_in);
        let rows = Rows { start: self.rows.as_ptr(), stride: c_in, count, len: c_in };
        let to = self.to.as_mut_ptr();
        // SAFETY: the rows are a slice, and `to` has depth units for each column.
        unsafe { pack_rows_as_columns::<V, T::Product>(v, &rows, self.depth, self.vectors, to) };
    }
}
