//! Gradients of what acts on each number or pair of numbers alone.

use candle_core::{DType, Tensor};

use super::graph::{link1, link3};
use super::rows::{self, new_tensor, with_slices};
use crate::error::Result;
use crate::ops;

/// [`ops::gelu_tanh`].
///
/// # Errors
/// When the device fails.
pub(crate) fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    const CUBIC: f64 = 0.044_715;
    let slope = (2.0 / std::f64::consts::PI).sqrt();
    let x_ = x.detach();
    let y = ops::gelu_tanh(&x_)?;
    let (y_, dtype) = (y.clone(), x.dtype());
    link1(x, y, move |grad| {
        if x_.device().is_cpu() {
            return with_slices([&x_, &y_, grad], |[x, y, grad]| {
                new_tensor(x_.shape(), dtype, |dx| rows::gelu_tanh(x, y, grad, dx))
            });
        }
        let x = x_.to_dtype(DType::F32)?;
        let square = x.sqr()?;
        // y = x/2 · (1 + tanh u), u = slope · (x + CUBIC · x³)
        let tanh = (&x * square.affine(CUBIC * slope, slope)?)?.tanh()?;
        let inner = (&x * square.affine(3.0 * CUBIC * slope, slope)?)?; // x · du/dx
        let curved = (inner * tanh.sqr()?.affine(-1.0, 1.0)?)?;
        let derivative = ((tanh + curved)? * 0.5)?.affine(1.0, 0.5)?;
        Ok((grad.to_dtype(DType::F32)? * derivative)?.to_dtype(dtype)?)
    })
}

/// [`ops::gated_add`]: x + gate · y for x and y (b, l, d) and gate (b, d).
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn gated_add(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (gate_, y_) = (gate.detach(), y.detach());
    let sum = ops::gated_add(&x.detach(), &gate_, &y_)?;
    let gate_needs = gate.track_op();
    let (gate_dtype, y_dtype) = (gate.dtype(), y.dtype());
    link3([x, gate, y], sum, move |_, grad| {
        if y_.device().is_cpu() {
            let (b, length, width) = y_.dims3()?;
            return with_slices([&gate_, &y_, grad], |[gate, y, wide]| {
                let dy = new_tensor(y_.shape(), y_dtype, |dy| {
                    rows::gated(wide, gate, length, width, dy);
                })?;
                let dgate = || {
                    let sums = rows::sum_of_products(wide, y, length, width);
                    Tensor::from_vec(sums, (b, width), dy.device())?.to_dtype(gate_dtype)
                };
                let dgate = gate_needs.then(dgate).transpose()?;
                Ok([Some(grad.clone()), dgate, Some(dy)])
            });
        }
        let wide = grad.to_dtype(DType::F32)?;
        let gate = gate_.to_dtype(DType::F32)?.unsqueeze(1)?; // (b, 1, d)
        let dy = wide.broadcast_mul(&gate)?.to_dtype(y_dtype)?;
        let dgate = if gate_needs {
            Some((wide * y_.to_dtype(DType::F32)?)?.sum(1)?.to_dtype(gate_dtype)?) // (b, d)
        } else {
            None
        };
        Ok([Some(grad.clone()), dgate, Some(dy)])
    })
}

/// [`ops::rope`]: a rotation, whose gradient is turned back.
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let y = ops::rope(&x.detach(), cos, sin)?;
    let (cos, back) = (cos.clone(), sin.neg()?);
    link1(x, y, move |grad| ops::rope(grad, &cos, &back))
}
