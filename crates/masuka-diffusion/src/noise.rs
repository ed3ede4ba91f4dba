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
pub struct Generator {
    state: Vec<u32>,
    index: usize,
}

impl Generator {
    /// One that starts from `seed`.
    pub fn new(seed: Seed) -> Self {
        let mut state = vec![seed.0 as u32];
        for i in 1..624u32 {
            let last = state[i as usize - 1];
            state.push(1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i));
        }
        Self { state, index: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.index == 624 {
            for k in 0..624 {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % 624] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[k] = self.state[(k + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.index = 0;
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Normal values.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        let mut v: Vec<f32> =
            (0..count).map(|_| (self.next() & 0xff_ffff) as f32 / 16_777_216.0).collect();
        for block in v.chunks_exact_mut(16) {
            for j in 0..8 {
                let radius = (-2.0 * (1.0 - block[j]).ln()).sqrt();
                let theta = std::f32::consts::TAU * block[j + 8];
                (block[j], block[j + 8]) = (radius * theta.cos(), radius * theta.sin());
            }
        }
        v
    }
}
