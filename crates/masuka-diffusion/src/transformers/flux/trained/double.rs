//! Double-stream blocks under training.

use candle_core::{DType, Tensor};
use masuka_kernels::elementwise::{gelu_tanh_backward, gelu_tanh_rows};
use masuka_kernels::rope::HeadsShape;

use super::super::Tokens;
use super::super::blocks::{DoubleStreamBlock, Stream as StreamLayers};
use super::Stream;
use super::heads::{Heads, Part, QkvPass, Tables};
use super::modulated::{ModulationGradients, Modulations};
use crate::error::Result;
use crate::layers::{AdapterGradients, Hidden, Matrix, Trains};

/// What the gradients of one pass need.
pub(super) struct DoublePass<T> {
    heads: Heads<T>,
    img: StreamPass<T>,
    txt: StreamPass<T>,
}

/// One stream's half of it.
struct StreamPass<T> {
    part: Part,
    before: BeforeAttention<T>,
    after: AfterAttention<T>,
}

struct BeforeAttention<T> {
    x: Stream,
    modulations: Modulations,
    normed: Matrix<T>,
    qkv: QkvPass<T>,
}

struct AfterAttention<T> {
    attended: Matrix<T>,
    /// (rows, d)
    projected: Matrix<f32>,
    projected_hidden: Hidden,
    /// The stream with what attention added.
    x: Stream,
    normed: Matrix<T>,
    /// The MLP before its GELU, (rows, 4d).
    raw: Matrix<T>,
    raw_hidden: Hidden,
    activated: Matrix<T>,
    /// (rows, d)
    out: Matrix<f32>,
    out_hidden: Hidden,
}

impl DoubleStreamBlock {
    pub(super) fn dtype(&self) -> DType {
        self.img.dtype
    }

    /// As [`forward`](Self::forward), with what the gradients need.
    pub(super) fn pass<T: Trains>(
        &self,
        img: &Tensor,
        txt: &Tensor,
        vec: &Tensor,
        tables: &Tables,
    ) -> Result<(Tokens, DoublePass<T>)> {
        let (img, txt) = (Stream::of(img)?, Stream::of(txt)?);
        let (h, l) = (self.img.qkv.heads, txt.l + img.l);
        let mut heads = Heads::unwritten(HeadsShape { b: img.b, l, h, d: img.d / h });
        let txt_part = Part { start: 0, count: txt.l };
        let img_part = Part { start: txt.l, count: img.l };
        let d = img.d;
        let txt = self.txt.before_attention(txt, vec, txt_part, tables, &mut heads)?;
        let img = self.img.before_attention(img, vec, img_part, tables, &mut heads)?;
        let mut attended = Matrix::unwritten(img.x.b * l, d);
        heads.attend(&mut attended.numbers, d);
        let after = |layers: &StreamLayers, before: &BeforeAttention<T>, part: Part| {
            layers.after_attention(before, part.take(&attended.numbers, l, d))
        };
        let (new_txt, txt_after) = after(&self.txt, &txt, txt_part)?;
        let (new_img, img_after) = after(&self.img, &img, img_part)?;
        let tokens = Tokens::Streams { img: new_img.into_tensor()?, txt: new_txt.into_tensor()? };
        let pass = DoublePass {
            heads,
            img: StreamPass { part: img_part, before: img, after: img_after },
            txt: StreamPass { part: txt_part, before: txt, after: txt_after },
        };
        Ok((tokens, pass))
    }

    /// The gradients of image and text from those of the result.
    pub(super) fn pull_back<T: Trains>(
        &self,
        pass: &DoublePass<T>,
        [img, txt]: &[Tensor; 2],
        tables: &Tables,
        to: &mut AdapterGradients,
    ) -> Result<Tokens> {
        let img = self.img.back_to_attention(&pass.img, Stream::of(img)?, to)?;
        let txt = self.txt.back_to_attention(&pass.txt, Stream::of(txt)?, to)?;
        let (l, d) = (img.dx.l + txt.dx.l, img.dx.d);
        let mut attended = Matrix::unwritten(img.dx.b * l, d);
        pass.txt.part.put(&txt.attended, &mut attended.numbers, l);
        pass.img.part.put(&img.attended, &mut attended.numbers, l);
        let heads = pass.heads.attend_backward(&attended.numbers, d);
        let img = self.img.back_from_attention(&pass.img, img, tables, &heads, to)?;
        let txt = self.txt.back_from_attention(&pass.txt, txt, tables, &heads, to)?;
        Ok(Tokens::Streams { img: img.into_tensor()?, txt: txt.into_tensor()? })
    }
}

/// Gradients of one stream where it meets the other.
struct AtAttention<T> {
    /// Of the stream, past attention.
    dx: Stream,
    attended: Matrix<T>,
    gate: Vec<f32>,
    second: ModulationGradients,
}

impl StreamLayers {
    fn before_attention<T: Trains>(
        &self,
        x: Stream,
        vec: &Tensor,
        part: Part,
        tables: &Tables,
        heads: &mut Heads<T>,
    ) -> Result<BeforeAttention<T>> {
        let modulations = Modulations::new(&self.modulation.trained::<T>()?, vec)?;
        let normed = modulations.halves[0].modulate(&x);
        let qkv = self.qkv.trained()?.forward(normed.rows(), part, tables, heads)?;
        Ok(BeforeAttention { x, modulations, normed, qkv })
    }

    /// Adds the attention's and the MLP's result to the stream.
    fn after_attention<T: Trains>(
        &self,
        before: &BeforeAttention<T>,
        attended: Matrix<T>,
    ) -> Result<(Stream, AfterAttention<T>)> {
        let halves = &before.modulations.halves;
        let (projected, projected_hidden) = self.proj.trained()?.forward(attended.rows())?;
        let x = halves[0].add_gated(&before.x, &projected);
        let normed = halves[1].modulate(&x);
        let (raw, raw_hidden) = self.mlp_in.trained()?.forward(normed.rows())?;
        let mut activated = Matrix::unwritten(x.rows(), raw.columns);
        gelu_tanh_rows(raw.rows(), activated.rows_mut());
        let (out, out_hidden) = self.mlp_out.trained()?.forward(activated.rows())?;
        let y = halves[1].add_gated(&x, &out);
        let pass = AfterAttention {
            attended,
            projected,
            projected_hidden,
            x,
            normed,
            raw,
            raw_hidden,
            activated,
            out,
            out_hidden,
        };
        Ok((y, pass))
    }

    /// From the gradient `dx` of the stream back through the MLP and the attention's projection.
    fn back_to_attention<T: Trains>(
        &self,
        pass: &StreamPass<T>,
        mut dx: Stream,
        to: &mut AdapterGradients,
    ) -> Result<AtAttention<T>> {
        let (after, halves) = (&pass.after, &pass.before.modulations.halves);
        let (dout, gate) = halves[1].add_gated_backward::<T>(&after.out, &dx.numbers);
        let activated = (after.activated.rows(), &after.out_hidden);
        let dactivated: Matrix<T> = self.mlp_out.trained()?.backward(activated, dout.rows(), to)?;
        let mut draw = Matrix::<T>::unwritten(dx.rows(), after.raw.columns);
        gelu_tanh_backward(after.raw.rows(), dactivated.rows(), draw.rows_mut());
        let normed = (after.normed.rows(), &after.raw_hidden);
        let dnormed: Matrix<f32> = self.mlp_in.trained()?.backward(normed, draw.rows(), to)?;
        let affine = halves[1].modulate_backward(&after.x, &[&dnormed.numbers], &mut dx.numbers);
        let second = ModulationGradients { affine, gate };
        let (dprojected, gate) = halves[0].add_gated_backward::<T>(&after.projected, &dx.numbers);
        let attended = (after.attended.rows(), &after.projected_hidden);
        let attended = self.proj.trained()?.backward(attended, dprojected.rows(), to)?;
        Ok(AtAttention { dx, attended, gate, second })
    }

    /// From the gradients of the heads back to the stream's input.
    fn back_from_attention<T: Trains>(
        &self,
        pass: &StreamPass<T>,
        at: AtAttention<T>,
        tables: &Tables,
        heads: &Heads<T>,
        to: &mut AdapterGradients,
    ) -> Result<Stream> {
        let BeforeAttention { x, modulations, normed, qkv } = &pass.before;
        let AtAttention { mut dx, gate, second, .. } = at;
        let normed = (normed.rows(), qkv);
        let by_qkv = self.qkv.trained()?.backward(normed, pass.part, tables, heads, to)?;
        let grads = by_qkv.each_ref().map(|grad| grad.numbers.as_slice());
        let affine = modulations.halves[0].modulate_backward(x, &grads, &mut dx.numbers);
        let gradients = [ModulationGradients { affine, gate }, second];
        modulations.backward(&self.modulation.trained::<T>()?, &gradients, to)?;
        Ok(dx)
    }
}
