//! Rows of a tensor through a packed weight, and gradients back.

use candle_core::{Tensor, WithDType};
use half::bf16;
use masuka_kernels::aligned::unwritten;
use masuka_kernels::linear::{Epilogue, Gated, PackedLinear, grad_input, linear};
use masuka_kernels::linear_int8::{PackedInt8, linear_int8};
use masuka_kernels::{Number, Rows, RowsMut};

use crate::error::{Error, Result};
use crate::ops::columns::{Columns, Held};
use crate::ops::lora::Meets;
use crate::ops::slices::{self, new_tensor, with_slice};
use crate::ops::then::{Gate, Then};

/// A weight that meets rows of `T`.
pub(super) trait Multiplier<T: Number> {
    /// (in, out)
    fn widths(&self) -> (usize, usize);
    fn multiply<Y: Number>(&self, x: Rows<'_, T>, then: &Epilogue<'_, T, Y>, y: RowsMut<'_, Y>);
}

impl<T: Number> Multiplier<T> for PackedLinear<T> {
    fn widths(&self) -> (usize, usize) {
        (self.in_features(), self.out_features())
    }

    fn multiply<Y: Number>(&self, x: Rows<'_, T>, then: &Epilogue<'_, T, Y>, y: RowsMut<'_, Y>) {
        linear(x, self, then, y);
    }
}

impl<T: Number> Multiplier<T> for PackedInt8 {
    fn widths(&self) -> (usize, usize) {
        (self.in_features(), self.out_features())
    }

    fn multiply<Y: Number>(&self, x: Rows<'_, T>, then: &Epilogue<'_, T, Y>, y: RowsMut<'_, Y>) {
        linear_int8(x, self, then, y);
    }
}

/// Multiplies rows of `T` and writes `Y`, with what follows in the same pass.
pub(super) fn run<T: Meets, Y: Held>(
    weight: &impl Multiplier<T>,
    x: &Tensor,
    then: &Then<'_>,
    to: &mut Columns,
) -> Result<()> {
    let (in_features, out_features) = weight.widths();
    if x.dims().last() != Some(&in_features) {
        return Err(other_width(x, in_features));
    }
    let bias = then.bias.map(slices::to_f32).transpose()?;
    let loras = then.loras.iter().map(|(lora, scale)| lora.scaled::<T>(*scale));
    let Some(loras) = loras.collect::<Option<Vec<_>>>() else {
        let message = format!("a LoRA does not meet rows of {:?}", T::DTYPE);
        return Err(candle_core::Error::Msg(message).into());
    };
    let epilogue: Epilogue<'_, T, Y> =
        Epilogue { lora: &loras, bias: bias.as_deref(), activation: then.activation, gated: None };
    with_slice(&x.to_dtype(T::DTYPE)?, |x| {
        let x = Rows::new(x, in_features);
        let y = to.next_rows::<Y>(out_features)?;
        let Some(Gate { gate, residual }) = then.gated else {
            weight.multiply(x, &epilogue, y);
            return Ok(());
        };
        with_slice(&gate.to_dtype(Y::DTYPE)?, |gate| {
            with_slice(&residual.to_dtype(Y::DTYPE)?, |residual| {
                let gate = Rows::new(gate, out_features);
                let gated = Some(Gated { gate, residual: Rows::new(residual, out_features) });
                weight.multiply(x, &Epilogue { gated, ..epilogue }, y);
                Ok(())
            })
        })
    })
}

pub(super) fn other_width(x: &Tensor, columns: usize) -> Error {
    let message = format!("rows of {columns} numbers are wanted, not {:?}", x.dims());
    Error::Tensor(candle_core::Error::Msg(message))
}

/// x = high + low, each in bf16 and multiplied side by side, so that the weight is read once.
pub(super) fn forward_in_halves(
    weight: &PackedLinear<bf16>,
    x: &Tensor,
    bias: Option<&[f32]>,
) -> Result<Tensor> {
    let (columns, new_columns) = (weight.in_features(), weight.out_features());
    by_rows(x, columns, new_columns, |x: Rows<'_, f32>, mut y: RowsMut<'_, f32>| {
        let rows = x.rows();
        let mut halves = unwritten(2 * rows * columns);
        RowsMut::new(&mut halves, columns).parallel_rows(|i, half| {
            let numbers = half.iter_mut().zip(x.row(i % rows));
            if i < rows {
                numbers.for_each(|(half, x)| *half = bf16::from_f32(*x));
            } else {
                numbers
                    .for_each(|(half, x)| *half = bf16::from_f32(x - bf16::from_f32(*x).to_f32()));
            }
        });
        let mut products = unwritten(2 * rows * new_columns);
        let epilogue = Epilogue::default();
        let to = RowsMut::new(&mut products, new_columns);
        linear(Rows::new(&halves, columns), weight, &epilogue, to);
        let products: Rows<'_, f32> = Rows::new(&products, new_columns);
        y.parallel_rows(|i, y| {
            let sums = products.row(i).iter().zip(products.row(rows + i));
            y.iter_mut().zip(sums).for_each(|(y, (high, low))| *y = high + low);
            if let Some(bias) = bias {
                y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        });
    })
}

pub(super) fn backward<T: Number + WithDType>(
    weight: &PackedLinear<T>,
    grad: &Tensor,
) -> Result<Tensor> {
    let (columns, new_columns) = (weight.out_features(), weight.in_features());
    let dx = by_rows(grad, columns, new_columns, |dy: Rows<'_, T>, dx: RowsMut<'_, T>| {
        grad_input(dy, weight, &[], dx);
    })?;
    Ok(dx.to_dtype(grad.dtype())?)
}

/// What `run` makes of the rows of `x` (…, columns): (…, new_columns).
fn by_rows<T: Number + WithDType, Y: Number + WithDType>(
    x: &Tensor,
    columns: usize,
    new_columns: usize,
    run: impl FnOnce(Rows<'_, T>, RowsMut<'_, Y>),
) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    if shape.pop() != Some(columns) {
        return Err(other_width(x, columns));
    }
    shape.push(new_columns);
    with_slice(&x.to_dtype(T::DTYPE)?, |x| {
        new_tensor(shape, |y| {
            run(Rows::new(x, columns), RowsMut::new(y, new_columns));
            Ok(())
        })
    })
}
