//! What the processor's multiply instructions reach: the ceiling that kernels are measured against. Vectors are
//! multiplied from registers alone, tiles of AMX as the second cache delivers them.

use std::time::Instant;

/// Operations per second (a multiplication and an addition are two) of all threads together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peak {
    /// `vdpbf16ps`, or `tdpbf16ps` of AMX.
    pub bf16: f64,
    /// `vpdpbusd`, or `tdpbusd` of AMX.
    pub int8: f64,
    /// `vfmadd` on 512 bits.
    pub f32: f64,
}

/// Of AMX's tiles, 0 where there are none.
#[cfg(target_arch = "x86_64")]
pub fn measure_tiles(threads: usize) -> Peak {
    if masuka_kernels::level::Amx::new().is_none() {
        return Peak::default();
    }
    let mut random = masuka_kernels::testing::Random::new(1);
    let numbers = masuka_kernels::AlignedBuf::from_slice(&random.vec_bf16(tiles::NUMBERS));
    // SAFETY: the level was just found, and the numbers are as many as are read.
    unsafe {
        Peak {
            bf16: best(threads, || tiles::bf16(&numbers), tiles::PRODUCTS * 16_384),
            int8: best(threads, || tiles::int8(&numbers), tiles::PRODUCTS * 32_768),
            f32: 0.0,
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn measure_tiles(_: usize) -> Peak {
    Peak::default()
}

#[cfg(target_arch = "x86_64")]
pub fn measure(threads: usize) -> Peak {
    use masuka_kernels::level::Avx512;
    if Avx512::new().is_none() {
        return Peak::default();
    }
    // SAFETY: the level was just found.
    unsafe {
        Peak {
            bf16: best(threads, || bf16(ROUNDS), ROUNDS * SUMS as u64 * 64),
            int8: best(threads, || int8(ROUNDS), ROUNDS * SUMS as u64 * 128),
            f32: best(threads, || f32(ROUNDS), ROUNDS * SUMS as u64 * 32),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn measure(_: usize) -> Peak {
    Peak::default()
}

/// A tenth of a second, so that all threads run for nearly all of it.
const ROUNDS: u64 = 20_000_000;
/// Independent sums, so that no instruction waits for another.
const SUMS: usize = 24;

/// The best of five runs of `run`, which takes as many `operations`, on all threads at once.
fn best(threads: usize, run: impl Fn() + Sync, operations: u64) -> f64 {
    let total = operations as f64 * threads as f64;
    let once = || {
        let start = Instant::now();
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(&run))));
        total / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
macro_rules! chain {
    ($name:ident, $zero:expr, $step:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx512vnni")]
        fn $name(rounds: u64) {
            use std::arch::x86_64::*;
            let mut sums = [$zero; SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $step(*sum);
                }
            }
            std::hint::black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
chain!(bf16, _mm512_setzero_ps(), |sum| {
    // SAFETY: both types are 64 bytes of bits.
    let x: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi16(0x3c00)) };
    _mm512_dpbf16_ps(sum, x, x)
});

#[cfg(target_arch = "x86_64")]
chain!(int8, _mm512_setzero_si512(), |sum| {
    let x = _mm512_set1_epi8(3);
    _mm512_dpbusd_epi32(sum, x, x)
});

#[cfg(target_arch = "x86_64")]
chain!(f32, _mm512_setzero_ps(), |sum| {
    let x = _mm512_set1_ps(0.5);
    _mm512_fmadd_ps(x, x, sum)
});

/// Two by two tiles of sums; of the factors, one side streams from the second cache and the other stays in the first.
#[cfg(target_arch = "x86_64")]
mod tiles {
    use std::arch::asm;

    use half::bf16;

    /// Bytes of two tiles.
    const PAIR: usize = 2048;
    /// Pairs that stream (256 KiB) and pairs that stay (16 KiB).
    const STREAMED: usize = 128;
    const KEPT: usize = 8;
    pub const NUMBERS: usize = (STREAMED + KEPT) * PAIR / 2;
    const ROUNDS: usize = 4000;
    /// Products of tiles of a run.
    pub const PRODUCTS: u64 = (4 * ROUNDS * STREAMED) as u64;

    /// All eight tiles of full size.
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
        row_bytes: [64; 8],
        no_row_bytes: [0; 8],
        rows: [16; 8],
        no_rows: [0; 8],
    };

    macro_rules! run {
        ($name:ident, $dot:literal) => {
            /// # Safety
            /// The processor must have AMX, and `numbers` hold `NUMBERS`.
            pub unsafe fn $name(numbers: &[bf16]) {
                assert_eq!(numbers.len(), NUMBERS);
                let kept = numbers.as_ptr().cast::<u8>();
                let streamed = kept.wrapping_add(KEPT * PAIR);
                // SAFETY: the caller's promise; both pointers stay within the numbers.
                unsafe {
                    asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly));
                    for i in 0..ROUNDS * STREAMED {
                        asm!(
                            "tileloaddt1 tmm4, [{a} + {line}]",
                            "tileloadd tmm6, [{b} + {line}]",
                            "tileloadd tmm7, [{b} + {line} + 1024]",
                            "tileloaddt1 tmm5, [{a} + {line} + 1024]",
                            concat!($dot, " tmm0, tmm4, tmm6"),
                            concat!($dot, " tmm1, tmm4, tmm7"),
                            concat!($dot, " tmm2, tmm5, tmm6"),
                            concat!($dot, " tmm3, tmm5, tmm7"),
                            a = in(reg) streamed.wrapping_add(i % STREAMED * PAIR),
                            b = in(reg) kept.wrapping_add(i % KEPT * PAIR),
                            line = in(reg) 64_usize,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            options(nostack, readonly),
                        );
                    }
                    asm!("tilerelease", options(nostack, nomem));
                }
            }
        };
    }

    run!(bf16, "tdpbf16ps");
    run!(int8, "tdpbusd");
}
