//! Ties a result that was computed outside of the tensor library's graph to its inputs, with a gradient of our own.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, Layout, MetalStorage, Shape, Storage, Tensor,
};

use crate::error::Result;

/// The gradients of `N` inputs; `None` for those that need none.
pub(super) type Gradients<const N: usize> = [Option<Tensor>; N];

/// A result and how gradients pass it.
struct Linked<F> {
    /// Taken by the one forward call.
    result: Mutex<Option<Tensor>>,
    vjp: F,
}

impl<F> Linked<F> {
    fn new(result: Tensor, vjp: F) -> Self {
        Self { result: Mutex::new(Some(result.detach())), vjp }
    }

    /// The result's numbers, copied.
    fn storage(&self) -> candle_core::Result<(Storage, Shape)> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || candle_core::Error::Msg("a result was linked twice".into());
        let result = result.take().ok_or_else(missing)?.contiguous()?;
        let (storage, layout) = result.storage_and_layout();
        if layout.start_offset() != 0 {
            candle_core::bail!("a result to be linked is a part of another tensor");
        }
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn cpu(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.storage()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => candle_core::bail!("a result changed its device"),
        }
    }

    fn cuda(&self) -> candle_core::Result<(CudaStorage, Shape)> {
        match self.storage()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => candle_core::bail!("a result changed its device"),
        }
    }

    fn metal(&self) -> candle_core::Result<(MetalStorage, Shape)> {
        match self.storage()? {
            (Storage::Metal(storage), shape) => Ok((storage, shape)),
            _ => candle_core::bail!("a result changed its device"),
        }
    }
}

/// `result` as a function of `x`; `vjp` is called with the gradient of the result.
pub(super) fn link1<F>(x: &Tensor, result: Tensor, vjp: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    Ok(x.apply_op1(Linked::new(result, vjp))?)
}

/// `result` as a function of three inputs; `vjp` is called with the result and its gradient.
pub(super) fn link3<F>(inputs: [&Tensor; 3], result: Tensor, vjp: F) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Gradients<3>> + Send + Sync + 'static,
{
    let [a, b, c] = inputs;
    Ok(a.apply_op3(b, c, Linked::new(result, vjp))?)
}

impl<F: Fn(&Tensor) -> Result<Tensor>> CustomOp1 for Linked<F> {
    fn name(&self) -> &'static str {
        "linked"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        (self.vjp)(grad).map(Some).map_err(candle_core::Error::wrap)
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Gradients<3>>> CustomOp3 for Linked<F> {
    fn name(&self) -> &'static str {
        "linked"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = (self.vjp)(result, grad).map_err(candle_core::Error::wrap)?;
        Ok((a, b, c))
    }
}
