//! placeholder replaced by the generator
use crate::error::{Error, Result};

/// Where randomness enters, 0…2^53−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// The largest seed: every seed is exact in JSON.
    pub const MAX: u64 = (1 << 53) - 1;

    /// A seed within 0…[`Seed::MAX`].
    ///
    /// # Errors
    /// When it is larger.
    pub fn new(seed: u64) -> Result<Self> {
        if seed <= Self::MAX {
            return Ok(Self(seed));
        }
        Err(Error::invalid("seed", seed, format!("is not within 0 and {}", Self::MAX)))
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    /// The seed of picture `index` of a request.
    ///
    /// # Errors
    /// When it would exceed [`Seed::MAX`].
    pub fn offset(self, index: u64) -> Result<Self> {
        Self::new(self.0 + index)
    }
}

/// A generator.
pub struct Generator(u64);

impl Generator {
    /// One that starts from `seed`.
    pub fn new(seed: Seed) -> Self {
        Self(seed.0)
    }

    /// Normal values.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| {
                let x = (self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(i as u64 * 77);
                (x % 1000) as f32 / 500.0 - 1.0
            })
            .collect()
    }
}
