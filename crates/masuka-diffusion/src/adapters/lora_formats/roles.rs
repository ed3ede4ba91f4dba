//! What the end of a tensor's name says about it. Conventions share these; few have ends of their own.

/// What a tensor is to its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TensorRole {
    /// A of B·A, (rank, in).
    Down,
    /// B, (out, rank).
    Up,
    /// What B adds beside, (out).
    UpBias,
    /// Alpha, a scalar.
    Alpha,
    /// DoRA's norms: (out), (out, 1) or (1, in).
    Magnitude,
    /// A factor of LoHa's two products: B₁, A₁, B₂, A₂.
    Hadamard(u8),
    /// A factor of LoKr: W₁, B₁, A₁, W₂, B₂, A₂.
    Kronecker(u8),
    /// The difference of the weight, (out, in).
    Diff,
    /// The difference of the bias, (out).
    DiffBias,
    /// A norm's weight in place of the base model's, (d). Whole checkpoints have tensors of this name too.
    NormScale,
}

/// The longest ends first where one ends in another.
pub(super) const ROLES: &[(&str, TensorRole)] = &[
    (".lora_A.weight", TensorRole::Down),
    (".lora_B.weight", TensorRole::Up),
    (".lora_B.bias", TensorRole::UpBias),
    (".lora_A.default.weight", TensorRole::Down),
    (".lora_B.default.weight", TensorRole::Up),
    (".lora_B.default.bias", TensorRole::UpBias),
    (".lora_down.weight", TensorRole::Down),
    (".lora_up.weight", TensorRole::Up),
    (".lora_linear_layer.down.weight", TensorRole::Down),
    (".lora_linear_layer.up.weight", TensorRole::Up),
    (".lora.down.weight", TensorRole::Down),
    (".lora.up.weight", TensorRole::Up),
    (".alpha", TensorRole::Alpha),
    (".lora_magnitude_vector.default.weight", TensorRole::Magnitude),
    (".lora_magnitude_vector.weight", TensorRole::Magnitude),
    (".lora_magnitude_vector", TensorRole::Magnitude),
    (".dora_scale", TensorRole::Magnitude),
    (".hada_w1_a", TensorRole::Hadamard(0)),
    (".hada_w1_b", TensorRole::Hadamard(1)),
    (".hada_w2_a", TensorRole::Hadamard(2)),
    (".hada_w2_b", TensorRole::Hadamard(3)),
    (".lokr_w1", TensorRole::Kronecker(0)),
    (".lokr_w1_a", TensorRole::Kronecker(1)),
    (".lokr_w1_b", TensorRole::Kronecker(2)),
    (".lokr_w2", TensorRole::Kronecker(3)),
    (".lokr_w2_a", TensorRole::Kronecker(4)),
    (".lokr_w2_b", TensorRole::Kronecker(5)),
    (".diff", TensorRole::Diff),
    (".diff_b", TensorRole::DiffBias),
    (".scale", TensorRole::NormScale),
];

/// XLabs names the projections of its attention processors `…_lora1.down.weight`.
pub(super) const PROCESSOR_ROLES: &[(&str, TensorRole)] =
    &[(".down.weight", TensorRole::Down), (".up.weight", TensorRole::Up)];
