//! Every level and method against the definition.

use half::bf16;

use super::*;
use crate::elementwise::Activation;
use crate::norm::{GroupMoments, GroupNormWeights, group_norm};
use crate::testing::{Random, assert_close, is_too_long};
use crate::threads;

const fn geometry(c_in: usize, c_out: usize, kernel: usize) -> Geometry {
    let padding = kernel / 2;
    Geometry { c_in, c_out, kernel, stride: 1, padding_before: padding, padding_after: padding }
}

const fn halving(c_in: usize, c_out: usize) -> Geometry {
    Geometry { stride: 2, padding_before: 0, padding_after: 1, ..geometry(c_in, c_out, 3) }
}

fn widened(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

fn run<T: Number>(
    simd: Simd,
    (x, weight, bias): (&[T], &[T], &[f32]),
    residual: Option<&[T]>,
    size: (usize, usize),
    (geometry, method): (Geometry, Method),
) -> Vec<T> {
    let conv = PackedConv2d::on(simd, weight, bias, geometry, method);
    let (height, width) = conv.output_size(size.0, size.1);
    let mut y = vec![T::default(); height * width * geometry.c_out];
    conv.forward(x, size, residual, &mut y);
    y
}

/// Methods of a level that take bf16 alone.
#[cfg(target_arch = "x86_64")]
fn in_windows(simd: Simd) -> Vec<Method> {
    let methods = [Method::Windows, Method::UpsamplingWindows];
    methods.into_iter().filter(|_| windows::are_for::<bf16>(simd)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn in_windows(_: Simd) -> Vec<Method> {
    Vec::new()
}

fn check(simd: Simd, geometry: Geometry, method: Method, size: (usize, usize)) {
    let Geometry { c_in, c_out, kernel, .. } = geometry;
    // With the rows and columns of a tile that are not used.
    let outputs = (size.0 * size.1).next_multiple_of(6) * c_out.next_multiple_of(32);
    if is_too_long(outputs * c_in * kernel * kernel) {
        return;
    }
    let mut random = Random::new(5);
    let x16 = random.vec_bf16(size.0 * size.1 * c_in);
    let weight16 = random.vec_bf16(c_out * c_in * kernel * kernel);
    let (x, weight, bias) = (widened(&x16), widened(&weight16), random.vec_f32(c_out));
    let expected = match method {
        method if method.doubles() => {
            let doubled = reference::upsample(&x, size, c_in);
            reference::conv2d(&doubled, (2 * size.0, 2 * size.1), &weight, &bias, geometry)
        }
        _ => reference::conv2d(&x, size, &weight, &bias, geometry),
    };
    let residual16 = random.vec_bf16(expected.len());
    let residual = widened(&residual16);
    let expected: Vec<f32> = expected.iter().zip(&residual).map(|(y, r)| y + r).collect();
    let case = format!("{simd:?} {method:?} {geometry:?} {size:?}");
    let how = (geometry, method);

    let n = (c_in * kernel * kernel) as f32;
    if !in_windows(simd).contains(&method) {
        let y = run(simd, (&x, &weight, &bias), Some(&residual), size, how);
        // The sum has magnitude √n / 3 and is rounded n times in the worst case, √n times in the usual one.
        assert_close(&y, &expected, |y| 1e-6 * y.abs() + 1e-7 * n + 1e-6, &case);
    }

    let y = run(simd, (&x16, &weight16, &bias), Some(&residual16), size, how);
    // Winograd and upsampling round transformed weights, and Winograd inputs, to 2⁻⁹ of up to four times their size.
    let is_exact = !method.doubles() && method != Method::Winograd;
    let rounding = if is_exact { 0.0 } else { 0.012 * n.sqrt() };
    assert_close(&widened(&y), &expected, |y| y.abs() / 256.0 + rounding + 1e-4, &case);
}

#[test]
fn every_method_agrees_with_the_definition_at_every_level() {
    for simd in Simd::supported() {
        for size in [(1, 1), (2, 5), (9, 6), (13, 17)] {
            for (c_in, c_out) in [(1, 1), (3, 5), (4, 6), (16, 64), (33, 70), (64, 130)] {
                check(simd, geometry(c_in, c_out, 1), Method::Direct, size);
                check(simd, geometry(c_in, c_out, 3), Method::Direct, size);
                check(simd, halving(c_in, c_out), Method::Direct, (2 * size.0, 2 * size.1));
                check(simd, geometry(c_in, c_out, 3), Method::Upsampling, size);
                if c_in.is_multiple_of(2) {
                    check(simd, geometry(c_in, c_out, 3), Method::Winograd, size);
                }
            }
        }
    }
}

#[test]
fn windows_agree_with_the_definition() {
    for simd in Simd::supported() {
        for (method, size) in in_windows(simd).into_iter().flat_map(|method| {
            [(1, 1), (2, 5), (9, 6), (13, 17), (35, 50), (20, 70)].map(|size| (method, size))
        }) {
            for (c_in, c_out) in [(1, 1), (3, 5), (16, 64), (33, 70), (64, 130)] {
                check(simd, geometry(c_in, c_out, 3), method, size);
            }
        }
    }
}

#[test]
fn a_normalised_picture_need_not_be_written() {
    let simd = Simd::active();
    for method in in_windows(simd).into_iter().filter(|method| !method.doubles()) {
        for (size, c_in) in [((1, 1), 3), ((9, 6), 33), ((13, 17), 64), ((35, 50), 24)] {
            let mut random = Random::new(7);
            let (geometry, c_out) = (geometry(c_in, 20, 3), 20);
            let x = random.vec_bf16(size.0 * size.1 * c_in);
            let weight = random.vec_bf16(c_out * c_in * 9);
            let residual = random.vec_bf16(size.0 * size.1 * c_out);
            // With a summand far from zero, what lies outside the picture would be seen if it were normalised too.
            let (factor, summand) = (random.vec_f32(c_in), vec![3.0; c_in]);
            let weights = GroupNormWeights { weight: &factor, bias: &summand, eps: 1e-6 };
            let moments = GroupMoments::of(&x, c_in, 1);
            let conv = PackedConv2d::on(simd, &weight, &vec![0.5; c_out], geometry, method);
            assert!(conv.normalizes(), "{method:?}");
            for activation in [None, Some(Activation::Silu), Some(Activation::GeluErf)] {
                let mut normed = vec![bf16::ZERO; x.len()];
                group_norm(&x, &moments, &weights, activation, &mut normed);
                let [mut expected, mut y] = [(); 2].map(|()| vec![bf16::ZERO; residual.len()]);
                conv.forward(&normed, size, Some(&residual), &mut expected);
                let norm = moments.normalization(&weights, activation);
                conv.forward_normalized(&x, &norm, size, Some(&residual), &mut y);
                assert!(y == expected, "{size:?} {c_in} {activation:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "Direct does not normalise")]
fn a_method_that_does_not_normalise_says_so() {
    let norm = GroupMoments::of(&[1.0_f32, 2.0], 1, 1)
        .normalization(&GroupNormWeights { weight: &[1.0], bias: &[0.0], eps: 1e-6 }, None);
    let conv = PackedConv2d::new(&[1.0_f32], &[0.0], geometry(1, 1, 1));
    conv.forward_normalized(&[1.0, 2.0], &norm, (1, 2), None, &mut [0.0; 2]);
}

#[test]
fn the_method_follows_from_the_geometry() {
    let method = |geometry| PackedConv2d::<f32>::best_method(Simd::active(), geometry);
    assert_eq!(method(geometry(128, 256, 3)), Method::Winograd);
    assert_eq!(method(geometry(128, 3, 3)), Method::Direct);
    assert_eq!(method(geometry(512, 512, 1)), Method::Direct);
    assert_eq!(method(halving(512, 512)), Method::Direct);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::new(6);
    // Under Miri just more than one block of pixels.
    let (size, c) = if cfg!(miri) { ((7, 14), 2) } else { ((40, 70), 64) };
    let (x, weight) = (random.vec_bf16(size.0 * size.1 * c), random.vec_bf16(c * c * 9));
    let bias = random.vec_f32(c);
    let methods = [Method::Direct, Method::Winograd, Method::Upsampling];
    for method in methods.into_iter().chain(in_windows(Simd::active())) {
        let results = [1, 2, 3].map(|count| {
            threads::set_count(count);
            run(Simd::active(), (&x, &weight, &bias), None, size, (geometry(c, c, 3), method))
        });
        threads::set_count(2);
        assert!(results.iter().all(|result| *result == results[0]), "{method:?}");
    }
}

#[test]
#[should_panic(expected = "a picture of 2 × 2 × 3")]
fn a_picture_of_another_size_is_refused() {
    let conv = PackedConv2d::new(&[0.0; 3], &[0.0], geometry(3, 1, 1));
    conv.forward(&[0.0; 9], (2, 2), None, &mut [0.0; 4]);
}
