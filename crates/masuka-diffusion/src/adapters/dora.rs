//! DoRA (arXiv:2402.09353): the adapted weight gets trained norms. What that changes is one factor a channel, found
//! once for a base model and an adapter; the user's weight then goes from the base weight to the adapted one in a
//! straight line, as in ComfyUI (PEFT takes norms anew for each weight; at 1 both are the same).

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::branch::Gain;
use super::update::{LoraUpdate, Magnitude};
use super::{Delta, Target};
use crate::error::Result;

/// Rows of the base weight that are widened at a time.
const TILE_ROWS: usize = 256;

/// The weight of a linear layer as the model uses it.
pub struct BaseLayer {
    /// (out, in)
    pub weight: Tensor,
    /// (out)
    pub bias: Option<Tensor>,
}

/// The base model, for norms of its weights.
pub trait BaseLayers {
    /// The layer by diffusers' name.
    ///
    /// # Errors
    /// When it cannot be read.
    fn layer(&self, target: Target, name: &str) -> Result<BaseLayer>;
}

/// By what the weight of `base`, adapted, has to be stretched.
pub(super) fn gain(update: &LoraUpdate, base: &BaseLayer) -> Result<Option<Gain>> {
    match &update.magnitude {
        None => Ok(None),
        Some(Magnitude::Rows(magnitude)) => {
            let squares = tiles(base, |tile| Ok(adapted(update, base, tile)?.sqr()?.sum(1)?))?;
            let gain = over_norm(magnitude, &Tensor::cat(&squares, 0)?)?;
            let bias = base.bias.as_ref().map(|bias| -> Result<Tensor> {
                Ok((bias.to_dtype(DType::F32)? * (&gain - 1.0)?)?)
            });
            Ok(Some(Gain::Rows { bias: bias.transpose()?, gain }))
        }
        Some(Magnitude::Columns(magnitude)) => {
            let squares = tiles(base, |tile| Ok(adapted(update, base, tile)?.sqr()?.sum(0)?))?;
            let squares = Tensor::stack(&squares, 0)?.sum(0)?;
            Ok(Some(Gain::Columns(over_norm(magnitude, &squares)?)))
        }
    }
}

fn tiles(base: &BaseLayer, f: impl Fn(Range<usize>) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let rows = base.weight.dim(0)?;
    (0..rows).step_by(TILE_ROWS).map(|start| f(start..(start + TILE_ROWS).min(rows))).collect()
}

/// Rows `tile` of the weight with its delta, in f32.
fn adapted(update: &LoraUpdate, base: &BaseLayer, tile: Range<usize>) -> Result<Tensor> {
    let weight = base.weight.narrow(0, tile.start, tile.len())?.to_dtype(DType::F32)?;
    let dense = |delta: &Delta| -> Result<Tensor> {
        Ok(delta.dense_rows(tile)?.to_device(weight.device())?)
    };
    match update.delta.as_ref().map(dense).transpose()? {
        Some(delta) => Ok((&weight + (delta * update.scale())?)?),
        None => Ok(weight),
    }
}

fn over_norm(magnitude: &Tensor, squares: &Tensor) -> Result<Tensor> {
    let magnitude = magnitude.to_device(squares.device())?.to_dtype(DType::F32)?;
    Ok((magnitude / (squares.sqrt()? + f64::from(f32::EPSILON))?)?)
}
