//! Every level against the papers.

use half::bf16;

use super::group::group_norm_on;
use super::rows::normalize;
use super::*;
use crate::elementwise::Activation;
use crate::level::Simd;
use crate::testing::{PRODUCTS_OF_A_FUNCTION, Random, assert_close, is_too_long};

fn widened(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

/// Numbers far from zero, so that careless sums cancel; bf16 can hold them.
fn far_numbers(random: &mut Random, count: usize) -> Vec<bf16> {
    random.vec_f32(count).iter().map(|x| bf16::from_f32(5.0 + x)).collect()
}

#[test]
fn rows_agree_with_the_papers_at_every_level() {
    let mut random = Random::new(1);
    for simd in Simd::supported() {
        for (b, l, d) in [(1, 1, 1), (2, 3, 17), (1, 5, 64), (3, 2, 100), (2, 7, 3072)] {
            if is_too_long(b * l * d * PRODUCTS_OF_A_FUNCTION) {
                continue;
            }
            let x16 = far_numbers(&mut random, b * l * d);
            let x = widened(&x16);
            let (factor, summand) = (random.vec_f32(b * d), random.vec_f32(b * d));
            for (is_centred, has_summand) in [(true, true), (true, false), (false, false)] {
                let summand = if has_summand { &*summand } else { &[] };
                let affine = Affine { factor: &factor, summand };
                let how = (d, 1e-6, is_centred);
                let expected = reference::normalize(&x, how, &affine);
                let case = format!("{simd:?} {b} {l} {d} centred {is_centred}");
                let mut y = vec![0.0; x.len()];
                normalize(simd, &x, how, &affine, &mut y);
                // The mean of numbers near 5 errs by a few 2⁻²⁴ · 5, the deviation is near 0.6.
                let bound = |y: f32| 1e-5 * y.abs() + if d == 1 { 5e-3 } else { 1e-5 };
                assert_close(&y, &expected, bound, &case);
                let mut y = vec![bf16::ZERO; x.len()];
                normalize(simd, &x16, how, &affine, &mut y);
                let rounded = |y: f32| y.abs() / 256.0 + bound(y);
                assert_close(&widened(&y), &expected, rounded, &case);
                let mut y = vec![bf16::ZERO; x.len()];
                normalize(simd, &x, how, &affine, &mut y);
                assert_close(&widened(&y), &expected, rounded, &format!("{case} narrowed"));
            }
        }
    }
}

#[test]
fn gradients_of_rows_agree_with_the_definition_at_every_level() {
    let mut random = Random::new(4);
    for simd in Simd::supported() {
        let shapes = [(1, 1, 2), (2, 3, 17), (1, 5, 64), (2, 70, 9), (3, 70, 100), (2, 130, 33)];
        for (b, l, d) in shapes {
            if is_too_long(b * l * d * PRODUCTS_OF_A_FUNCTION) {
                continue;
            }
            let x = widened(&far_numbers(&mut random, b * l * d));
            let factor = random.vec_f32(b * d);
            let [one, two, before] = [(); 3].map(|()| random.vec_f32(b * l * d));
            let grad: Vec<f32> = one.iter().zip(&two).map(|(a, b)| a + b).collect();
            let mut expected = reference::layer_norm_backward(&x, &factor, (d, 1e-6), &grad);
            expected.0.iter_mut().zip(&before).for_each(|(dx, before)| *dx += before);
            let (grads, mut dx) = ([&*one, &*two], before);
            let norm = LayerNormBackward { x: &x, factor: &factor, d, eps: 1e-6, grads: &grads };
            let found = norm.on(simd, &mut dx);
            let case = format!("{simd:?} {b} {l} {d}");
            // The mean of numbers near 5 errs by a few 2⁻²⁴ · 5; rows of two may deviate by little.
            let bound = |y: f32| if d == 2 { 1e-2 * y.abs() + 1e-2 } else { 2e-5 * y.abs() + 5e-5 };
            assert_close(&dx, &expected.0, bound, &case);
            let summed = |y: f32| bound(y) * (l as f32).sqrt();
            assert_close(&found.factor, &expected.1, summed, &case);
            assert_close(&found.summand, &expected.2, summed, &case);
        }
    }
}

#[test]
fn sums_over_tokens_have_the_same_bits_for_any_number_of_threads() {
    let mut random = Random::new(5);
    let (l, d) = if cfg!(miri) { (70, 5) } else { (200, 24) };
    let (x, grad) = (random.vec_f32(2 * l * d), random.vec_f32(2 * l * d));
    let factor = random.vec_f32(2 * d);
    let run = |count| {
        crate::threads::set_count(count);
        let mut dx = vec![0.0; x.len()];
        let norm = LayerNormBackward { x: &x, factor: &factor, d, eps: 1e-6, grads: &[&grad] };
        (norm.add_to(&mut dx), dx)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

#[test]
fn groups_agree_with_the_paper_at_every_level() {
    for simd in Simd::supported() {
        let mut random = Random::new(2);
        let shapes = [(1, 4, 2), (35, 6, 3), (40, 48, 4), (700, 64, 32), (1000, 24, 4)];
        for (pixels, channels, groups) in shapes {
            if is_too_long(pixels * channels * PRODUCTS_OF_A_FUNCTION) {
                continue;
            }
            let x16 = far_numbers(&mut random, pixels * channels);
            let x = widened(&x16);
            let (weight, bias) = (random.vec_f32(channels), random.vec_f32(channels));
            let expected = reference::group_norm(&x, groups, (&weight, &bias, 1e-6));
            let weights = GroupNormWeights { weight: &weight, bias: &bias, eps: 1e-6 };
            let case = format!("{simd:?} {pixels} {channels} {groups}");
            let moments = GroupMoments::on(simd, &x, channels, groups);
            let mut y = vec![0.0; x.len()];
            group_norm_on(simd, &x, &moments, &weights, (None, &mut y));
            assert_close(&y, &expected, |y| 1e-5 * y.abs() + 2e-5, &case);

            let moments = GroupMoments::on(simd, &x16, channels, groups);
            let mut y = vec![bf16::ZERO; x.len()];
            group_norm_on(simd, &x16, &moments, &weights, (Some(Activation::Silu), &mut y));
            let silu: Vec<f32> = expected.iter().map(|y| y / (1.0 + (-y).exp())).collect();
            assert_close(&widened(&y), &silu, |y| y.abs() / 256.0 + 2e-5, &case);
        }
    }
}

#[test]
fn moments_of_parts_are_those_of_the_whole() {
    let mut random = Random::new(3);
    let x = widened(&far_numbers(&mut random, 900 * 12));
    let whole = GroupMoments::of(&x, 12, 3);
    let parts = [0..100, 100..101, 101..900]
        .map(|part| GroupMoments::of(&x[part.start * 12..part.end * 12], 12, 3));
    let merged = GroupMoments::merge(&parts);
    let (weight, bias) = ([1.0; 12], [0.0; 12]);
    let weights = GroupNormWeights { weight: &weight, bias: &bias, eps: 1e-6 };
    let [mut y, mut expected] = [vec![0.0; x.len()], vec![0.0; x.len()]];
    group_norm(&x, &merged, &weights, None, &mut y);
    group_norm(&x, &whole, &weights, None, &mut expected);
    assert_close(&y, &expected, |_| 1e-5, "merged");
}

#[test]
#[should_panic(expected = "12 channels")]
fn groups_that_do_not_divide_the_channels_are_refused() {
    GroupMoments::of(&[0.0; 12], 12, 5);
}
