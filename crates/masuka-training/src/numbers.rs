//! Tensors on the processor as plain numbers, many of them at once: an adapter has hundreds, each too small to be
//! shared between threads.

use std::sync::{Mutex, PoisonError};

use candle_core::{Storage, Tensor};
use masuka_kernels::threads;

use crate::error::Result;

/// The results of `task(0)`, …, `task(count - 1)`, computed on all threads.
pub(crate) fn for_each<R: Send>(
    count: usize,
    task: impl Fn(usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let results: Vec<_> = (0..count).map(|_| Mutex::new(None)).collect();
    threads::parallel_for(count, |i| {
        let done = task(i);
        *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    let done = results.into_iter().filter_map(|result| result.into_inner().ok().flatten());
    done.collect()
}

/// Lends `task` the numbers of f32 tensors on the processor, in the order of their shapes.
pub(crate) fn with_numbers<const N: usize, R>(
    tensors: [&Tensor; N],
    task: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let mut whole = Vec::with_capacity(N);
    for tensor in tensors {
        whole.push(tensor.contiguous()?);
    }
    let guards: Vec<_> = whole.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            let message = "numbers of another device than the processor";
            return Err(candle_core::Error::Msg(message.into()).into());
        };
        let start = layout.start_offset();
        *slice = &storage.as_slice::<f32>()?[start..start + layout.shape().elem_count()];
    }
    task(slices)
}
