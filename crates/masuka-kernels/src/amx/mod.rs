//! AMX: products in tiles of sixteen rows by 64 bytes, eight of which the processor holds.
//!
//! Axis key: A is (rows, words), B (words, columns), C (rows, columns). A word is four bytes along the sum: two bf16
//! or four int8. A tile of A is 16 rows by 16 words, one of B 16 words by 16 columns, one of C 16 rows by 16 columns.
//!
//! The innermost loop keeps two by two tiles of C and walks along the sum. A *step* is what it reads at once: two tiles
//! of A, below each other, and two of B, beside each other, 2 KiB each and each in one piece. The sum of an element of C
//! is taken in the order of the words whatever stands beside it, so a row has the same bits in any company.
//!
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter "Programming with Intel
//! AMX"; what was measured is said where it is used.

mod rows; // rows of A copied into steps
mod window; // products of a convolution

pub(crate) use rows::PackRows;
pub(crate) use window::{WINDOW_ROWS, WINDOW_SUMS, WindowSlice};

use std::arch::asm;
use std::marker::PhantomData;

use crate::level::Amx;

/// Rows of a tile, and its words.
pub(crate) const TILE: usize = 16;
/// Bytes of a row of a tile.
pub(crate) const LINE: usize = 64;
/// Bytes of a tile.
const TILE_BYTES: usize = TILE * LINE;
/// Rows and columns of C that a step adds to.
pub(crate) const STEP: usize = 2 * TILE;
/// Bytes of a step of A or of B.
pub(crate) const STEP_BYTES: usize = 2 * TILE_BYTES;

/// What a word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// Two bf16, summed in f32.
    Bf16,
    /// Four bytes, unsigned in A and signed in B, summed in i32.
    Bytes,
}

/// [`STEP`] rows of C = or += A · B by [`STEP`] columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strip {
    /// Steps of A.
    pub a: *const u8,
    /// Steps of B.
    pub b: *const u8,
    /// How many, at least one.
    pub steps: usize,
    pub c: *mut u8,
    /// Bytes from row to row of C.
    pub c_stride: usize,
    /// Adds to what C holds.
    pub add: bool,
    /// Of B, what comes soon: [`NEXT_B`] bytes a step are fetched into the second cache. Into the first they would keep its
    /// few places for misses from the tiles that are needed now.
    pub next_b: *const u8,
    /// Of A, what comes soon: [`NEXT_A`] bytes a step are fetched into the second cache.
    pub next_a: *const u8,
}

/// [`STEP`] rows of C = or += A · B by [`STEP`] columns, of bf16 that lie in the cache as they come. All distances are in
/// bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Square {
    pub a: *const u8,
    /// From row to row of A.
    pub a_stride: usize,
    pub b: *const u8,
    /// From word to word of B.
    pub b_stride: usize,
    /// Tiles along the sum, at least one.
    pub steps: usize,
    pub c: *mut u8,
    /// From row to row of C.
    pub c_stride: usize,
    /// Adds to what C holds.
    pub add: bool,
}

/// Bytes of B fetched ahead with each step.
pub(crate) const NEXT_B: usize = 4 * LINE;
/// Bytes of A fetched ahead with each step.
pub(crate) const NEXT_A: usize = 2 * LINE;

/// The tiles of this thread, all of full size. They are given back when it goes out of scope, so that the system need
/// not save them.
///
/// One thread's alone, and the only ones alive on it.
#[derive(Debug)]
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Shapes the tiles.
    pub fn new(_: Amx) -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 8],
            no_row_bytes: [u16; 8],
            rows: [u8; 8],
            no_rows: [u8; 8],
        }
        static CONFIG: Config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [LINE as u16; 8],
            no_row_bytes: [0; 8],
            rows: [TILE as u8; 8],
            no_rows: [0; 8],
        };
        // SAFETY: the token proves the instruction; the shapes are within what palette 1 has.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Multiplies a strip.
    ///
    /// # Safety
    /// A, B and C must lie in memory as the strip says, and C overlap neither A nor B.
    pub unsafe fn multiply(&self, words: Words, strip: &Strip) {
        // SAFETY: the caller's promise; the tiles are shaped.
        unsafe {
            match words {
                Words::Bf16 => multiply_bf16(strip),
                Words::Bytes => multiply_bytes(strip),
            }
        }
    }

    /// Multiplies a square.
    ///
    /// # Safety
    /// A, B and C must lie in memory as the square says, and C overlap neither A nor B.
    #[inline(always)]
    pub unsafe fn multiply_square(&self, square: &Square) {
        let Square { a, a_stride, b, b_stride, steps, c, c_stride, add } = *square;
        // SAFETY: the caller's promise; the tiles are shaped.
        unsafe {
            asm!(
                "test {add:e}, {add:e}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{c} + {c_stride}]",
                "tileloadd tmm1, [{c} + {c_stride} + 64]",
                "tileloadd tmm2, [{c2} + {c_stride}]",
                "tileloadd tmm3, [{c2} + {c_stride} + 64]",
                "3:",
                "tileloadd tmm4, [{a} + {a_stride}]",
                "tileloadd tmm6, [{b} + {b_stride}]",
                "tileloadd tmm7, [{b} + {b_stride} + 64]",
                "tileloadd tmm5, [{a2} + {a_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {a2}, 64",
                "add {b}, {b_step}",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{c} + {c_stride}], tmm0",
                "tilestored [{c} + {c_stride} + 64], tmm1",
                "tilestored [{c2} + {c_stride}], tmm2",
                "tilestored [{c2} + {c_stride} + 64], tmm3",
                add = in(reg) u32::from(add),
                a = inout(reg) a => _,
                a2 = inout(reg) a.wrapping_add(TILE * a_stride) => _,
                a_stride = in(reg) a_stride,
                b = inout(reg) b => _,
                b_stride = in(reg) b_stride,
                b_step = in(reg) TILE * b_stride,
                c = in(reg) c,
                c2 = in(reg) c.wrapping_add(TILE * c_stride),
                c_stride = in(reg) c_stride,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this had the token.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A function that multiplies a strip with one instruction for the products. C is in tiles 0 to 3, row by row; A in 4 and
/// 5, B in 6 and 7. All loads stand before the products, which was faster than in between. What is read of A comes from
/// the second cache and is not to push B out of the first.
///
/// Where no other floating-point instructions run, the processor takes products of tiles more slowly: a convolution's took
/// 1.1 to 1.4 times what they took with a few multiply-adds of zeros beside them, of 128, 256 or 512 bits; integers and empty
/// instructions did not help. Why is not known. So zeros are multiplied here, for nobody: a step in bf16 takes 3 % less, one
/// in int8 what it took.
macro_rules! strip {
    ($name:ident, $dot:literal) => {
        unsafe fn $name(strip: &Strip) {
            const { assert!(STEP_BYTES == 2048 && NEXT_B == 256 && NEXT_A == 128) };
            // SAFETY: the caller's promise: what the strip points to is there, and tiles are shaped.
            unsafe {
                asm!(
                    "vxorps xmm0, xmm0, xmm0",
                    "vxorps xmm1, xmm1, xmm1",
                    "vxorps xmm2, xmm2, xmm2",
                    "vxorps xmm3, xmm3, xmm3",
                    "vxorps xmm4, xmm4, xmm4",
                    "test {add:e}, {add:e}",
                    "jnz 2f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 3f",
                    "2:",
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "tileloadd tmm2, [{c2} + {row}]",
                    "tileloadd tmm3, [{c2} + {row} + 64]",
                    "3:",
                    "tileloaddt1 tmm4, [{a} + {line}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    "tileloadd tmm7, [{b} + {line} + 1024]",
                    "tileloaddt1 tmm5, [{a} + {line} + 1024]",
                    "prefetcht1 [{next_b}]",
                    "prefetcht1 [{next_b} + 64]",
                    "prefetcht1 [{next_b} + 128]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "vfmadd231ps xmm1, xmm0, xmm0",
                    "vfmadd231ps xmm2, xmm0, xmm0",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "prefetcht1 [{next_b} + 192]",
                    "prefetcht1 [{next_a}]",
                    "prefetcht1 [{next_a} + 64]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    "vfmadd231ps xmm3, xmm0, xmm0",
                    "vfmadd231ps xmm4, xmm0, xmm0",
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {a}, 2048",
                    "add {b}, 2048",
                    "add {next_b}, 256",
                    "add {next_a}, 128",
                    "dec {steps}",
                    "jnz 3b",
                    "tilestored [{c} + {row}], tmm0",
                    "tilestored [{c} + {row} + 64], tmm1",
                    "tilestored [{c2} + {row}], tmm2",
                    "tilestored [{c2} + {row} + 64], tmm3",
                    add = in(reg) u32::from(strip.add),
                    a = inout(reg) strip.a => _,
                    b = inout(reg) strip.b => _,
                    line = in(reg) LINE,
                    c = in(reg) strip.c,
                    c2 = in(reg) strip.c.wrapping_add(TILE * strip.c_stride),
                    row = in(reg) strip.c_stride,
                    steps = inout(reg) strip.steps => _,
                    next_b = inout(reg) strip.next_b => _,
                    next_a = inout(reg) strip.next_a => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

strip!(multiply_bf16, "tdpbf16ps");
strip!(multiply_bytes, "tdpbusd");
