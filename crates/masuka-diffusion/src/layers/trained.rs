//! Linear layers under training, on the processor: what they compute, and the gradients of their input and of the LoRA
//! beside them, as plain calls of the kernels. Weights of the base model are constants.

use candle_core::{Device, Tensor, TensorId};
use half::bf16;
use masuka_kernels::aligned::unwritten;
use masuka_kernels::linear::{Epilogue, LowRank, PackedLinear, grad_input, linear};
use masuka_kernels::{Number, Rows, RowsMut, low_rank};

use crate::error::Result;
use crate::ops::{PackedWeight, Then, to_f32};

/// Rows of numbers.
pub(crate) struct Matrix<T> {
    pub numbers: Vec<T>,
    pub columns: usize,
}

impl<T: Number> Matrix<T> {
    /// Of any numbers, for a kernel that writes them all.
    pub fn unwritten(rows: usize, columns: usize) -> Self {
        Self { numbers: unwritten(rows * columns), columns }
    }

    pub fn rows(&self) -> Rows<'_, T> {
        Rows::new(&self.numbers, self.columns)
    }

    pub fn rows_mut(&mut self) -> RowsMut<'_, T> {
        RowsMut::new(&mut self.numbers, self.columns)
    }
}

/// The numbers that a model multiplies by, on the processor.
pub(crate) trait Trains: Number {
    /// The weight in these numbers.
    fn weight(weight: &PackedWeight) -> Option<&PackedLinear<Self>>;
}

impl Trains for f32 {
    fn weight(weight: &PackedWeight) -> Option<&PackedLinear<Self>> {
        match weight {
            PackedWeight::F32(weight) => Some(weight),
            _ => None,
        }
    }
}

impl Trains for bf16 {
    fn weight(weight: &PackedWeight) -> Option<&PackedLinear<Self>> {
        match weight {
            PackedWeight::Bf16(weight) => Some(weight),
            _ => None,
        }
    }
}

/// Gradients of the parameters of adapters, by the parameters' ids.
#[derive(Debug, Default)]
pub struct AdapterGradients(Vec<(TensorId, Tensor)>);

impl AdapterGradients {
    /// The gradients, each for one use of its parameter.
    pub fn iter(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.0.iter().map(|(id, gradient)| (*id, gradient))
    }

    fn push(&mut self, id: TensorId, gradient: Matrix<f32>) -> Result<()> {
        let shape = (gradient.rows().rows(), gradient.columns);
        self.0.push((id, Tensor::from_vec(gradient.numbers, shape, &Device::Cpu)?));
        Ok(())
    }
}

/// A LoRA beside a layer.
pub(super) struct TrainedLora {
    /// (rank, in)
    a: Matrix<f32>,
    /// (out, rank)
    b: Matrix<f32>,
    scale: f32,
    /// Of A and B.
    ids: [TensorId; 2],
}

impl TrainedLora {
    pub(super) fn new(a: &Tensor, b: &Tensor, scale: f64) -> Result<Self> {
        let matrix =
            |x: &Tensor| -> Result<_> { Ok(Matrix { numbers: to_f32(x)?, columns: x.dim(1)? }) };
        let ids = [a.id(), b.id()];
        Ok(Self { a: matrix(a)?, b: matrix(b)?, scale: scale as f32, ids })
    }
}

/// scale · x · Aᵀ, (rows, rank): what the gradient of B needs.
pub(crate) type Hidden = Option<Matrix<f32>>;

/// A layer with at most one LoRA, for the length of one pass.
pub(crate) struct TrainedLinear<'a, T: Number> {
    pub(super) packed: &'a PackedWeight,
    pub(super) weight: &'a PackedLinear<T>,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) lora: Option<TrainedLora>,
}

impl<T: Number> TrainedLinear<'_, T> {
    /// x (rows, in) as (rows, out), and what the way back needs.
    pub fn forward<Y: Number>(&self, x: Rows<'_, T>) -> Result<(Matrix<Y>, Hidden)> {
        let bias = self.bias.map(to_f32).transpose()?;
        let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
        let columns = self.weight.out_features();
        let mut y = Matrix::unwritten(x.rows(), columns);
        let Some(lora) = &self.lora else {
            linear(x, self.weight, &epilogue, y.rows_mut());
            return Ok((y, None));
        };
        let mut sums = Matrix::<f32>::unwritten(x.rows(), columns);
        let epilogue = Epilogue { bias: epilogue.bias, ..Epilogue::default() };
        linear(x, self.weight, &epilogue, sums.rows_mut());
        let hidden = lora.narrow(x);
        low_rank::widen(hidden.rows(), lora.b.rows(), sums.rows(), y.rows_mut());
        Ok((y, Some(hidden)))
    }

    /// As [`forward`](Self::forward) for vec (b, in) in f32, whatever the weight's numbers are.
    pub fn forward_vector(&self, vec: &Tensor) -> Result<(Matrix<f32>, Hidden)> {
        let y = self.packed.forward(vec, &Then::bias(self.bias), candle_core::DType::F32)?;
        let columns = self.weight.out_features();
        let y = Matrix { numbers: to_f32(&y)?, columns };
        let Some(lora) = &self.lora else { return Ok((y, None)) };
        let vec = to_f32(vec)?;
        let hidden = lora.narrow(Rows::new(&vec, self.weight.in_features()));
        let mut sum = Matrix::unwritten(y.rows().rows(), columns);
        low_rank::widen(hidden.rows(), lora.b.rows(), y.rows(), sum.rows_mut());
        Ok((sum, Some(hidden)))
    }

    /// The gradient of x (rows, in) from that of the result, `dy` (rows, out); those of the LoRA go to `to`.
    pub fn backward<Y: Number>(
        &self,
        (x, hidden): (Rows<'_, T>, &Hidden),
        dy: Rows<'_, T>,
        to: &mut AdapterGradients,
    ) -> Result<Matrix<Y>> {
        let mut dx = Matrix::unwritten(x.rows(), self.weight.in_features());
        let narrow = self.backward_lora((x, hidden), dy, to)?;
        let updates: Vec<_> = self
            .lora
            .iter()
            .zip(&narrow)
            .map(|(lora, narrow)| LowRank { hidden: narrow.rows(), matrix: lora.a.rows() })
            .collect();
        grad_input(dy, self.weight, &updates, dx.rows_mut());
        Ok(dx)
    }

    /// The gradients of the LoRA alone; returns scale · dy · B.
    pub fn backward_lora<X: Number>(
        &self,
        (x, hidden): (Rows<'_, X>, &Hidden),
        dy: Rows<'_, X>,
        to: &mut AdapterGradients,
    ) -> Result<Option<Matrix<f32>>> {
        let (Some(lora), Some(hidden)) = (&self.lora, hidden) else { return Ok(None) };
        let rank = lora.b.columns;
        let mut narrow = Matrix::unwritten(dy.rows(), rank);
        low_rank::narrow_back(dy, lora.b.rows(), lora.scale, narrow.rows_mut());
        let mut da = Matrix::unwritten(rank, x.columns());
        low_rank::outer(narrow.rows(), x, da.rows_mut());
        let mut db = Matrix::unwritten(dy.columns(), rank);
        low_rank::outer(dy, hidden.rows(), db.rows_mut());
        to.push(lora.ids[0], da)?;
        to.push(lora.ids[1], db)?;
        Ok(Some(narrow))
    }
}

impl TrainedLora {
    fn narrow<T: Number>(&self, x: Rows<'_, T>) -> Matrix<f32> {
        let mut hidden = Matrix::unwritten(x.rows(), self.a.rows().rows());
        low_rank::narrow(x, self.a.rows(), self.scale, hidden.rows_mut());
        hidden
    }
}
