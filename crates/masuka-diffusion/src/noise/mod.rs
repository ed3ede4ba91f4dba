//! The one place where randomness enters: noise equal bit for bit to what PyTorch 2.15 draws on an x86 processor with
//! AVX2 or above, whatever the machine.

mod mersenne_twister; // uniform bits
mod box_muller; // uniform numbers to normal ones

use half::{bf16, f16};

use crate::error::{Error, Result};
use mersenne_twister::MersenneTwister;

/// Where randomness starts, 0…2⁵³ − 1.
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
        Self::new(self.0.saturating_add(index))
    }
}

/// `torch.Generator("cpu").manual_seed(seed)`.
#[derive(Debug, Clone)]
pub struct Generator {
    bits: MersenneTwister,
    /// The second number of a pair of which a short draw took the first.
    spare: Option<f64>,
}

impl Generator {
    /// A generator at its start. Only the low 32 bits of `seed` count, as in PyTorch.
    pub fn new(seed: Seed) -> Self {
        Self { bits: MersenneTwister::new(seed.0 as u32), spare: None }
    }

    /// 64 uniform bits, as `torch.Tensor.random_` takes them for ranges of 2²⁸ and above.
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.bits.next_u32());
        high << 32 | u64::from(self.bits.next_u32())
    }

    /// `torch.randn(count, dtype=torch.float32)`.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < box_muller::BLOCK {
            return (0..count).map(|_| self.normal_f64() as f32).collect();
        }
        // All uniform numbers come first, also those of an incomplete last block, which is then drawn anew.
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform_f32()).collect();
        let (blocks, rest) = values.as_chunks_mut();
        box_muller::transform(blocks);
        if !rest.is_empty() {
            values[count - box_muller::BLOCK..].copy_from_slice(&self.normal_block());
        }
        values
    }

    /// `torch.randn(count, dtype=torch.bfloat16)`.
    pub fn randn_bf16(&mut self, count: usize) -> Vec<bf16> {
        self.randn_rounded(count, bf16::from_f32)
    }

    /// `torch.randn(count, dtype=torch.float16)`.
    pub fn randn_f16(&mut self, count: usize) -> Vec<f16> {
        self.randn_rounded(count, f16::from_f32)
    }

    /// Normal numbers of 16 bits: block by block, so that an incomplete last block costs no uniform numbers of its own.
    fn randn_rounded<T: Copy>(&mut self, count: usize, round: impl Fn(f32) -> T) -> Vec<T> {
        if count < box_muller::BLOCK {
            return (0..count).map(|_| round(self.normal_f64() as f32)).collect();
        }
        let mut values = Vec::with_capacity(count);
        for _ in 0..count / box_muller::BLOCK {
            values.extend(self.normal_block().map(&round));
        }
        if values.len() < count {
            values.truncate(count - box_muller::BLOCK);
            values.extend(self.normal_block().map(&round));
        }
        values
    }

    fn normal_block(&mut self) -> [f32; box_muller::BLOCK] {
        let mut block = std::array::from_fn(|_| self.uniform_f32());
        box_muller::transform(std::slice::from_mut(&mut block));
        block
    }

    /// A number of 0…1 without 1, by 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.bits.next_u32() & 0xff_ffff) as f32 / (1 << 24) as f32
    }

    /// A number of 0…1 without 1, by 53 bits.
    fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// A number of a draw that is shorter than a block.
    fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let (first, second) = box_muller::pair(u1, u2);
        self.spare = Some(second);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_beyond_what_json_holds_is_refused() {
        let error = Seed::new(1 << 53).expect_err("a refusal").to_string();
        assert_eq!(error, "seed 9007199254740992 is not within 0 and 9007199254740991");
        let last = Seed::new(Seed::MAX).expect("the largest seed");
        assert!(last.offset(1).is_err());
        assert!(last.offset(u64::MAX).is_err());
    }
}
