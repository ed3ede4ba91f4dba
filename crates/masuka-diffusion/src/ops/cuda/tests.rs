//! The card's kernels against the processor's. They need a card: `just test-cuda`.

use candle_core::{DType, Device, Tensor};

use crate::devices::DeviceKind;
use crate::error::Result;
use crate::ops::differentiable::LoraTensors;
use crate::ops::{self, Activation, Attention, FrozenWeight, Gate, GroupMoments, HeadsPart, Then};

fn card() -> Device {
    DeviceKind::Cuda.open().expect("these tests need an NVIDIA card")
}

fn random(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu)
        .and_then(|x| x.to_dtype(dtype))
        .expect("numbers")
}

fn to_card(x: &Tensor) -> Tensor {
    x.to_device(&card()).expect("a copy")
}

/// ‖a − b‖ / ‖b‖ for `a` on the card and `b` on the processor.
#[track_caller]
fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert!(a.device().is_cuda() && b.device().is_cpu());
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    let host = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32);
    let (a, b) = (host(a).expect("a copy"), host(b).expect("a copy"));
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    let error = norm(&(a - &b).expect("equal shapes")).expect("a norm") / norm(&b).expect("a norm");
    println!("{:?}: {error:.1e}", b.dims());
    assert!(error <= tolerance, "{:?}: {error:e}", b.dims());
}

/// Both sides round their sums once to bf16.
const BF16: f32 = 4e-3;
/// Sums in another order.
const F32: f32 = 2e-5;

fn tolerance(dtype: DType) -> f32 {
    if dtype == DType::BF16 { BF16 } else { F32 }
}

#[test]
fn attention_of_any_length_is_that_of_the_processor() -> Result<()> {
    for (b, h, l_q, l_k, d) in [
        (1, 2, 1, 1, 64),
        (2, 3, 77, 130, 128),
        (1, 4, 513, 64, 64),
        (1, 2, 128, 191, 128),
        (1, 24, 700, 700, 128),
        (1, 2, 40, 33, 32), // has no kernel
    ] {
        for dtype in [DType::BF16, DType::F32] {
            let of = |l| random(&[b, l, h, d], dtype);
            let (q, k, v) = (of(l_q), of(l_k), of(l_k));
            let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
                let [q, k, v] = [q, k, v].map(|x| x.transpose(1, 2));
                ops::attention(&q?, &k?, &v?, &Attention::default())
            };
            let found = attend(&to_card(&q), &to_card(&k), &to_card(&v))?;
            // The weights of the sum are bf16 on the card.
            assert_close(&found, &attend(&q, &k, &v)?, 2.0 * tolerance(dtype));
        }
    }
    Ok(())
}

#[test]
fn modulated_norms_are_those_of_the_processor() -> Result<()> {
    for (b, l, d) in [(1, 1, 8), (2, 5, 48), (1, 33, 3072), (2, 7, 1000)] {
        let x = random(&[b, l, d], DType::F32);
        let modulation = random(&[b, 3 * d], DType::F32);
        for dtype in [DType::BF16, DType::F32] {
            let norm = |x: &Tensor, modulation: &Tensor| {
                let (scale, shift) = (modulation.narrow(1, 0, d)?, modulation.narrow(1, 2 * d, d)?);
                ops::modulated_layer_norm(x, &scale, &shift, 1e-6, dtype)
            };
            let found = norm(&to_card(&x), &to_card(&modulation))?;
            assert_close(&found, &norm(&x, &modulation)?, tolerance(dtype));
        }
    }
    Ok(())
}

#[test]
fn normed_and_rotated_heads_are_those_of_the_processor() -> Result<()> {
    for (b, lengths, h, d) in [(1, [3, 4], 2, 8), (2, [5, 1], 3, 128), (1, [77, 200], 24, 128)] {
        let l: usize = lengths.iter().sum();
        let (cos, sin) = (random(&[l, d / 2], DType::F32), random(&[l, d / 2], DType::F32));
        for dtype in [DType::BF16, DType::F32] {
            let part =
                |l| HeadsPart { x: random(&[b, l, h, d], dtype), weight: random(&[d], DType::F32) };
            let parts = lengths.map(part);
            let on_card = parts
                .each_ref()
                .map(|part| HeadsPart { x: to_card(&part.x), weight: to_card(&part.weight) });
            let found = ops::norm_rope(&on_card, 1e-6, &to_card(&cos), &to_card(&sin))?;
            let expected = ops::norm_rope(&parts, 1e-6, &cos, &sin)?;
            assert_close(&found.contiguous()?, &expected.contiguous()?, tolerance(dtype));
        }
    }
    Ok(())
}

#[test]
fn what_follows_a_product_is_as_on_the_processor() -> Result<()> {
    for (b, l, i, o) in [(1, 3, 16, 8), (2, 33, 64, 200)] {
        for dtype in [DType::BF16, DType::F32] {
            let (x, weight, bias) =
                (random(&[b, l, i], dtype), random(&[o, i], dtype), random(&[o], dtype));
            let weight = (weight * 0.1)?;
            let (gates, residual) =
                (random(&[b, 2 * o], DType::F32), random(&[b, l, o], DType::F32));
            let run = |tensors: [&Tensor; 5], gelu: bool, gated: bool, biased: bool| {
                let [x, weight, bias, gates, residual] = tensors;
                let gate = gates.narrow(1, o, o)?;
                let then = Then {
                    loras: &[],
                    bias: biased.then_some(bias),
                    activation: gelu.then_some(Activation::GeluTanh),
                    gated: gated.then_some(Gate { gate: &gate, residual }),
                };
                let to = if gated { DType::F32 } else { dtype };
                FrozenWeight::new(weight.clone())?.forward(x, &then, to)
            };
            let host = [&x, &weight, &bias, &gates, &residual];
            let on_card = host.map(to_card);
            let on_card = on_card.each_ref();
            for (gelu, gated, biased) in [
                (true, false, true),
                (false, true, true),
                (false, true, false),
                (false, false, true),
            ] {
                let found = run(on_card, gelu, gated, biased)?;
                assert_close(&found, &run(host, gelu, gated, biased)?, 2.0 * tolerance(dtype));
            }
        }
    }
    Ok(())
}

#[test]
fn low_rank_updates_are_added_before_what_follows() -> Result<()> {
    let (b, l, i, o) = (2, 5, 64, 48);
    let (x, weight, bias) =
        (random(&[b, l, i], DType::BF16), random(&[o, i], DType::BF16), random(&[o], DType::BF16));
    let loras =
        [8, 16].map(|rank| (random(&[rank, i], DType::BF16), random(&[o, rank], DType::BF16)));
    let scales = [0.05, -0.02];
    for gelu in [false, true] {
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        let mut dense = wide(&weight)?;
        for ((down, up), scale) in loras.iter().zip(scales) {
            dense = (dense + (wide(up)?.matmul(&wide(down)?)? * scale)?)?;
        }
        let activation = gelu.then_some(Activation::GeluTanh);
        let bias_f32 = wide(&bias)?;
        let then = Then { bias: Some(&bias_f32), activation, ..Then::default() };
        let expected = FrozenWeight::new(dense)?.forward(&wide(&x)?, &then, DType::F32)?;

        let on_card = loras.each_ref().map(|(down, up)| (to_card(down), to_card(up)));
        let updates: Vec<_> = on_card
            .iter()
            .zip(scales)
            .map(|((down, up), scale)| LoraTensors { down, up, scale })
            .collect();
        let bias = to_card(&bias);
        let then = Then { bias: Some(&bias), activation, ..Then::default() };
        let weight = FrozenWeight::new(to_card(&weight))?;
        let found = weight.forward_on_card(&to_card(&x), &updates, &then, DType::F32)?;
        // Sums, hidden numbers and the result are rounded to bf16, one after the other.
        assert_close(&found.expect("it is taken"), &expected, 3.0 * BF16);
    }
    Ok(())
}

#[test]
fn group_norm_is_that_of_the_processor() -> Result<()> {
    for (shape, groups) in [([1, 32, 8, 8], 32), ([2, 64, 30, 50], 32), ([1, 128, 300, 200], 32)] {
        let (weight, bias) = (random(&[shape[1]], DType::F32), random(&[shape[1]], DType::F32));
        for dtype in [DType::BF16, DType::F32] {
            let x = (random(&shape, DType::F32) + 3.0)?.to_dtype(dtype)?;
            for silu in [false, true] {
                let norm = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                    let moments = GroupMoments::of(x, groups)?;
                    match silu {
                        true => ops::group_norm_silu(x, &moments, weight, bias, 1e-6),
                        false => ops::group_norm(x, &moments, weight, bias, 1e-6),
                    }
                };
                let found = norm(&to_card(&x), &to_card(&weight), &to_card(&bias))?;
                let expected = norm(&x, &weight, &bias)?.contiguous()?;
                assert_close(&found.contiguous()?, &expected, tolerance(dtype));
            }
        }
    }
    Ok(())
}
