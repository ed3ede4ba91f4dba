//! Single-stream blocks under training.

use candle_core::{DType, Tensor};
use masuka_kernels::elementwise::{gelu_tanh_backward, gelu_tanh_rows};
use masuka_kernels::rope::HeadsShape;
use masuka_kernels::{Rows, RowsMut};

use super::super::blocks::SingleStreamBlock;
use super::Stream;
use super::heads::{Heads, Part, QkvPass, Tables};
use super::modulated::{ModulationGradients, Modulations};
use crate::error::Result;
use crate::layers::{AdapterGradients, Hidden, Matrix, Trains};

/// What the gradients of one pass need.
pub(super) struct SinglePass<T> {
    x: Stream,
    modulations: Modulations,
    normed: Matrix<T>,
    qkv: QkvPass<T>,
    heads: Heads<T>,
    /// The MLP before its GELU, (rows, 4d).
    raw: Matrix<T>,
    raw_hidden: Hidden,
    /// Attention's result beside the MLP's, (rows, 5d).
    mixed: Matrix<T>,
    /// (rows, d)
    out: Matrix<f32>,
    out_hidden: Hidden,
}

impl SingleStreamBlock {
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// As [`forward`](Self::forward), with what the gradients need.
    pub(super) fn pass<T: Trains>(
        &self,
        tokens: &Tensor,
        vec: &Tensor,
        tables: &Tables,
    ) -> Result<(Tensor, SinglePass<T>)> {
        let x = Stream::of(tokens)?;
        let modulations = Modulations::new(&self.modulation.trained::<T>()?, vec)?;
        let modulation = &modulations.halves[0];
        let normed = modulation.modulate(&x);
        let heads = self.qkv.heads;
        let mut heads = Heads::unwritten(HeadsShape { b: x.b, l: x.l, h: heads, d: x.d / heads });
        let all = Part { start: 0, count: x.l };
        let qkv = self.qkv.trained()?.forward(normed.rows(), all, tables, &mut heads)?;
        let (raw, raw_hidden) = self.proj_mlp.trained()?.forward(normed.rows())?;
        let width = x.d + raw.columns;
        let mut mixed = Matrix::unwritten(x.rows(), width);
        heads.attend(&mut mixed.numbers, width);
        let to = RowsMut::strided(&mut mixed.numbers[x.d..], x.rows(), raw.columns, width);
        gelu_tanh_rows(raw.rows(), to);
        let (out, out_hidden) = self.proj_out.trained()?.forward(mixed.rows())?;
        let y = modulation.add_gated(&x, &out).into_tensor()?;
        let pass = SinglePass {
            x,
            modulations,
            normed,
            qkv,
            heads,
            raw,
            raw_hidden,
            mixed,
            out,
            out_hidden,
        };
        Ok((y, pass))
    }

    /// The gradient of the tokens from that of the result.
    pub(super) fn pull_back<T: Trains>(
        &self,
        pass: &SinglePass<T>,
        grad: &Tensor,
        tables: &Tables,
        to: &mut AdapterGradients,
    ) -> Result<Tensor> {
        let (x, modulation) = (&pass.x, &pass.modulations.halves[0]);
        let mut dx = Stream::of(grad)?;
        let (dout, gate) = modulation.add_gated_backward::<T>(&pass.out, &dx.numbers);
        let mixed = (pass.mixed.rows(), &pass.out_hidden);
        let dmixed: Matrix<T> = self.proj_out.trained()?.backward(mixed, dout.rows(), to)?;
        let dheads = pass.heads.attend_backward(&dmixed.numbers, dmixed.columns);
        let mut draw = Matrix::<T>::unwritten(x.rows(), pass.raw.columns);
        let dgelu = Rows::strided(&dmixed.numbers[x.d..], x.rows(), draw.columns, dmixed.columns);
        gelu_tanh_backward(pass.raw.rows(), dgelu, draw.rows_mut());
        let normed = pass.normed.rows();
        let raw = (normed, &pass.raw_hidden);
        let by_mlp: Matrix<f32> = self.proj_mlp.trained()?.backward(raw, draw.rows(), to)?;
        let all = Part { start: 0, count: x.l };
        let [by_q, by_k, by_v] =
            self.qkv.trained()?.backward((normed, &pass.qkv), all, tables, &dheads, to)?;
        let grads = [&by_mlp, &by_q, &by_k, &by_v].map(|grad| grad.numbers.as_slice());
        let affine = modulation.modulate_backward(x, &grads, &mut dx.numbers);
        let gradients = [ModulationGradients { affine, gate }];
        pass.modulations.backward(&self.modulation.trained::<T>()?, &gradients, to)?;
        dx.into_tensor()
    }
}
