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

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Resident(blocks) => blocks.len(),
            Self::Streamed { weights, .. } => weights.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `f` makes of block `index`, which is below [`len`](Self::len).
    ///
    /// # Errors
    /// That of `f`, or a failure to read a streamed block.
    pub fn with<T>(&self, index: usize, f: impl FnOnce(&B) -> Result<T>) -> Result<T> {
        match self {
            Self::Resident(blocks) => f(&blocks[index]),
            Self::Streamed { weights, config } => f(&B::load(&weights[index], config)?),
        }
    }
}
