//! The two kinds of FLUX blocks. `vec` arrives with SiLU applied, since every modulation starts with it.
//!
//! The streams between blocks, `vec` and the modulations are f32 in every precision: they are sums that every later block
//! reads. What is multiplied by weights is in theirs.

use candle_core::{DType, Tensor};

use super::{FluxConfig, LAYER_NORM_EPS, RotaryTables};
use crate::error::Result;
use crate::layers::{Bias, Block, Linear, RmsNorm};
use crate::ops::{self, Attention};
use crate::weights::Weights;

const QK_NORM_EPS: f64 = 1e-6;
const MLP_RATIO: usize = 4;

/// Text and image in streams of their own that meet in attention.
pub(super) struct DoubleStreamBlock {
    img: Stream,
    txt: Stream,
}

/// One stream's half of a double-stream block.
struct Stream {
    dtype: DType,
    modulation: Linear,
    qkv: QkvProjection,
    proj: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
}

/// How diffusers names the layers of a stream.
struct StreamNames {
    modulation: &'static str,
    qkv: [&'static str; 3],
    norms: [&'static str; 2],
    proj: &'static str,
    mlp: &'static str,
}

const IMG: StreamNames = StreamNames {
    modulation: "norm1.linear",
    qkv: ["attn.to_q", "attn.to_k", "attn.to_v"],
    norms: ["attn.norm_q", "attn.norm_k"],
    proj: "attn.to_out.0",
    mlp: "ff.net",
};

const TXT: StreamNames = StreamNames {
    modulation: "norm1_context.linear",
    qkv: ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    norms: ["attn.norm_added_q", "attn.norm_added_k"],
    proj: "attn.to_add_out",
    mlp: "ff_context.net",
};

impl Block for DoubleStreamBlock {
    type Config = FluxConfig;

    fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let img = Stream::load(weights, config, &IMG)?;
        Ok(Self { img, txt: Stream::load(weights, config, &TXT)? })
    }
}

impl DoubleStreamBlock {
    /// img (b, l_img, d) and txt (b, l_txt, d), changed by each other.
    pub(super) fn forward(
        &self,
        img: &Tensor,
        txt: &Tensor,
        vec: &Tensor,
        pe: &RotaryTables,
    ) -> Result<(Tensor, Tensor)> {
        let img_mod = Modulation::chunks(&self.img.modulation, vec)?;
        let txt_mod = Modulation::chunks(&self.txt.modulation, vec)?;

        let [img_q, img_k, img_v] =
            self.img.qkv.forward(&img_mod[0].modulate(img, self.img.dtype)?)?;
        let [txt_q, txt_k, txt_v] =
            self.txt.qkv.forward(&txt_mod[0].modulate(txt, self.txt.dtype)?)?;
        let q = Tensor::cat(&[txt_q, img_q], 2)?; // (b, h, l_txt + l_img, d_head)
        let k = Tensor::cat(&[txt_k, img_k], 2)?;
        let v = Tensor::cat(&[txt_v, img_v], 2)?;
        let attended = attend(&q, &k, &v, pe)?; // (b, l_txt + l_img, d)

        let l_txt = txt.dim(1)?;
        let txt_attended = attended.narrow(1, 0, l_txt)?.contiguous()?;
        let img_attended = attended.narrow(1, l_txt, img.dim(1)?)?.contiguous()?;
        let img = self.img.finish(img, &img_attended, &img_mod)?;
        let txt = self.txt.finish(txt, &txt_attended, &txt_mod)?;
        Ok((img, txt))
    }
}

impl Stream {
    fn load(weights: &Weights, config: &FluxConfig, names: &StreamNames) -> Result<Self> {
        let d = config.hidden_size();
        let linear = |name: &str, i, o| Linear::load(&weights.at(name), i, o, Bias::Yes);
        Ok(Self {
            dtype: weights.dtype(),
            modulation: linear(names.modulation, d, 6 * d)?,
            qkv: QkvProjection::load(weights, config, names.qkv, names.norms)?,
            proj: linear(names.proj, d, d)?,
            mlp_in: linear(&format!("{}.0.proj", names.mlp), d, MLP_RATIO * d)?,
            mlp_out: linear(&format!("{}.2", names.mlp), MLP_RATIO * d, d)?,
        })
    }

    /// Adds the attention's and the MLP's result to the stream.
    fn finish(&self, x: &Tensor, attended: &Tensor, modulation: &[Modulation]) -> Result<Tensor> {
        let x = modulation[0].gate_into(x, &self.proj.forward_f32(attended)?)?;
        let hidden = self.mlp_in.forward(&modulation[1].modulate(&x, self.dtype)?)?;
        let out = self.mlp_out.forward_f32(&ops::gelu_tanh(&hidden)?)?;
        modulation[1].gate_into(&x, &out)
    }
}

/// Text and image in one stream; attention and MLP side by side.
pub(super) struct SingleStreamBlock {
    dtype: DType,
    modulation: Linear,
    qkv: QkvProjection,
    proj_mlp: Linear,
    proj_out: Linear,
}

impl Block for SingleStreamBlock {
    type Config = FluxConfig;

    fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let d = config.hidden_size();
        let linear = |name: &str, i, o| Linear::load(&weights.at(name), i, o, Bias::Yes);
        Ok(Self {
            dtype: weights.dtype(),
            modulation: linear("norm.linear", d, 3 * d)?,
            qkv: QkvProjection::load(weights, config, IMG.qkv, IMG.norms)?,
            proj_mlp: linear("proj_mlp", d, MLP_RATIO * d)?,
            proj_out: linear("proj_out", (1 + MLP_RATIO) * d, d)?,
        })
    }
}

impl SingleStreamBlock {
    /// tokens (b, l, d), changed.
    pub(super) fn forward(
        &self,
        tokens: &Tensor,
        vec: &Tensor,
        pe: &RotaryTables,
    ) -> Result<Tensor> {
        let modulation = Modulation::chunks(&self.modulation, vec)?.remove(0);
        let normed = modulation.modulate(tokens, self.dtype)?;
        let [q, k, v] = self.qkv.forward(&normed)?;
        let attended = attend(&q, &k, &v, pe)?; // (b, l, d)
        let hidden = ops::gelu_tanh(&self.proj_mlp.forward(&normed)?)?; // (b, l, 4d)
        let out = self.proj_out.forward_f32(&Tensor::cat(&[attended, hidden], 2)?)?;
        modulation.gate_into(tokens, &out)
    }
}

/// Queries, keys and values with RMS-normalised queries and keys.
struct QkvProjection {
    heads: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
}

impl QkvProjection {
    fn load(
        weights: &Weights,
        config: &FluxConfig,
        [q, k, v]: [&str; 3],
        [norm_q, norm_k]: [&str; 2],
    ) -> Result<Self> {
        let d = config.hidden_size();
        let linear = |name: &str| Linear::load(&weights.at(name), d, d, Bias::Yes);
        let norm =
            |name: &str| RmsNorm::load(&weights.at(name), config.attention_head_dim, QK_NORM_EPS);
        Ok(Self {
            heads: config.num_attention_heads,
            q: linear(q)?,
            k: linear(k)?,
            v: linear(v)?,
            norm_q: norm(norm_q)?,
            norm_k: norm(norm_k)?,
        })
    }

    /// x (b, l, d) as q, k, v of (b, h, l, d_head).
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let (b, l, d) = x.dims3()?;
        let heads =
            |x: Tensor| Ok::<_, crate::Error>(x.reshape((b, l, self.heads, d / self.heads))?);
        let q = self.norm_q.forward(&heads(self.q.forward(x)?)?)?.transpose(1, 2)?; // (b, h, l, d_head)
        let k = self.norm_k.forward(&heads(self.k.forward(x)?)?)?.transpose(1, 2)?;
        let v = heads(self.v.forward(x)?)?.transpose(1, 2)?;
        Ok([q, k, v])
    }
}

/// Attention with rotated queries and keys (b, h, l, d_head), heads merged: (b, l, d).
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, pe: &RotaryTables) -> Result<Tensor> {
    let (b, h, l, d_head) = q.dims4()?;
    let q = ops::rope(q, &pe.cos, &pe.sin)?;
    let k = ops::rope(k, &pe.cos, &pe.sin)?;
    let attended = ops::attention(&q, &k, v, &Attention::default())?; // (b, h, l, d_head)
    Ok(attended.transpose(1, 2)?.reshape((b, l, h * d_head))?) // (b, l, d)
}

/// Shift, scale and gate (b, d) of one half of a block.
struct Modulation {
    shift: Tensor,
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// The (shift, scale, gate) triples that `linear` makes of `vec` (b, d).
    fn chunks(linear: &Linear, vec: &Tensor) -> Result<Vec<Self>> {
        let all = linear.forward(vec)?; // (b, 3·n·d)
        let parts = all.chunk(all.dim(1)? / vec.dim(1)?, 1)?;
        let triples = parts.chunks_exact(3).map(|part| Self {
            shift: part[0].clone(),
            scale: part[1].clone(),
            gate: part[2].clone(),
        });
        Ok(triples.collect())
    }

    fn modulate(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        ops::modulated_layer_norm(x, &self.scale, &self.shift, LAYER_NORM_EPS, dtype)
    }

    /// x + gate · y.
    fn gate_into(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        ops::gated_add(x, &self.gate, y)
    }
}
