//! Every level against the definition, and the promise about bits.

use super::reference::attention_backward as reference;
use super::*;
use crate::testing::{Random, assert_close, is_too_long};

const fn shape(b: usize, h: usize, l_q: usize, l_k: usize, d: usize) -> AttentionShape {
    AttentionShape { b, h, l_q, l_k, d }
}

/// dq, dk and dv by the kernel, (b, h, l, d) in memory; q, k, v and the gradient lie as `strides` says.
fn found<T: Number>(
    simd: Simd,
    shape: AttentionShape,
    [q, k, v, grad]: [&[T]; 4],
    scale: f32,
    by_token: bool,
) -> [Vec<f32>; 3] {
    let AttentionShape { b, h, l_q, l_k, d } = shape;
    let strides = |l| if by_token { Strides::blhd(h, l, d) } else { Strides::bhld(h, l, d) };
    let view = |data, l| View { data, strides: strides(l) };
    let qkv = Qkv { q: view(q, l_q), k: view(k, l_k), v: view(v, l_k) };
    let mut to = [l_q, l_k, l_k].map(|l| vec![T::default(); b * h * l * d]);
    let [dq, dk, dv] = &mut to;
    let gradients = AttentionGradients {
        q: (dq, Strides::bhld(h, l_q, d)),
        k: (dk, Strides::bhld(h, l_k, d)),
        v: (dv, Strides::bhld(h, l_k, d)),
    };
    run(simd, shape, &qkv, scale, view(grad, l_q), gradients);
    to.map(|x| x.into_iter().map(T::to_f32).collect())
}

#[test]
fn every_level_agrees_with_the_definition() {
    let shapes = [
        shape(1, 1, 1, 1, 1),
        shape(1, 2, 7, 7, 32),
        shape(1, 1, 70, 9, 5),
        shape(2, 3, 80, 80, 64),
        shape(1, 1, 100, 311, 128),
        shape(1, 2, 65, 257, 40),
        shape(2, 1, 13, 30, 33),
    ];
    let mut random = Random::new(1);
    for simd in Simd::supported() {
        for shape in shapes {
            let AttentionShape { b, h, l_q, l_k, d } = shape;
            if is_too_long(b * h * l_q.next_multiple_of(QUERIES) * l_k * d) {
                continue;
            }
            let inputs = [l_q, l_k, l_k, l_q].map(|l| random.vec_bf16(b * h * l * d));
            let wide = inputs.each_ref().map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
            let scale = 3.0 / (d as f32).sqrt(); // sharper than usual, so that maxima matter
            for by_token in [false, true] {
                let strides =
                    |l| if by_token { Strides::blhd(h, l, d) } else { Strides::bhld(h, l, d) };
                let view = |i: usize, l| View { data: &wide[i], strides: strides(l) };
                let qkv = Qkv { q: view(0, l_q), k: view(1, l_k), v: view(2, l_k) };
                let expected = reference(shape, &qkv, scale, view(3, l_q));
                let case = format!("{simd:?} {shape:?} by token {by_token}");
                let slices = wide.each_ref().map(Vec::as_slice);
                let exact = found(simd, shape, slices, scale, by_token);
                let slices = inputs.each_ref().map(Vec::as_slice);
                let coarse = found(simd, shape, slices, scale, by_token);
                for (i, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
                    let case = format!("{case} {name}");
                    // Sums of at most 311 products of numbers below 4.
                    assert_close(&exact[i], &expected[i], |y| 1e-5 * y.abs() + 2e-5, &case);
                    // Weights and slopes are rounded to 2⁻⁹ of themselves, which mostly cancels, and the result again.
                    let largest = expected[i].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                    // With one key all cancels, up to f32's rounding.
                    let bound = |y: f32| 4e-3 * y.abs() + 1e-2 * largest + 1e-6;
                    assert_close(&coarse[i], &expected[i], bound, &format!("{case} bf16"));
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn bits_do_not_depend_on_the_number_of_threads() {
    let shape = shape(2, 3, 90, 75, 24);
    let mut random = Random::new(2);
    let inputs = [90, 75, 75, 90].map(|l| random.vec_bf16(2 * 3 * l * 24));
    let results = [1, 2, 3].map(|count| {
        threads::set_count(count);
        found(Simd::active(), shape, inputs.each_ref().map(Vec::as_slice), 0.2, true)
    });
    assert!(results[0] == results[1] && results[0] == results[2]);
}

#[test]
#[should_panic(expected = "grad is too short")]
fn a_gradient_shorter_than_the_result_is_refused() {
    let x = [0.0; 32];
    let view = View { data: &x[..], strides: Strides::bhld(1, 1, 32) };
    let (mut dq, mut dk, mut dv) = ([0.0; 32], [0.0; 32], [0.0; 32]);
    let to = AttentionGradients {
        q: (&mut dq, view.strides),
        k: (&mut dk, view.strides),
        v: (&mut dv, view.strides),
    };
    let grad = View { data: &x[..31], ..view };
    attention_backward(shape(1, 1, 1, 1, 32), &Qkv { q: view, k: view, v: view }, 1.0, grad, to);
}
