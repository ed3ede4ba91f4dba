//! Tensors on the processor as the slices that its kernels take.

use candle_core::{DType, Device, Shape, Storage, Tensor, WithDType};
use half::bf16;
use masuka_kernels::Number;
use masuka_kernels::aligned::{Element, LINE, unwritten};

use crate::error::{Error, Result};

/// Lends `task` the numbers of `x` in the order of its shape; they are copied only if they lie otherwise.
pub(super) fn with_slice<T: WithDType, R>(
    x: &Tensor,
    task: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Device("a kernel of the processor was given another's tensor".into()));
    };
    let start = layout.start_offset();
    task(&storage.as_slice::<T>()?[start..start + layout.shape().elem_count()])
}

/// A tensor on the processor of what `task` writes, which must be every number.
pub(super) fn new_tensor<T: WithDType + Element>(
    shape: impl Into<Shape>,
    task: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    let shape = shape.into();
    let mut numbers = unwritten(shape.elem_count());
    task(&mut numbers)?;
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// As [`new_tensor`], with the first number on a cache line, behind a few unused ones: convolutions that read and write
/// lines of a picture were 5 % faster. Not for what is linked to a gradient, which begins where its memory does.
pub(super) fn new_aligned_tensor<T: WithDType + Element>(
    shape: impl Into<Shape>,
    task: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    let shape = shape.into();
    let len = shape.elem_count();
    let mut numbers: Vec<T> = unwritten(len + LINE / size_of::<T>());
    let start = numbers.as_ptr().align_offset(LINE);
    task(&mut numbers[start..][..len])?;
    let whole = numbers.len();
    Ok(Tensor::from_vec(numbers, whole, &Device::Cpu)?.narrow(0, start, len)?.reshape(shape)?)
}

/// A kernel of the processor over numbers of either kind.
pub(super) trait Kernel {
    type Output;
    fn run<T: Number + WithDType>(self) -> Result<Self::Output>;
}

/// Runs `kernel` over the numbers of `x`, if it lies on the processor and these are f32 or bf16.
pub(super) fn run_for<K: Kernel>(x: &Tensor, kernel: K) -> Option<Result<K::Output>> {
    match (x.device(), x.dtype()) {
        (Device::Cpu, DType::F32) => Some(kernel.run::<f32>()),
        (Device::Cpu, DType::BF16) => Some(kernel.run::<bf16>()),
        _ => None,
    }
}

/// Whether the processor's kernels take `x`.
pub(super) fn is_for_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// The numbers of `x` in f32, in the order of its shape.
pub(crate) fn to_f32(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Lends `task` the numbers of `x` from its first one on, and their distances along each axis; they are copied only
/// where those of the last axis do not lie beside each other.
pub(super) fn with_strides<T: WithDType, R>(
    x: &Tensor,
    task: impl FnOnce(&[T], &[usize]) -> Result<R>,
) -> Result<R> {
    let is_beside = x.stride().last().is_none_or(|stride| *stride == 1);
    let x = if is_beside { x.clone() } else { x.contiguous()? };
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Device("a kernel of the processor was given another's tensor".into()));
    };
    task(&storage.as_slice::<T>()?[layout.start_offset()..], layout.stride())
}
