//! Every level against the definition, and the promises about bits and strides.

use half::bf16;

use super::*;
use crate::testing::{Random, assert_close, is_too_long};
use crate::threads;

/// One call with everything that may vary.
struct Case {
    shape: AttentionShape,
    blhd: bool,
    bias: bool,
    causal: bool,
}

const fn shape(b: usize, h: usize, l_q: usize, l_k: usize, d: usize) -> AttentionShape {
    AttentionShape { b, h, l_q, l_k, d }
}

fn cases() -> Vec<Case> {
    let shapes = [
        shape(1, 1, 1, 1, 1),
        shape(1, 2, 7, 7, 32),
        shape(2, 3, 97, 97, 64),
        shape(1, 1, 100, 611, 128),
        shape(1, 2, 5, 257, 40),
        shape(2, 1, 13, 300, 33),
        shape(1, 1, 19, 530, 512),
        shape(1, 3, 77, 77, 7),
    ];
    let variants = [
        (false, false, false),
        (true, false, false),
        (true, true, false),
        (false, false, true),
        (true, true, true),
    ];
    let cases = shapes
        .into_iter()
        .flat_map(|shape| variants.map(|(blhd, bias, causal)| Case { shape, blhd, bias, causal }));
    cases.collect()
}

fn strides(case: &Case, l: usize) -> Strides {
    let AttentionShape { h, d, .. } = case.shape;
    if case.blhd { Strides::blhd(h, l, d) } else { Strides::bhld(h, l, d) }
}

/// Runs `case` in f32 numbers that bf16 can hold: on `simd` in f32 and in bf16, and by the reference.
fn outputs(simd: Simd, case: &Case, seed: u64) -> [Vec<f32>; 3] {
    let AttentionShape { b, h, l_q, l_k, d } = case.shape;
    let mut random = Random::new(seed);
    let [q16, k16, v16] = [l_q, l_k, l_k].map(|l| random.vec_bf16(b * h * l * d));
    let [q, k, v] = [&q16, &k16, &v16].map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
    let bias = random.vec_f32(h * l_q * l_k);
    let bias = ScoreBias { data: &bias, h_stride: l_q * l_k, q_stride: l_k };
    let scale = 3.0 / (d as f32).sqrt(); // sharper than usual, so that maxima matter
    let scoring = Scoring { scale, bias: case.bias.then_some(bias), causal: case.causal };
    let (for_q, for_k) = (strides(case, l_q), strides(case, l_k));
    let mut y = [vec![0.0; b * h * l_q * d], vec![0.0; b * h * l_q * d]];
    let qkv = Qkv {
        q: View { data: &q, strides: for_q },
        k: View { data: &k, strides: for_k },
        v: View { data: &v, strides: for_k },
    };
    run(simd, case.shape, &qkv, &scoring, (&mut y[0], for_q));
    reference_attention(case.shape, &qkv, &scoring, &mut y[1], for_q);
    let qkv = Qkv {
        q: View { data: &q16, strides: for_q },
        k: View { data: &k16, strides: for_k },
        v: View { data: &v16, strides: for_k },
    };
    let mut y16 = vec![bf16::ZERO; b * h * l_q * d];
    run(simd, case.shape, &qkv, &scoring, (&mut y16, for_q));
    let [found, expected] = y;
    [found, y16.iter().map(|x| x.to_f32()).collect(), expected]
}

#[test]
fn every_level_agrees_with_the_definition() {
    for simd in Simd::supported() {
        for (seed, case) in cases().iter().enumerate() {
            let Case { shape, blhd, bias, causal } = case;
            if is_too_long(shape.b * shape.h * shape.l_q * shape.l_k * shape.d) {
                continue;
            }
            let [found, found16, expected] = outputs(simd, case, seed as u64);
            let name = format!("{simd:?} {shape:?} blhd {blhd} bias {bias} causal {causal}");
            // Scores of magnitude up to 20 carry f32 errors of 2e-6, and the weights' mean is of numbers up to 1.
            assert_close(&found, &expected, |_| 1e-5, &name);
            // A weight and the result are rounded once each, to 2⁻⁹ of themselves; values are at most 1, and errors of
            // weights mostly cancel.
            assert_close(&found16, &expected, |y| 4e-3 * y.abs() + 3e-3, &format!("{name} bf16"));
        }
    }
}

/// Where |q|·|k| is too high to serve as a maximum, and where it is just low enough, on queries beside each other.
#[test]
fn long_queries_are_as_exact_as_short_ones() {
    let (l, d) = (70, if cfg!(miri) { 8 } else { 64 });
    let mut random = Random::new(5);
    let [mut q, k, v] = [(); 3].map(|()| random.vec_f32(l * d));
    for (i, q) in q.chunks_mut(d).enumerate() {
        q.iter_mut().for_each(|x| *x *= i as f32 / 4.0);
    }
    let strides = Strides::bhld(1, l, d);
    let view = |data| View { data, strides };
    let qkv = Qkv { q: view(&q), k: view(&k), v: view(&v) };
    let scoring = Scoring { scale: 0.25, bias: None, causal: false };
    let mut expected = vec![0.0; l * d];
    reference_attention(shape(1, 1, l, l, d), &qkv, &scoring, &mut expected, strides);
    for simd in Simd::supported() {
        let mut found = vec![0.0; l * d];
        run(simd, shape(1, 1, l, l, d), &qkv, &scoring, (&mut found, strides));
        // Scores of magnitude up to 60 carry f32 errors of 8e-6.
        assert_close(&found, &expected, |_| 4e-5, &format!("{simd:?}"));
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn bits_do_not_depend_on_the_number_of_threads() {
    let case = Case { shape: shape(1, 3, 201, 333, 64), blhd: true, bias: false, causal: false };
    let results = [1, 2, 3].map(|count| {
        threads::set_count(count);
        outputs(Simd::active(), &case, 1)
    });
    threads::set_count(2);
    assert!(results.iter().all(|result| result[..2] == results[0][..2]));
}

#[test]
fn keys_masked_by_the_bias_weigh_nothing_even_a_whole_block_of_them() {
    let shape = shape(1, 1, 2, 600, 32);
    let mut random = Random::new(3);
    let (q, k) = (random.vec_f32(2 * 32), random.vec_f32(600 * 32));
    let v: Vec<f32> = (0..600 * 32).map(|i| if i / 32 < 599 { 1e6 } else { 1.0 }).collect();
    let bias: Vec<f32> = (0..600).map(|j| if j < 599 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let bias = ScoreBias { data: &bias, h_stride: 0, q_stride: 0 };
    let scoring = Scoring { scale: 0.2, bias: Some(bias), causal: false };
    let view = |data, l| View { data, strides: Strides::bhld(1, l, 32) };
    let qkv = Qkv { q: view(&q, 2), k: view(&k, 600), v: view(&v, 600) };
    for simd in Simd::supported() {
        let mut y = vec![0.0; 2 * 32];
        run(simd, shape, &qkv, &scoring, (&mut y, Strides::bhld(1, 2, 32)));
        assert_close(&y, &[1.0; 64], |_| 1e-6, &format!("{simd:?}"));
    }
}

#[test]
#[should_panic(expected = "k is too short")]
fn a_view_longer_than_its_slice_is_refused() {
    let x = [0.0; 64];
    let view = View { data: &x, strides: Strides::bhld(1, 2, 32) };
    let scoring = Scoring { scale: 1.0, bias: None, causal: false };
    let mut y = [0.0; 64];
    let qkv = Qkv { q: view, k: view, v: view };
    attention(shape(1, 1, 2, 3, 32), &qkv, &scoring, &mut y, Strides::bhld(1, 2, 32));
}
