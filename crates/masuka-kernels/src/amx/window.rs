//! Products of a convolution: outputs that lie beside and below each other share the pixels that they see.

use std::arch::asm;

use super::{LINE, TILE, TILE_BYTES, Tiles};

/// Rows of outputs of a window; each is a tile wide.
pub(crate) const WINDOW_ROWS: usize = 4;
/// Sums of a window.
pub(crate) const WINDOW_SUMS: usize = WINDOW_ROWS * TILE * TILE;

/// What a slice of A, the [`LINE`] bytes of each pixel that one tile takes, adds to [`WINDOW_ROWS`] rows of [`TILE`] outputs
/// by [`TILE`] channels: the sum over a kernel's taps of A · B, in bf16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowSlice {
    /// What the first tap of the first output sees. The slice of the pixel to the right follows at once.
    pub a: *const u8,
    /// Bytes from row to row of A.
    pub a_row: usize,
    /// Tiles of B: column by column of the kernel, tap by tap from its top.
    pub b: *const u8,
    /// Where the sums will be stored.
    pub c: *const f32,
}

/// A window is begun, then slices are added, then it is stored. Its sums stay in tiles meanwhile, of which no compiled code
/// knows; so other code may run between the calls, while the processor multiplies.
impl Tiles {
    /// C = 0.
    #[inline(always)]
    pub fn begin_window(&self) {
        // SAFETY: the tiles are shaped.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }

    /// C += a slice of A · B for a kernel of 2×2 or 3×3.
    ///
    /// # Safety
    /// A and B must lie in memory as the slice says.
    ///
    /// # Panics
    /// When the kernel is another.
    #[inline(always)]
    pub unsafe fn add_to_window(&self, kernel: usize, slice: &WindowSlice) {
        // SAFETY: the caller's promise; the tiles are shaped.
        unsafe {
            match kernel {
                2 => kernel_of_2(slice),
                3 => kernel_of_3(slice),
                other => unreachable!("a kernel of {other}"),
            }
        }
    }

    /// Writes C, (rows, outputs of a row, channels) in f32.
    ///
    /// # Safety
    /// There must be room for [`WINDOW_SUMS`].
    #[inline(always)]
    pub unsafe fn store_window(&self, c: *mut f32) {
        const { assert!(WINDOW_ROWS == 4 && TILE_BYTES == 1024) };
        // SAFETY: the caller's promise; the tiles are shaped.
        unsafe {
            asm!(
                "tilestored [{c} + {line}], tmm0",
                "tilestored [{c} + {line} + 1024], tmm1",
                "tilestored [{c} + {line} + 2048], tmm2",
                "tilestored [{c} + {line} + 3072], tmm3",
                c = in(reg) c,
                line = in(reg) LINE,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Fetches the line at `from` into the second cache. Into the first it would keep one of its few places for misses from
    /// the tiles that are needed now.
    #[inline(always)]
    pub fn fetch<T>(&self, from: *const T) {
        // SAFETY: fetches ahead only.
        unsafe { asm!("prefetcht1 [{}]", in(reg) from, options(nostack, preserves_flags)) };
    }

    /// Fetches the line at `to` into the first cache, to be written soon.
    #[inline(always)]
    pub fn fetch_to_write<T>(&self, to: *const T) {
        // SAFETY: fetches ahead only; every processor with tiles has the instruction.
        unsafe { asm!("prefetchw [{}]", in(reg) to, options(nostack, preserves_flags)) };
    }
}

/// A function for one kernel. C is in tiles 0 to 3, row by row; B's column of the kernel is in 4 to 6; a row of A passes
/// through 7 and is read once for all the taps that see it. What is left to hide is that C has left the first cache when it
/// is stored, which took 1,000 cycles of 3,800 at four slices: so its lines are fetched while the products run, a few with
/// each row of A.
macro_rules! window {
    ($name:ident, $kernel:literal, [$($line:expr),* $(,)?]) => {
        #[inline(always)]
        unsafe fn $name(slice: &WindowSlice) {
            const { assert!(WINDOW_ROWS == 4 && TILE_BYTES == 1024 && LINE == 64) };
            let WindowSlice { a, a_row, b, c } = *slice;
            // SAFETY: the caller's promise: what the slice points to is there, and tiles are shaped.
            unsafe {
                asm!(
                    concat!(".rept ", $kernel),
                    $($line,)*
                    "add {a0}, 64",
                    "add {a1}, 64",
                    "add {a2}, 64",
                    "add {a3}, 64",
                    "add {a4}, 64",
                    "add {a5}, 64",
                    concat!("add {b}, 1024 * ", $kernel),
                    ".endr",
                    a0 = inout(reg) a => _,
                    a1 = inout(reg) a.wrapping_add(a_row) => _,
                    a2 = inout(reg) a.wrapping_add(2 * a_row) => _,
                    a3 = inout(reg) a.wrapping_add(3 * a_row) => _,
                    a4 = inout(reg) a.wrapping_add(4 * a_row) => _,
                    a5 = inout(reg) a.wrapping_add(5 * a_row) => _,
                    b = inout(reg) b => _,
                    line = in(reg) LINE,
                    fetch = inout(reg) c => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
    (@row $row:literal, $fetched:literal) => {
        concat!(
            "tileloadd tmm7, [{a", $row, "} + {line}]\n",
            ".rept ", $fetched, "\nprefetchw [{fetch}]\nadd {fetch}, 64\n.endr",
        )
    };
}

window!(
    kernel_of_2,
    2,
    [
        "tileloaddt1 tmm4, [{b} + {line}]",
        window!(@row 0, 7),
        "tdpbf16ps tmm0, tmm7, tmm4",
        "tileloaddt1 tmm5, [{b} + {line} + 1024]",
        window!(@row 1, 7),
        "tdpbf16ps tmm1, tmm7, tmm4",
        "tdpbf16ps tmm0, tmm7, tmm5",
        window!(@row 2, 7),
        "tdpbf16ps tmm2, tmm7, tmm4",
        "tdpbf16ps tmm1, tmm7, tmm5",
        window!(@row 3, 7),
        "tdpbf16ps tmm3, tmm7, tmm4",
        "tdpbf16ps tmm2, tmm7, tmm5",
        window!(@row 4, 7),
        "tdpbf16ps tmm3, tmm7, tmm5",
    ]
);

window!(
    kernel_of_3,
    3,
    [
        "tileloaddt1 tmm4, [{b} + {line}]",
        window!(@row 0, 4),
        "tdpbf16ps tmm0, tmm7, tmm4",
        "tileloaddt1 tmm5, [{b} + {line} + 1024]",
        window!(@row 1, 4),
        "tdpbf16ps tmm1, tmm7, tmm4",
        "tdpbf16ps tmm0, tmm7, tmm5",
        "tileloaddt1 tmm6, [{b} + {line} + 2048]",
        window!(@row 2, 4),
        "tdpbf16ps tmm2, tmm7, tmm4",
        "tdpbf16ps tmm1, tmm7, tmm5",
        "tdpbf16ps tmm0, tmm7, tmm6",
        window!(@row 3, 4),
        "tdpbf16ps tmm3, tmm7, tmm4",
        "tdpbf16ps tmm2, tmm7, tmm5",
        "tdpbf16ps tmm1, tmm7, tmm6",
        window!(@row 4, 4),
        "tdpbf16ps tmm3, tmm7, tmm5",
        "tdpbf16ps tmm2, tmm7, tmm6",
        window!(@row 5, 4),
        "tdpbf16ps tmm3, tmm7, tmm6",
    ]
);
