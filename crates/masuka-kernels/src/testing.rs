//! What every property test and benchmark needs: random numbers from a seed, and comparison with a reasoned bound.

use half::bf16;

/// A small generator (xorshift64*, <https://www.jstatsoft.org/article/view/v008i14>).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Seeded; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 64 random bits.
    pub fn next_bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// An integer of `low..=high`.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.next_bits() >> 33) as usize % (high - low + 1)
    }

    /// A number of -1..1.
    pub fn signed(&mut self) -> f32 {
        (self.next_bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` numbers of -1..1.
    pub fn vec_f32(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.signed()).collect()
    }

    /// `len` numbers of -1..1.
    pub fn vec_bf16(&mut self, len: usize) -> Vec<bf16> {
        (0..len).map(|_| bf16::from_f32(self.signed())).collect()
    }
}

/// About as many products as a function of a number and its definition take, exponentials and roots.
pub const PRODUCTS_OF_A_FUNCTION: usize = 10;

/// Whether a case of so many products is left out, which is only under Miri: it takes a second for some ten thousand.
pub fn is_too_long(products: usize) -> bool {
    cfg!(miri) && products > 30_000
}

/// Fails where `found` is further from `expected` than `bound`, which is called with the expected value.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], bound: impl Fn(f32) -> f32, case: &str) {
    assert_eq!(found.len(), expected.len(), "{case}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let bound = bound(expected);
        let is_close = (found - expected).abs() <= bound || found == expected;
        assert!(is_close, "{case}: element {i} is {found}, not {expected} ± {bound}");
    }
}
