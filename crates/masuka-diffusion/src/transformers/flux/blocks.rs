//! The two kinds of FLUX blocks. `vec` arrives with SiLU applied, since every modulation starts with it.
//!
//! The streams between blocks, `vec` and the modulations are f32 in every precision: they are sums that every later block
//! reads. What is multiplied by weights is in theirs.

use candle_core::{DType, Tensor};

use super::{FluxConfig, LAYER_NORM_EPS, RotaryTables};
use crate::error::Result;
use crate::layers::{Bias, Block, Linear, RmsNorm};
use crate::ops::{self, Attention, Columns, Gate, HeadsPart};
use crate::weights::Weights;

pub(super) const QK_NORM_EPS: f64 = 1e-6;
const MLP_RATIO: usize = 4;

/// Text and image in streams of their own that meet in attention.
pub(super) struct DoubleStreamBlock {
    pub(super) img: Stream,
    pub(super) txt: Stream,
}

/// One stream's half of a double-stream block.
pub(super) struct Stream {
    pub(super) dtype: DType,
    pub(super) modulation: Linear,
    pub(super) qkv: QkvProjection,
    pub(super) proj: Linear,
    pub(super) mlp_in: Linear,
    pub(super) mlp_out: Linear,
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

        let img_qkv = self.img.qkv.forward(&img_mod[0].modulate(img, self.img.dtype)?)?;
        let txt_qkv = self.txt.qkv.forward(&txt_mod[0].modulate(txt, self.txt.dtype)?)?;
        let heads = Heads::joined(vec![txt_qkv, img_qkv], pe)?;
        let attended = heads.attend()?; // (b, l_txt + l_img, d)

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
        let x = self.proj.forward_gated(attended, modulation[0].gate_into(x))?;
        let hidden = self.mlp_in.forward_gelu(&modulation[1].modulate(&x, self.dtype)?)?;
        self.mlp_out.forward_gated(&hidden, modulation[1].gate_into(&x))
    }
}

/// Text and image in one stream; attention and MLP side by side.
pub(super) struct SingleStreamBlock {
    pub(super) dtype: DType,
    pub(super) modulation: Linear,
    pub(super) qkv: QkvProjection,
    pub(super) proj_mlp: Linear,
    pub(super) proj_out: Linear,
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
        let heads = Heads::joined(vec![self.qkv.forward(&normed)?], pe)?;
        let mixed = self.attended_and_hidden(&heads, &normed)?; // (b, l, d + 4d)
        self.proj_out.forward_gated(&mixed, modulation.gate_into(tokens))
    }

    /// What `proj_out` reads: the attention's result beside the MLP's.
    fn attended_and_hidden(&self, heads: &Heads, normed: &Tensor) -> Result<Tensor> {
        let is_trained = normed.track_op() || heads.is_tracked() || self.proj_mlp.is_trained();
        if is_trained || !normed.device().is_cpu() {
            let parts = [heads.attend()?, self.proj_mlp.forward_gelu(normed)?];
            return Ok(Tensor::cat(&parts, 2)?);
        }
        let (b, l, d) = normed.dims3()?;
        let mut mixed = Columns::new(&[b, l], (1 + MLP_RATIO) * d, normed.dtype());
        heads.attend_into(&mut mixed)?;
        self.proj_mlp.gelu_into(normed, &mut mixed)?;
        mixed.finish()
    }
}

/// Queries, keys and values, and the norms of queries and keys.
pub(super) struct QkvProjection {
    pub(super) heads: usize,
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    pub(super) norm_q: RmsNorm,
    pub(super) norm_k: RmsNorm,
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

    /// x (b, l, d) as queries, keys and values.
    fn forward(&self, x: &Tensor) -> Result<Qkv> {
        let (b, l, d) = x.dims3()?;
        let heads =
            |x: Tensor| Ok::<_, crate::Error>(x.reshape((b, l, self.heads, d / self.heads))?);
        let part = |linear: &Linear, norm: &RmsNorm| {
            Ok::<_, crate::Error>(HeadsPart {
                x: heads(linear.forward(x)?)?,
                weight: norm.adapted_weight()?,
            })
        };
        Ok(Qkv {
            q: part(&self.q, &self.norm_q)?,
            k: part(&self.k, &self.norm_k)?,
            v: heads(self.v.forward(x)?)?,
        })
    }
}

/// What one stream brings to attention.
struct Qkv {
    q: HeadsPart,
    k: HeadsPart,
    v: Tensor, // (b, l, h, d_head)
}

/// Queries, keys and values (b, h, l, d_head), normalised, rotated and ready.
struct Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Heads {
    /// Those of all streams, one after another.
    fn joined(streams: Vec<Qkv>, pe: &RotaryTables) -> Result<Self> {
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for Qkv { q, k, v } in streams {
            queries.push(q);
            keys.push(k);
            values.push(v);
        }
        Ok(Self {
            q: ops::norm_rope(&queries, QK_NORM_EPS, &pe.cos, &pe.sin)?,
            k: ops::norm_rope(&keys, QK_NORM_EPS, &pe.cos, &pe.sin)?,
            v: Tensor::cat(&values, 1)?.transpose(1, 2)?,
        })
    }

    fn is_tracked(&self) -> bool {
        [&self.q, &self.k, &self.v].iter().any(|x| x.track_op())
    }

    /// Attention with merged heads, (b, l, d).
    fn attend(&self) -> Result<Tensor> {
        let (b, h, l, d_head) = self.q.dims4()?;
        let attended = ops::attention(&self.q, &self.k, &self.v, &Attention::default())?;
        Ok(attended.transpose(1, 2)?.reshape((b, l, h * d_head))?) // (b, l, d)
    }

    /// As [`attend`](Self::attend), to the next columns of a wider tensor.
    fn attend_into(&self, to: &mut Columns) -> Result<()> {
        ops::attention_into(&self.q, &self.k, &self.v, &Attention::default(), to)
    }
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

    /// x + gate · what is to come.
    fn gate_into<'a>(&'a self, x: &'a Tensor) -> Gate<'a> {
        Gate { gate: &self.gate, residual: x }
    }
}
