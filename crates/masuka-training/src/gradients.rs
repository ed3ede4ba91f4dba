//! Loss and gradients of one batch. The model is walked block by block: the way there keeps each block's input (or
//! all that its gradients need), the way back takes the gradient through one block at a time. With inputs alone kept, a
//! block is computed again when its turn comes (arXiv:1604.06174), so that memory grows by one input a block.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, TensorId, Var};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::AdapterGradients;
use masuka_diffusion::ops;
use masuka_diffusion::transformers::flux::{BlockPass, FluxTransformer, Prepared, Tokens};
use serde::{Deserialize, Serialize};

use crate::adapter::TrainedAdapter;
use crate::error::Result;
use crate::numbers;

/// What of the forward pass is kept for the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Each block's input: the least memory, one more forward pass.
    Inputs,
    /// Everything: the least time.
    Everything,
}

/// Clean latents, the noise that hides them and what the model is told, for each picture of a batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Packed latents (b, l, c) in f32.
    pub latents: Tensor,
    /// Noise of the same shape.
    pub noise: Tensor,
    /// The velocity that is asked for, of the same shape; `None` asks for noise - latents.
    pub target: Option<Tensor>,
    /// How noisy each picture is, 0 clean, 1 noise.
    pub sigmas: Vec<f32>,
    /// The captions.
    pub conditioning: Conditioning,
    /// Rows and columns of tokens.
    pub grid: (usize, usize),
}

impl Batch {
    /// The velocity that is asked for, (b, l, c).
    ///
    /// # Errors
    /// When the device fails.
    pub fn target(&self) -> Result<Tensor> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => Ok((&self.noise - &self.latents)?),
        }
    }

    /// Pictures `start` to `start + count`.
    ///
    /// # Errors
    /// When there are fewer, or the device fails.
    pub fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.narrow(0, start, count)?.contiguous();
        Ok(Self {
            latents: part(&self.latents)?,
            noise: part(&self.noise)?,
            target: self.target.as_ref().map(part).transpose()?,
            sigmas: self.sigmas[start..start + count].to_vec(),
            conditioning: Conditioning {
                txt: part(&self.conditioning.txt)?,
                pooled: part(&self.conditioning.pooled)?,
            },
            grid: self.grid,
        })
    }
}

/// The gradients of an adapter's parameters, in their order.
#[derive(Debug, Clone)]
pub struct Gradients(Vec<Tensor>);

impl Gradients {
    /// No gradient yet.
    ///
    /// # Errors
    /// When the device fails.
    pub fn zeros(adapter: &TrainedAdapter) -> Result<Self> {
        // One zero each, seen as many: what is added first takes its place without a sum.
        let zero =
            |var: &Var| Tensor::zeros((1, 1), var.dtype(), var.device())?.broadcast_as(var.shape());
        let zeros = adapter.parameters().iter().map(zero);
        Ok(Self(zeros.collect::<candle_core::Result<_>>()?))
    }

    /// The gradients, in the order of the parameters.
    pub fn tensors(&self) -> &[Tensor] {
        &self.0
    }

    /// Adds the gradients of those parameters that the adapter has.
    fn add<'a>(
        &mut self,
        gradients: impl IntoIterator<Item = (TensorId, &'a Tensor)>,
        adapter: &TrainedAdapter,
    ) -> Result<()> {
        for (id, gradient) in gradients {
            if let Some(index) = adapter.index_of(id) {
                self.0[index] = sum(&self.0[index], gradient)?.detach();
            }
        }
        Ok(())
    }

    /// Adds other gradients of the same adapter, in their order.
    pub(crate) fn add_all(&mut self, others: &[Self]) -> Result<()> {
        self.0 = numbers::for_each(self.0.len(), |i| {
            let mut total = self.0[i].clone();
            for other in others {
                total = sum(&total, &other.0[i])?;
            }
            Ok(total)
        })?;
        Ok(())
    }

    /// The Euclidean norm of all gradients together.
    ///
    /// # Errors
    /// When the device fails.
    pub fn norm(&self) -> Result<f64> {
        let squares = numbers::for_each(self.0.len(), |i| {
            Ok(f64::from(self.0[i].sqr()?.sum_all()?.to_scalar::<f32>()?))
        })?;
        Ok(squares.into_iter().sum::<f64>().sqrt())
    }

    /// Scales the gradients down to the norm `largest`, as `torch.nn.utils.clip_grad_norm_`; returns the norm before.
    ///
    /// # Errors
    /// When the device fails.
    pub fn clip(&mut self, largest: f64) -> Result<f64> {
        let norm = self.norm()?;
        let factor = largest / (norm + 1e-6);
        if factor < 1.0 {
            self.0 = numbers::for_each(self.0.len(), |i| Ok((&self.0[i] * factor)?))?;
        }
        Ok(norm)
    }
}

/// a + b; b itself where a is one zero seen as many.
fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.is_contiguous() { Ok((a + b)?) } else { Ok(b.clone()) }
}

/// Training's view of a model with an adapter beside it.
pub struct Learner<'a> {
    /// The model, whose slots hold the adapter.
    pub transformer: &'a FluxTransformer,
    /// The adapter.
    pub adapter: &'a TrainedAdapter,
    /// What is kept between the way there and the way back.
    pub keep: Keep,
    /// What a guidance-distilled model is told of guidance.
    pub guidance: f32,
    /// Gradients by the tensor library's graph, as devices other than the processor take them anyway.
    pub by_graph: bool,
}

impl Learner<'_> {
    /// Adds `factor` times the gradients of the batch's loss to `gradients`; returns each picture's loss, the mean
    /// squared distance of the predicted velocity from the target. `proceed` is asked between blocks.
    ///
    /// # Errors
    /// [`masuka_diffusion::Error::Cancelled`] when `proceed` says no, or a failure of the device.
    pub fn learn(
        &self,
        batch: &Batch,
        factor: f64,
        gradients: &mut Gradients,
        proceed: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        let prepared = self.prepare(batch)?;
        let (mut tokens, vec) = self.start(batch, &prepared)?;
        let mut kept = Vec::with_capacity(self.transformer.blocks());
        for index in 0..self.transformer.blocks() {
            check(proceed)?;
            let (output, pass) = self.pass(index, &tokens, &vec, &prepared)?;
            let input = std::mem::replace(&mut tokens, output);
            kept.push(match self.keep {
                Keep::Everything => Kept::Pass(pass),
                Keep::Inputs => Kept::Input(input),
            });
        }
        let (losses, mut grads) = self.finish(batch, factor, &tokens, &vec, &prepared)?;
        for (index, kept) in kept.into_iter().enumerate().rev() {
            check(proceed)?;
            let pass = match kept {
                Kept::Pass(pass) => pass,
                Kept::Input(input) => self.pass(index, &input, &vec, &prepared)?.1,
            };
            grads = self.pull_back(pass, &grads, &prepared, gradients)?;
        }
        Ok(losses)
    }

    /// Each picture's loss, without gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn losses(&self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(losses(&self.velocity(batch)?, batch)?.to_vec1()?)
    }

    /// The predicted velocity (b, l, c), without gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn velocity(&self, batch: &Batch) -> Result<Tensor> {
        let prepared = self.prepare(batch)?;
        let (mut tokens, vec) = self.start(batch, &prepared)?;
        for index in 0..self.transformer.blocks() {
            let output = self.transformer.block(index, &tokens, &vec, &prepared)?;
            tokens = map(&output, |tensor| Ok(tensor.detach()))?;
        }
        Ok(self.transformer.finish(&tokens, &vec, &prepared)?.detach())
    }

    fn prepare(&self, batch: &Batch) -> Result<Prepared> {
        Ok(self.transformer.prepare(&batch.conditioning, batch.grid, &[self.guidance])?)
    }

    fn start(&self, batch: &Batch, prepared: &Prepared) -> Result<(Tokens, Tensor)> {
        let sigmas = Tensor::new(batch.sigmas.as_slice(), batch.latents.device())?;
        let sigmas = sigmas.reshape((batch.sigmas.len(), 1, 1))?;
        let noise = batch.noise.broadcast_mul(&sigmas)?;
        let clean = batch.latents.broadcast_mul(&(1.0 - sigmas)?)?;
        Ok(self.transformer.start(&(noise + clean)?, &batch.sigmas, prepared)?)
    }

    /// One block's pass over `tokens`: its result, and what the gradients need.
    fn pass(
        &self,
        index: usize,
        tokens: &Tokens,
        vec: &Tensor,
        prepared: &Prepared,
    ) -> Result<(Tokens, Pass)> {
        if self.by_graph || !device(tokens).is_cpu() {
            let input = variables(tokens)?;
            let output = self.transformer.block(index, &input, vec, prepared)?;
            return Ok((map(&output, |t| Ok(t.detach()))?, Pass::Graph { input, output }));
        }
        let (output, pass) = self.transformer.block_pass(index, tokens, vec, prepared)?;
        Ok((output, Pass::Own(pass)))
    }

    /// The gradient of a pass's input from that of its output; adds those of the adapter.
    fn pull_back(
        &self,
        pass: Pass,
        grads: &Tokens,
        prepared: &Prepared,
        gradients: &mut Gradients,
    ) -> Result<Tokens> {
        match pass {
            Pass::Own(pass) => {
                let mut found = AdapterGradients::default();
                let grads = self.transformer.pull_back(pass, grads, prepared, &mut found)?;
                gradients.add(found.iter(), self.adapter)?;
                Ok(grads)
            }
            Pass::Graph { input, output } => {
                let store = pull_back(&output, grads)?;
                let found = store.get_ids().filter_map(|id| Some((*id, store.get_id(*id)?)));
                gradients.add(found, self.adapter)?;
                gradients_of(&input, &store)
            }
        }
    }

    /// The losses, and `factor` times the gradients of their mean with respect to `tokens`.
    fn finish(
        &self,
        batch: &Batch,
        factor: f64,
        tokens: &Tokens,
        vec: &Tensor,
        prepared: &Prepared,
    ) -> Result<(Vec<f32>, Tokens)> {
        let input = variables(tokens)?;
        let velocity = self.transformer.finish(&input, vec, prepared)?;
        let losses = losses(&velocity, batch)?;
        let store = (losses.mean_all()? * factor)?.backward()?;
        Ok((losses.to_vec1()?, gradients_of(&input, &store)?))
    }
}

/// One block's pass.
enum Pass {
    /// By the tensor library's graph: the variables that it was given and what it made of them.
    Graph { input: Tokens, output: Tokens },
    /// By the transformer's own gradients.
    Own(BlockPass),
}

/// What is kept of a block's pass.
enum Kept {
    Pass(Pass),
    Input(Tokens),
}

/// The mean squared distance of each picture's `velocity` (b, l, c) from its target, (b).
fn losses(velocity: &Tensor, batch: &Batch) -> Result<Tensor> {
    Ok((velocity - batch.target()?)?.sqr()?.mean((1, 2))?)
}

/// The gradients of everything below `output`, whose own are `grads`.
fn pull_back(output: &Tokens, grads: &Tokens) -> Result<GradStore> {
    let mut sum = Tensor::zeros((), DType::F32, device(output))?;
    for (tensor, grad) in parts(output).into_iter().zip(parts(grads)) {
        sum = (sum + ops::seed(tensor, grad)?)?;
    }
    Ok(sum.backward()?)
}

fn gradients_of(input: &Tokens, store: &GradStore) -> Result<Tokens> {
    map(input, |tensor| match store.get(tensor) {
        Some(grad) => Ok(grad.detach()),
        None => Ok(tensor.zeros_like()?),
    })
}

/// The same tokens as variables, whose gradients may be asked for.
fn variables(tokens: &Tokens) -> Result<Tokens> {
    map(tokens, |tensor| Ok(Var::from_tensor(&tensor.contiguous()?)?.into_inner()))
}

/// Image, then text; or both joined.
fn parts(tokens: &Tokens) -> Vec<&Tensor> {
    match tokens {
        Tokens::Streams { img, txt } => vec![img, txt],
        Tokens::Joined(tokens) => vec![tokens],
    }
}

/// `f` of each of [`parts`], in their order.
fn map(tokens: &Tokens, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Tokens> {
    Ok(match tokens {
        Tokens::Streams { img, txt } => Tokens::Streams { img: f(img)?, txt: f(txt)? },
        Tokens::Joined(tokens) => Tokens::Joined(f(tokens)?),
    })
}

fn device(tokens: &Tokens) -> &Device {
    match tokens {
        Tokens::Streams { img, .. } => img.device(),
        Tokens::Joined(tokens) => tokens.device(),
    }
}

fn check(proceed: &dyn Fn() -> bool) -> Result<()> {
    if proceed() { Ok(()) } else { Err(masuka_diffusion::Error::Cancelled.into()) }
}
