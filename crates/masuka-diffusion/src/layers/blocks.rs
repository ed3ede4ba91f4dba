//! A stack of equal blocks, kept on the device or passing through it one at a time.

use crate::error::Result;
use crate::weights::Weights;

/// Where the blocks of a transformer live between uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// All on the device.
    Resident,
    /// Each is read from its (memory-mapped) file when its turn comes, and dropped after it.
    Streamed,
}

/// A block that can be loaded on its own.
pub trait Block: Sized {
    /// The configuration that says its sizes.
    type Config: Clone;

    /// Loads the block on which `weights` stands.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    fn load(weights: &Weights, config: &Self::Config) -> Result<Self>;
}

/// A stack of blocks.
pub enum Blocks<B: Block> {
    /// All on the device.
    Resident(Vec<B>),
    /// Read one by one.
    Streamed {
        /// Where each block is.
        weights: Vec<Weights>,
        /// Their sizes.
        config: B::Config,
    },
}

impl<B: Block> Blocks<B> {
    /// Loads `count` blocks below `weights`. Streamed blocks are read once, so that a bad file is found early.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        weights: &Weights,
        count: usize,
        config: &B::Config,
        residency: Residency,
    ) -> Result<Self> {
        let views = (0..count).map(|i| weights.at(i));
        match residency {
            Residency::Resident => {
                let blocks = views.map(|view| B::load(&view, config)).collect::<Result<_>>()?;
                Ok(Self::Resident(blocks))
            }
            Residency::Streamed => {
                let weights: Vec<Weights> = views.collect();
                for view in &weights {
                    B::load(view, config)?;
                }
                Ok(Self::Streamed { weights, config: config.clone() })
            }
        }
    }

    /// Calls `f` with every block in order.
    ///
    /// # Errors
    /// The first error of `f`, or a failure to read a streamed block.
    pub fn for_each(&self, mut f: impl FnMut(&B) -> Result<()>) -> Result<()> {
        match self {
            Self::Resident(blocks) => blocks.iter().try_for_each(f),
            Self::Streamed { weights, config } => {
                weights.iter().try_for_each(|view| f(&B::load(view, config)?))
            }
        }
    }
}
