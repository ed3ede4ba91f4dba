//! GGUF blocks of a linear layer, expanded for the length of one product.

use candle_core::Device;
use candle_core::quantized::{QTensor, ggml_file};
use masuka_kernels::Number;
use masuka_kernels::linear::PackedLinear;
use masuka_kernels::linear_int8::PackedInt8;

use super::packed::{PackedWeight, Packing};
use crate::error::Result;

/// `blocks` (out, in) on the processor, packed; expanded row by row on all threads, never as a whole in f32.
///
/// # Errors
/// When it is no matrix.
pub fn pack_blocks(blocks: &QTensor, packing: Packing) -> Result<PackedWeight> {
    let (out_features, in_features) = blocks.shape().dims2()?;
    let bytes = blocks.data()?;
    let row_bytes = bytes.len() / out_features.max(1);
    let rows = |first: usize| bytes[first * row_bytes..].chunks_exact(row_bytes);
    Ok(match packing {
        Packing::F32 => {
            let read = |i, numbers: &mut [f32]| expand(blocks, rows(i), in_features, numbers);
            PackedWeight::F32(PackedLinear::from_rows(out_features, in_features, read))
        }
        Packing::Bf16 => {
            let read = |i, numbers: &mut [_]| expand(blocks, rows(i), in_features, numbers);
            PackedWeight::Bf16(PackedLinear::from_rows(out_features, in_features, read))
        }
        Packing::Int8 => {
            let read = |i, numbers: &mut [f32]| expand(blocks, rows(i), in_features, numbers);
            PackedWeight::Int8(PackedInt8::from_rows(out_features, in_features, read))
        }
    })
}

/// Writes the numbers of some rows of `blocks`, of `width` each, whose bytes are `rows`.
fn expand<'a, T: Number>(
    blocks: &QTensor,
    rows: impl Iterator<Item = &'a [u8]>,
    width: usize,
    numbers: &mut [T],
) {
    for (row, numbers) in rows.zip(numbers.chunks_exact_mut(width)) {
        let row = ggml_file::qtensor_from_ggml(blocks.dtype(), row, vec![width], &Device::Cpu)
            .and_then(|row| row.dequantize(&Device::Cpu)?.to_vec1::<f32>())
            .expect("a part of blocks that were read as a whole before");
        numbers.iter_mut().zip(row).for_each(|(to, from)| *to = T::from_f32(from));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::quantized::GgmlDType;
    use candle_core::{DType, Tensor};

    use super::*;
    use crate::ops::{FrozenWeight, Then};

    #[test]
    fn rows_of_blocks_are_those_that_are_expanded_at_once() {
        let weight = Tensor::randn(0.0_f32, 1.0, (70, 512), &Device::Cpu).unwrap();
        let x = Tensor::randn(0.0_f32, 1.0, (3, 512), &Device::Cpu).unwrap();
        for kind in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K, GgmlDType::F16] {
            let blocks = QTensor::quantize(&weight, kind).unwrap();
            for (dtype, packing) in [(DType::F32, Packing::F32), (DType::BF16, Packing::Bf16)] {
                let whole = blocks.dequantize(&Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let by_row = FrozenWeight::Packed(Arc::new(pack_blocks(&blocks, packing).unwrap()));
                let [expected, found] = [FrozenWeight::new(whole).unwrap(), by_row].map(|weight| {
                    let y = weight.forward(&x, &Then::default(), DType::F32).unwrap();
                    y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                });
                assert_eq!(found, expected, "{kind:?} as {dtype:?}");
            }
        }
    }
}
