//! Weights of linear layers packed for the processor's kernels.

mod product; // rows of a tensor through a packed weight, and gradients back

use std::fmt;

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};
use masuka_kernels::Number;
use masuka_kernels::linear::{PackedLinear, WeightRows};
use masuka_kernels::linear_int8::PackedInt8;

use super::columns::Columns;
use super::slices::{self, with_slice};
use super::then::Then;
use crate::error::{Error, Result};
use product::{backward, forward_in_halves, other_width, run};

/// A weight (out, in) in the layout that the processor multiplies fastest. Nothing else of it is kept.
pub enum PackedWeight {
    /// In f32.
    F32(PackedLinear<f32>),
    /// In bf16; sums are f32.
    Bf16(PackedLinear<bf16>),
    /// In int8 with a scale for each output; what it meets is rounded to int8 row by row.
    Int8(PackedInt8),
}

/// The numbers of a packed weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// 4 bytes each.
    F32,
    /// 2 bytes each.
    Bf16,
    /// 1 byte each.
    Int8,
}

impl Packing {
    /// That of weights in `dtype`, if the kernels know it.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

impl PackedWeight {
    /// Bytes that a row in int8 takes beside its numbers: its scale and its sum.
    pub const INT8_ROW_BYTES: usize = 8;

    /// `weight` (out, in), quantised.
    ///
    /// # Errors
    /// When it is no matrix in f32 on the processor.
    pub fn int8(weight: &Tensor) -> Result<Self> {
        let (out_features, in_features) = weight.dims2()?;
        let pack = |w: &[f32]| Ok(PackedInt8::pack(WeightRows::F32(w), out_features, in_features));
        Ok(Self::Int8(with_slice(weight, pack)?))
    }

    /// Packs `weight` (out, in); none where the kernels do not apply.
    ///
    /// # Errors
    /// When it is no matrix.
    pub fn pack(weight: &Tensor) -> Result<Option<Self>> {
        if !weight.device().is_cpu() {
            return Ok(None);
        }
        Ok(match weight.dtype() {
            DType::F32 => Some(Self::F32(pack::<f32, f32>(weight, |w| WeightRows::F32(w))?)),
            DType::BF16 => Some(Self::Bf16(pack::<bf16, bf16>(weight, |w| WeightRows::Bf16(w))?)),
            DType::F16 => Some(Self::F32(pack::<f16, f32>(weight, |w| WeightRows::F16(w))?)),
            _ => None,
        })
    }

    /// x (…, in) · weightᵀ and what follows, as (…, out) of `dtype`. An x in f32 meets a weight in bf16 with 16 of its
    /// 24 bits: it is taken as the sum of two rows in bf16.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor, then: &Then<'_>, dtype: DType) -> Result<Tensor> {
        let (in_features, out_features) = self.widths();
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(in_features) {
            return Err(other_width(x, in_features));
        }
        let mut columns = Columns::new(&shape, out_features, dtype);
        self.forward_into(x, then, &mut columns)?;
        Ok(columns.finish()?.to_dtype(dtype)?)
    }

    /// As [`forward`](Self::forward), to the next columns of a wider tensor, in its dtype.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_into(&self, x: &Tensor, then: &Then<'_>, to: &mut Columns) -> Result<()> {
        match (self, x.dtype(), to.dtype()) {
            (Self::F32(weight), _, DType::BF16) => run::<f32, bf16>(weight, x, then, to),
            (Self::F32(weight), _, _) => run::<f32, f32>(weight, x, then, to),
            (Self::Int8(weight), DType::BF16, DType::BF16) => {
                run::<bf16, bf16>(weight, x, then, to)
            }
            (Self::Int8(weight), DType::BF16, _) => run::<bf16, f32>(weight, x, then, to),
            (Self::Int8(weight), _, DType::BF16) => run::<f32, bf16>(weight, x, then, to),
            (Self::Int8(weight), _, _) => run::<f32, f32>(weight, x, then, to),
            (Self::Bf16(_), DType::F32, _) if !then.loras.is_empty() => {
                let message = "a LoRA meets rows in bf16, not their halves".into();
                Err(candle_core::Error::Msg(message).into())
            }
            (Self::Bf16(weight), DType::F32, _) => {
                let bias = then.bias.map(slices::to_f32).transpose()?;
                let y = forward_in_halves(weight, x, bias.as_deref())?;
                to.put(&Then { bias: None, ..*then }.apply(y)?)
            }
            (Self::Bf16(weight), _, DType::BF16) => run::<bf16, bf16>(weight, x, then, to),
            (Self::Bf16(weight), _, _) => run::<bf16, f32>(weight, x, then, to),
        }
    }

    /// Numbers of a row of x and of y.
    fn widths(&self) -> (usize, usize) {
        match self {
            Self::F32(weight) => (weight.in_features(), weight.out_features()),
            Self::Bf16(weight) => (weight.in_features(), weight.out_features()),
            Self::Int8(weight) => (weight.in_features(), weight.out_features()),
        }
    }

    /// grad (…, out) · weight as (…, in), in the dtype of grad.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::F32(weight) => backward(weight, grad),
            Self::Bf16(weight) => backward(weight, grad),
            Self::Int8(_) => {
                let message = "cannot be trained on; use one in f32 or bf16";
                Err(Error::invalid("base_model", "in int8", message))
            }
        }
    }
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(weight) => f.debug_tuple("F32").field(weight).finish(),
            Self::Bf16(weight) => f.debug_tuple("Bf16").field(weight).finish(),
            Self::Int8(weight) => f.debug_tuple("Int8").field(weight).finish(),
        }
    }
}

fn pack<S: WithDType, T: Number>(
    weight: &Tensor,
    rows: impl Fn(&[S]) -> WeightRows<'_>,
) -> Result<PackedLinear<T>> {
    let (out_features, in_features) = weight.dims2()?;
    with_slice(weight, |numbers| Ok(PackedLinear::pack(rows(numbers), out_features, in_features)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use masuka_kernels::elementwise::Activation;

    use super::*;
    use crate::ops::{FrozenWeight, Gate, PackedLora, linear};

    const WIDTHS: (usize, usize) = (70, 33);

    fn random(shape: &[usize], dtype: DType) -> Tensor {
        Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        let f32 = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let difference = (f32(a) - f32(b)).unwrap().abs().unwrap();
        difference.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    /// Sums of 33 to 70 products of normal numbers, all at most about 40; bf16 keeps 8 bits of them.
    fn check(dtype: DType, bound: f32) {
        let (out_features, in_features) = WIDTHS;
        let weight = random(&[out_features, in_features], dtype);
        let bias = random(&[out_features], dtype);
        // A part of wider rows, as a layer is given that reads a slice of a concatenation.
        let x = random(&[2, 5, in_features + 3], dtype).narrow(2, 2, in_features).unwrap();
        let packed = FrozenWeight::new(weight.clone()).unwrap();
        assert!(matches!(packed, FrozenWeight::Packed(_)));
        let dense = FrozenWeight::Dense(weight.clone());

        let expected = linear(&x.contiguous().unwrap(), &weight, Some(&bias)).unwrap();
        let found = packed.forward(&x, &Then::bias(Some(&bias)), dtype).unwrap();
        assert_eq!((found.dims(), found.dtype()), (&[2, 5, out_features][..], dtype));
        assert!(distance(&found, &expected) < bound, "{dtype:?}");

        let grad = random(&[2, 5, out_features], dtype);
        let found = packed.backward(&grad).unwrap();
        assert_eq!(found.dims(), [2, 5, in_features]);
        assert!(distance(&found, &dense.backward(&grad).unwrap()) < bound, "{dtype:?} backward");
    }

    #[test]
    fn a_packed_weight_gives_what_the_tensor_gives() {
        check(DType::F32, 1e-4);
        check(DType::BF16, 0.3);
    }

    #[test]
    fn numbers_in_f32_meet_a_bf16_weight_with_16_bits() {
        let weight = random(&[70, 33], DType::BF16);
        let (bias, x) = (random(&[70], DType::BF16), random(&[3, 33], DType::F32));
        let f32 = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let expected = linear(&x, &f32(&weight), Some(&f32(&bias))).unwrap();
        let packed = FrozenWeight::new(weight).unwrap();
        let found = packed.forward(&x, &Then::bias(Some(&bias)), DType::F32).unwrap();
        // 33 products of normal numbers, each off by at most 2⁻¹⁷ of itself.
        assert!(distance(&found, &expected) < 1e-3, "{}", distance(&found, &expected));
    }

    #[test]
    fn a_weight_in_int8_is_near_the_tensor_in_every_dtype() {
        let (weight, bias) = (random(&[70, 33], DType::F32), random(&[70], DType::F32));
        let x = random(&[2, 5, 33], DType::F32);
        let expected = linear(&x, &weight, Some(&bias)).unwrap();
        let packed = PackedWeight::int8(&weight).unwrap();
        for given in [DType::F32, DType::BF16] {
            for wanted in [DType::F32, DType::BF16] {
                let found =
                    packed.forward(&x.to_dtype(given).unwrap(), &Then::bias(Some(&bias)), wanted);
                let found = found.unwrap();
                assert_eq!((found.dims(), found.dtype()), (&[2, 5, 70][..], wanted));
                // 33 products of numbers up to about 4, each off by at most a 50th.
                assert!(distance(&found, &expected) < 0.6, "{}", distance(&found, &expected));
            }
        }
        let error = packed.backward(&expected).unwrap_err().to_string();
        assert!(error.contains("cannot be trained on"), "{error}");
    }

    #[test]
    fn what_follows_is_the_same_in_one_pass_as_in_many() {
        let (out_features, in_features) = WIDTHS;
        let (bias, gate) = (random(&[70], DType::F32), random(&[2, 70], DType::F32));
        let residual = random(&[2, 5, 70], DType::F32);
        let (up, down) = (random(&[70, 4], DType::F32), random(&[4, 33], DType::F32));
        for dtype in [DType::F32, DType::BF16] {
            let weight = random(&[out_features, in_features], dtype);
            let x = random(&[2, 5, in_features], dtype);
            let lora = PackedLora::pack(&up, &down.to_dtype(dtype).unwrap()).unwrap().unwrap();
            let packings = [PackedWeight::pack(&weight).unwrap().unwrap(), {
                PackedWeight::int8(&weight.to_dtype(DType::F32).unwrap()).unwrap()
            }];
            for packed in packings {
                let activation = Some(Activation::GeluTanh);
                let gated = Some(Gate { gate: &gate, residual: &residual });
                let loras = [(&lora, 0.5)];
                let then = Then { loras: &loras, bias: Some(&bias), activation, gated };
                let found = packed.forward(&x, &then, DType::F32).unwrap();

                let product = packed.forward(&x, &Then::default(), DType::F32).unwrap();
                let update = lora.forward(&x.reshape(((), in_features)).unwrap(), 0.5).unwrap();
                let update = update.to_dtype(DType::F32).unwrap().reshape((2, 5, 70)).unwrap();
                let then = Then { loras: &[], ..then };
                let expected = then.apply((product + update).unwrap()).unwrap();
                // The update alone was rounded to the dtype of x: numbers up to about 40, stretched by gates up to 4.
                let bound = if dtype == DType::F32 { 1e-3 } else { 1.0 };
                let distance = distance(&found, &expected);
                assert!(distance < bound, "{packed:?} for {dtype:?}: {distance}");
            }
        }
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let weight = FrozenWeight::new(random(&[4, 3], DType::F32)).unwrap();
        let error = weight
            .forward(&random(&[2, 4], DType::F32), &Then::default(), DType::F32)
            .unwrap_err()
            .to_string();
        assert!(error.contains("rows of 3 numbers are wanted"), "{error}");
    }
}
