//! What the processor's multiply instructions reach from registers alone: the ceiling that kernels are measured against.

use std::time::Instant;

/// Operations per second (a multiplication and an addition are two) of all threads together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peak {
    /// `vdpbf16ps`.
    pub bf16: f64,
    /// `vpdpbusd`.
    pub int8: f64,
    /// `vfmadd` on 512 bits.
    pub f32: f64,
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
            bf16: best(threads, || bf16(ROUNDS), 64),
            int8: best(threads, || int8(ROUNDS), 128),
            f32: best(threads, || f32(ROUNDS), 32),
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

/// The best of five runs of `run` on all threads at once.
fn best(threads: usize, run: impl Fn() + Sync, operations: u64) -> f64 {
    let total = (ROUNDS * SUMS as u64 * operations) as f64 * threads as f64;
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
