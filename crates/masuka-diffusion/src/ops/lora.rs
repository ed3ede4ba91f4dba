//! Low-rank updates packed for the processor's kernels, which add them in the pass of the layer they change.

use std::fmt;

use candle_core::{DType, Tensor, WithDType};
use half::bf16;
use masuka_kernels::linear::{Epilogue, Lora, PackedLinear, WeightRows, linear};
use masuka_kernels::{Number, Rows, RowsMut};

use super::slices::{new_tensor, with_slice};
use crate::error::Result;

/// B (out, rank) · A (rank, in). A is in the dtype of the rows it meets, B in f32 as what it multiplies.
pub struct PackedLora {
    down: Down,
    up: PackedLinear<f32>,
}

/// A, in either kind of numbers.
enum Down {
    F32(PackedLinear<f32>),
    Bf16(PackedLinear<bf16>),
}

/// The numbers of rows that meet an A.
pub(super) trait Meets: Number + WithDType {
    fn down(lora: &PackedLora) -> Option<&PackedLinear<Self>>;
}

impl Meets for f32 {
    fn down(lora: &PackedLora) -> Option<&PackedLinear<Self>> {
        match &lora.down {
            Down::F32(down) => Some(down),
            Down::Bf16(_) => None,
        }
    }
}

impl Meets for bf16 {
    fn down(lora: &PackedLora) -> Option<&PackedLinear<Self>> {
        match &lora.down {
            Down::Bf16(down) => Some(down),
            Down::F32(_) => None,
        }
    }
}

impl PackedLora {
    /// Packs `up` (out, rank) and `down` (rank, in); none where the kernels do not apply.
    ///
    /// # Errors
    /// When they are no matrices.
    pub fn pack(up: &Tensor, down: &Tensor) -> Result<Option<Self>> {
        let dtype = down.dtype();
        if !down.device().is_cpu() || !matches!(dtype, DType::F32 | DType::BF16) {
            return Ok(None);
        }
        let (rank, in_features) = down.dims2()?;
        let down = match dtype {
            DType::BF16 => Down::Bf16(with_slice(down, |rows| {
                Ok(PackedLinear::pack(WeightRows::Bf16(rows), rank, in_features))
            })?),
            _ => Down::F32(with_slice(down, |rows| {
                Ok(PackedLinear::pack(WeightRows::F32(rows), rank, in_features))
            })?),
        };
        let out_features = up.dim(0)?;
        let up = with_slice(&up.to_dtype(DType::F32)?, |rows| {
            Ok(PackedLinear::pack(WeightRows::F32(rows), out_features, rank))
        })?;
        Ok(Some(Self { down, up }))
    }

    /// As the kernels add it to a product of rows of `T`, if these are what it meets.
    pub(super) fn scaled<T: Meets>(&self, scale: f32) -> Option<Lora<'_, T>> {
        Some(Lora { down: T::down(self)?, up: &self.up, scale })
    }

    /// scale · (x · Aᵀ) · Bᵀ for x (n, in), as (n, out) in the dtype of x.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor, scale: f64) -> Result<Tensor> {
        let y = match &self.down {
            Down::F32(down) => self.by(down, &x.to_dtype(DType::F32)?, scale as f32),
            Down::Bf16(down) => self.by(down, &x.to_dtype(DType::BF16)?, scale as f32),
        }?;
        Ok(y.to_dtype(x.dtype())?)
    }

    fn by<T: Meets>(&self, down: &PackedLinear<T>, x: &Tensor, scale: f32) -> Result<Tensor> {
        let (n, in_features) = x.dims2()?;
        let (rank, out_features) = (down.out_features(), self.up.out_features());
        let mut hidden = vec![0.0_f32; n * rank]; // (n, rank)
        with_slice::<T, _>(x, |x| {
            let x = Rows::new(x, in_features);
            linear(x, down, &Epilogue::default(), RowsMut::new(&mut hidden, rank));
            Ok(())
        })?;
        hidden.iter_mut().for_each(|x| *x *= scale);
        new_tensor((n, out_features), |y: &mut [f32]| {
            let y = RowsMut::new(y, out_features);
            linear(Rows::new(&hidden, rank), &self.up, &Epilogue::default(), y);
            Ok(())
        })
    }
}

impl fmt::Debug for PackedLora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out_features, rank) = (self.up.out_features(), self.up.in_features());
        f.debug_struct("PackedLora").field("out", &out_features).field("rank", &rank).finish()
    }
}
