//! Every level against the definitions.

use half::bf16;

use super::*;
use crate::rows::{Rows, RowsMut};
use crate::testing::{PRODUCTS_OF_A_FUNCTION, Random, assert_close, is_too_long};

/// Half the distance between neighbouring bf16, relative.
const BF16_ROUNDING: f32 = 1.0 / 256.0;

fn widened(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

#[test]
fn activations_agree_with_their_definitions_at_every_level() {
    let mut random = Random::new(1);
    for simd in Simd::supported() {
        for activation in Activation::ALL {
            for count in [0, 1, 7, 16, 33, 8192, 20_001] {
                if is_too_long(count * PRODUCTS_OF_A_FUNCTION) {
                    continue;
                }
                let mut x: Vec<f32> = random.vec_f32(count).iter().map(|x| 12.0 * x).collect();
                x.iter_mut().step_by(5).for_each(|x| *x *= 0.01);
                let x16: Vec<bf16> = x.iter().map(|x| bf16::from_f32(*x)).collect();
                let expected = |x: &[f32]| -> Vec<f32> {
                    x.iter().map(|&x| reference::activation(activation, x.into()) as f32).collect()
                };
                let case = format!("{simd:?} {activation:?} {count}");
                let (mut y, mut y16) = (vec![0.0; count], vec![bf16::ZERO; count]);
                each(simd, Function::Activate(activation), [&x, &x], &mut y);
                each(simd, Function::Activate(activation), [&x16, &x16], &mut y16);
                // The logistic function errs by the exponent's rounding, |z| · 2⁻²⁴ for |z| up to 20; erf by 3e-7 · |x|.
                assert_close(&y, &expected(&x), |y| 3e-6 * y.abs() + 3e-6, &case);
                let bound = |y: f32| BF16_ROUNDING * y.abs() + 3e-6;
                assert_close(&widened(&y16), &expected(&widened(&x16)), bound, &case);
            }
        }
    }
}

#[test]
fn the_gradient_of_gelu_agrees_with_differences_at_every_level() {
    let mut random = Random::new(3);
    for simd in Simd::supported() {
        for (rows, columns, stride) in [(1, 1, 1), (3, 17, 20), (2, 5000, 5001), (130, 64, 64)] {
            if is_too_long(rows * columns * PRODUCTS_OF_A_FUNCTION) {
                continue;
            }
            let x: Vec<f32> = random.vec_f32(rows * stride).iter().map(|x| 6.0 * x).collect();
            let x16: Vec<bf16> = x.iter().map(|x| bf16::from_f32(*x)).collect();
            let grad16 = random.vec_bf16(rows * stride);
            let grad = widened(&grad16);
            let expected = |x: &[f32]| -> Vec<f32> {
                let slope = |x: f64| {
                    let y = |x| reference::activation(Activation::GeluTanh, x);
                    (y(x + 1e-5) - y(x - 1e-5)) / 2e-5
                };
                let numbers = (0..rows).flat_map(|row| row * stride..row * stride + columns);
                numbers.map(|i| (slope(x[i].into()) * f64::from(grad[i])) as f32).collect()
            };
            let case = format!("{simd:?} {rows} {columns} {stride}");
            let mut dx = vec![0.0; rows * columns];
            let view = |x| Rows::strided(x, rows, columns, stride);
            let to = RowsMut::new(&mut dx, columns);
            backward::gelu_on(simd, view(&x), Some(view(&grad)), to);
            assert_close(&dx, &expected(&x), |y| 1e-5 * y.abs() + 1e-5, &case);
            let mut dx = vec![bf16::ZERO; rows * columns];
            let view = |x| Rows::strided(x, rows, columns, stride);
            let to = RowsMut::new(&mut dx, columns);
            backward::gelu_on(simd, view(&x16), Some(view(&grad16)), to);
            let bound = |y: f32| BF16_ROUNDING * y.abs() + 1e-5;
            assert_close(&widened(&dx), &expected(&widened(&x16)), bound, &case);
        }
    }
}

#[test]
fn gelu_of_rows_is_that_of_numbers() {
    let mut random = Random::new(4);
    let x = random.vec_f32(5 * 40);
    let (mut rows, mut numbers) = (vec![7.0; 5 * 50], vec![0.0; 5 * 40]);
    gelu_tanh_rows(Rows::new(&x, 40), RowsMut::strided(&mut rows, 5, 40, 50));
    activate(Activation::GeluTanh, &x, &mut numbers);
    for (row, numbers) in rows.chunks(50).zip(numbers.chunks(40)) {
        assert_eq!(&row[..40], numbers);
        assert_eq!(row[40..], [7.0; 10]);
    }
}

#[test]
fn gradients_of_gated_residuals_agree_with_their_definition() {
    let mut random = Random::new(5);
    for simd in Simd::supported() {
        for (b, l, d) in [(1, 1, 1), (2, 3, 17), (1, 150, 64), (3, 65, 10)] {
            let [grad, y] = [(); 2].map(|()| random.vec_f32(b * l * d));
            let gate = random.vec_f32(b * d);
            let (mut dy, mut dy16) = (vec![0.0; b * l * d], vec![bf16::ZERO; b * l * d]);
            let dgate = backward::gated_backward_on(simd, [&grad, &gate, &y], d, &mut dy);
            backward::gated_backward_on(simd, [&grad, &gate, &y], d, &mut dy16);
            let expected: Vec<f32> =
                (0..b * l * d).map(|i| grad[i] * gate[i / (l * d) * d + i % d]).collect();
            assert_eq!(dy, expected);
            let rounded: Vec<bf16> = expected.iter().map(|x| bf16::from_f32(*x)).collect();
            assert_eq!(dy16, rounded);
            let mut sums = vec![0.0_f64; b * d];
            for i in 0..b * l * d {
                sums[i / (l * d) * d + i % d] += f64::from(grad[i]) * f64::from(y[i]);
            }
            let sums: Vec<f32> = sums.into_iter().map(|x| x as f32).collect();
            // Sums of at most 150 products below 1.
            assert_close(&dgate, &sums, |_| 1e-5, &format!("{simd:?} {b} {l} {d}"));
        }
    }
}

#[test]
fn extreme_inputs_saturate_and_nan_stays() {
    for simd in Simd::supported() {
        for activation in [Activation::GeluTanh, Activation::QuickGelu, Activation::Silu] {
            let mut y = [0.0; 4];
            let x = [-1e4, 1e4, f32::NAN, 0.0];
            each(simd, Function::Activate(activation), [&x, &x], &mut y);
            assert!(y[0].abs() < 1e-30 && y[1] == 1e4 && y[2].is_nan() && y[3] == 0.0, "{y:?}");
        }
    }
}

#[test]
fn sums_and_gates_are_exact_up_to_one_rounding() {
    let mut random = Random::new(2);
    for simd in Simd::supported() {
        for (b, l, d) in [(1, 1, 1), (2, 3, 17), (1, 5, 64), (3, 2, 100)] {
            let [x, y] = [(); 2].map(|()| random.vec_bf16(b * l * d));
            let gate = random.vec_bf16(b * d);
            let mut out = vec![bf16::ZERO; b * l * d];
            gated_add_on(simd, [&x, &gate, &y], d, &mut out);
            let expected: Vec<f32> = (0..b * l * d)
                .map(|i| {
                    let gate = gate[i / (l * d) * d + i % d];
                    x[i].to_f32() + gate.to_f32() * y[i].to_f32()
                })
                .collect();
            let bound = |y: f32| BF16_ROUNDING * y.abs() + 1e-6;
            assert_close(&widened(&out), &expected, bound, &format!("{simd:?} {b} {l} {d}"));

            each(simd, Function::Add, [&x, &y], &mut out);
            let sum = |(x, y): (&bf16, &bf16)| bf16::from_f32(x.to_f32() + y.to_f32());
            assert_eq!(out, x.iter().zip(&y).map(sum).collect::<Vec<_>>());

            each(simd, Function::ActivateAndMultiply(Activation::GeluTanh), [&x, &y], &mut out);
            let expected: Vec<f32> = x
                .iter()
                .zip(&y)
                .map(|(x, y)| {
                    let x = reference::activation(Activation::GeluTanh, x.to_f64());
                    (x * y.to_f64()) as f32
                })
                .collect();
            assert_close(&widened(&out), &expected, bound, &format!("{simd:?} {b} {l} {d}"));
        }
    }
}

#[test]
#[should_panic(expected = "as many numbers in as out")]
fn slices_of_other_lengths_are_refused() {
    add(&[1.0, 2.0], &[1.0], &mut [0.0; 2]);
}
