//! From CUDA C++ to functions on a card, and from tensors to their arguments.

use std::ops::Deref;
use std::sync::OnceLock;

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig,
};
use candle_core::cuda_backend::cudarc::nvrtc::{self, CompileOptions};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Layout, Shape, Storage, Tensor};
use half::bf16;

use crate::error::{Error, Result};
use crate::ops::differentiable::any_tracked;

/// The lowest compute capability that has bf16 products and asynchronous copies.
const LEAST_CAPABILITY: i32 = 8;

/// A file of kernels.
pub(super) struct Source {
    name: &'static str,
    code: &'static str,
    compiled: OnceLock<String>,
}

impl Source {
    pub(super) const fn new(name: &'static str, code: &'static str) -> Self {
        Self { name, code, compiled: OnceLock::new() }
    }

    /// The kernel `function` on `device`.
    pub(super) fn function(
        &self,
        function: &str,
        device: &CudaDevice,
    ) -> Result<impl Deref<Target = CudaFunction> + use<>> {
        let compiled = match self.compiled.get() {
            Some(compiled) => compiled,
            None => {
                let compiled = self.compile()?;
                self.compiled.get_or_init(|| compiled)
            }
        };
        Ok(device.get_or_load_custom_func(function, self.name, compiled)?)
    }

    fn compile(&self) -> Result<String> {
        let options = CompileOptions {
            arch: Some("compute_80"), // the driver makes of it what its card has
            options: vec!["--std=c++17".to_owned()],
            ..CompileOptions::default()
        };
        let compiled = nvrtc::compile_ptx_with_opts(self.code, options);
        let refused =
            |e| Error::Device(format!("the kernels of {} do not compile: {e:?}", self.name));
        Ok(compiled.map_err(refused)?.to_src())
    }
}

/// The card of `x`, if its kernels may compute with `tensors`, of which `x` is the first.
pub(super) fn card(tensors: &[&Tensor]) -> Option<CudaDevice> {
    let Device::Cuda(device) = tensors.first()?.device() else { return None };
    let major = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    let capability = device.cuda_stream().context().attribute(major).ok()?;
    (capability >= LEAST_CAPABILITY && !any_tracked(tensors)).then(|| device.clone())
}

/// Whether the kernels have a variant for `dtype`.
pub(super) fn has_kernels(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}

/// `x` itself where the numbers of its last axis lie beside each other, else a copy.
pub(super) fn by_rows(x: &Tensor) -> Result<Tensor> {
    let is_beside = x.stride().last().is_none_or(|stride| *stride == 1);
    Ok(if is_beside { x.clone() } else { x.contiguous()? })
}

/// Lends `task` the numbers of `x` on its card from the first on, with their distances.
pub(super) fn with_numbers<T: Number, R>(
    x: &Tensor,
    task: impl FnOnce(&CudaView<'_, T>, &Layout) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::Device("a kernel of a card was given another device's tensor".into()));
    };
    task(&storage.as_cuda_slice::<T>()?.slice(layout.start_offset()..), layout)
}

/// A number that kernels have a variant for.
pub(super) trait Number: CudaDType + DeviceRepr {}

impl Number for f32 {}
impl Number for bf16 {}

/// Room for `shape` on `device`, in which anything may lie.
pub(super) fn room<T: Number>(shape: &Shape, device: &CudaDevice) -> Result<CudaSlice<T>> {
    // SAFETY: numbers of any bits are numbers; the callers' kernels write every one before it is read.
    Ok(unsafe { device.alloc::<T>(shape.elem_count())? })
}

/// The tensor of `numbers`.
pub(super) fn tensor<T: Number>(
    numbers: CudaSlice<T>,
    shape: Shape,
    device: &CudaDevice,
) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(numbers, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// A failure of the driver.
pub(super) fn failed(error: impl std::fmt::Debug) -> Error {
    Error::Device(format!("the card refused: {error:?}"))
}

/// Threads of a block of [`grid`].
pub(super) const THREADS: usize = 256;

/// A grid of x × y blocks, for kernels that use no shared memory but what they declare.
pub(super) fn grid(x: usize, y: usize) -> Result<LaunchConfig> {
    let grid_dim = (int(x)?.unsigned_abs(), int(y)?.unsigned_abs(), 1);
    Ok(LaunchConfig { grid_dim, block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 })
}

/// A size as the kernels take it.
pub(super) fn int(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| Error::Device(format!("{size} is too large for a kernel")))
}
