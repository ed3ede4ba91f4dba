//! Blocks under training on the processor: a pass that keeps what its gradients need, and the way back through it, from
//! the gradient of a block's output to those of its input and of the LoRA beside its layers. Each is what the automatic
//! gradient of [`blocks`](super::blocks) computes, which other devices use and tests compare.

mod modulated; // modulation, normed rows, gated sums
mod heads; // queries, keys and values of all streams, and attention
mod single; // single-stream blocks
mod double; // double-stream blocks

use candle_core::{DType, Device, Tensor};
use half::bf16;

use super::{FluxTransformer, Prepared, Tokens};
use crate::error::Result;
use crate::layers::AdapterGradients;
use crate::ops::to_f32;
use double::DoublePass;
use heads::Tables;
use single::SinglePass;

/// What the gradients of one block's pass need.
pub struct BlockPass {
    index: usize,
    kept: Kept,
}

/// By the numbers that the model multiplies.
enum Kept {
    DoubleF32(Box<DoublePass<f32>>),
    DoubleBf16(Box<DoublePass<bf16>>),
    SingleF32(Box<SinglePass<f32>>),
    SingleBf16(Box<SinglePass<bf16>>),
}

impl FluxTransformer {
    /// As [`block`](Self::block), with what [`pull_back`](Self::pull_back) needs. For models in f32 or bf16 on the
    /// processor, with at most one LoRA.
    ///
    /// # Errors
    /// When a layer has something else beside it, or none of these weights.
    pub fn block_pass(
        &self,
        index: usize,
        tokens: &Tokens,
        vec: &Tensor,
        prepared: &Prepared,
    ) -> Result<(Tokens, BlockPass)> {
        let doubles = self.double_blocks.len();
        let tables = Tables::new(&prepared.pe)?;
        match tokens {
            Tokens::Streams { img, txt } if index < doubles => {
                self.double_blocks.with(index, |block| {
                    let (tokens, kept) = match block.dtype() {
                        DType::BF16 => {
                            let (tokens, pass) = block.pass::<bf16>(img, txt, vec, &tables)?;
                            (tokens, Kept::DoubleBf16(Box::new(pass)))
                        }
                        _ => {
                            let (tokens, pass) = block.pass::<f32>(img, txt, vec, &tables)?;
                            (tokens, Kept::DoubleF32(Box::new(pass)))
                        }
                    };
                    Ok((tokens, BlockPass { index, kept }))
                })
            }
            tokens => {
                let tokens = tokens.joined()?;
                self.single_blocks.with(index - doubles, |block| {
                    let (tokens, kept) = match block.dtype() {
                        DType::BF16 => {
                            let (tokens, pass) = block.pass::<bf16>(&tokens, vec, &tables)?;
                            (tokens, Kept::SingleBf16(Box::new(pass)))
                        }
                        _ => {
                            let (tokens, pass) = block.pass::<f32>(&tokens, vec, &tables)?;
                            (tokens, Kept::SingleF32(Box::new(pass)))
                        }
                    };
                    Ok((Tokens::Joined(tokens), BlockPass { index, kept }))
                })
            }
        }
    }

    /// The gradient of a block's input from that of its output, `grad`; those of adapters go to `to`.
    ///
    /// # Errors
    /// As [`block_pass`](Self::block_pass).
    pub fn pull_back(
        &self,
        pass: BlockPass,
        grad: &Tokens,
        prepared: &Prepared,
        to: &mut AdapterGradients,
    ) -> Result<Tokens> {
        let BlockPass { index, kept } = pass;
        let single = index.wrapping_sub(self.double_blocks.len());
        let tables = Tables::new(&prepared.pe)?;
        let text_tokens = prepared.txt.dim(1)?;
        match kept {
            Kept::DoubleF32(pass) => self.double_blocks.with(index, |block| {
                block.pull_back(&pass, &grad.streams(text_tokens)?, &tables, to)
            }),
            Kept::DoubleBf16(pass) => self.double_blocks.with(index, |block| {
                block.pull_back(&pass, &grad.streams(text_tokens)?, &tables, to)
            }),
            Kept::SingleF32(pass) => self.single_blocks.with(single, |block| {
                Ok(Tokens::Joined(block.pull_back(&pass, &grad.joined()?, &tables, to)?))
            }),
            Kept::SingleBf16(pass) => self.single_blocks.with(single, |block| {
                Ok(Tokens::Joined(block.pull_back(&pass, &grad.joined()?, &tables, to)?))
            }),
        }
    }
}

impl Tokens {
    /// Image and text apart.
    fn streams(&self, text_tokens: usize) -> Result<[Tensor; 2]> {
        match self {
            Self::Streams { img, txt } => Ok([img.clone(), txt.clone()]),
            Self::Joined(tokens) => {
                let image_tokens = tokens.dim(1)? - text_tokens;
                let img = tokens.narrow(1, text_tokens, image_tokens)?.contiguous()?;
                Ok([img, tokens.narrow(1, 0, text_tokens)?.contiguous()?])
            }
        }
    }
}

/// Tokens (b, l, d) in f32 as numbers.
struct Stream {
    b: usize,
    l: usize,
    d: usize,
    numbers: Vec<f32>,
}

impl Stream {
    fn of(tokens: &Tensor) -> Result<Self> {
        let (b, l, d) = tokens.dims3()?;
        Ok(Self { b, l, d, numbers: to_f32(tokens)? })
    }

    /// Other numbers of the same shape.
    fn with(&self, numbers: Vec<f32>) -> Self {
        Self { numbers, ..*self }
    }

    fn into_tensor(self) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.numbers, (self.b, self.l, self.d), &Device::Cpu)?)
    }

    fn rows(&self) -> usize {
        self.b * self.l
    }
}
