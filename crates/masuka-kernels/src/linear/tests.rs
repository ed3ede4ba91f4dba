//! All levels against the plain loops, over odd shapes, strides and what may follow a product.

use half::bf16;

use super::backward::{LowRank, grad_input};
use super::reference::{Matrix, activate};
use super::*;
use crate::testing::{Random, assert_close, is_too_long};
use crate::threads;

/// bf16 keeps 8 bits: half a unit in the last place.
const BF16_ROUNDING: f32 = 1.0 / 256.0;
/// Sums of up to 1,200 terms in f32, in any order, err by at most the number of additions of one lane times 2⁻²⁴ of the
/// sum of magnitudes; bf16 products add their flushed subnormals, which are far below.
const SUM_ROUNDING: f32 = 1e-5;

/// (rows, in, out): single rows and columns, odd sums, several blocks of rows and of panels, tails of rows and panels, more than one block along the sum.
const SHAPES: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (300, 70, 450),
    (800, 40, 33),
    (1, 64, 64),
    (2, 33, 65),
    (5, 7, 130),
    (6, 128, 64),
    (7, 2, 63),
    (13, 1201, 70),
    (197, 50, 67),
    (64, 1100, 5),
];

/// A matrix of numbers that `T` holds exactly, in rows `stride` apart, and the same for the reference.
fn random<T: Number>(random: &mut Random, rows: usize, columns: usize) -> (Vec<T>, usize, Matrix) {
    let stride = columns + random.within(0, 3);
    let padded: Vec<T> = (0..rows * stride).map(|_| T::from_f32(random.signed())).collect();
    let at = |i: usize, j: usize| f64::from(padded[i * stride + j].to_f32());
    let matrix = Matrix::from_fn(rows, columns, at);
    (padded, stride, matrix)
}

fn pack<T: Number>(simd: Simd, matrix: &Matrix) -> PackedLinear<T> {
    PackedLinear::pack_on(simd, WeightRows::F32(&matrix.data), matrix.rows, matrix.columns)
}

fn check_linear<T: Number, Y: Number>(rounding: f32) {
    let mut rng = Random::new(1);
    for simd in Simd::supported() {
        for (rows, depth, columns) in SHAPES {
            if is_too_long(rows * depth * columns) {
                continue;
            }
            let (x, stride, x_ref) = random::<T>(&mut rng, rows, depth);
            let (_, _, w) = random::<T>(&mut rng, columns, depth);
            let bias = rng.vec_f32(columns);
            let packed = pack::<T>(simd, &w);
            let y_stride = columns + rng.within(0, 2);
            let mut y = vec![Y::from_f32(77.0); rows * y_stride];
            let x = Rows::strided(&x, rows, depth, stride);
            let to = RowsMut::strided(&mut y, rows, columns, y_stride);
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            linear(x, &packed, &epilogue, to);

            let expected = x_ref.times(&w.transposed());
            let magnitude = x_ref.magnitude(&w.transposed());
            for i in 0..rows {
                for j in 0..y_stride {
                    let found = y[i * y_stride + j].to_f32();
                    if j >= columns {
                        assert_eq!(found, 77.0, "what lies between rows is left alone");
                        continue;
                    }
                    let expected = expected.at(i, j) as f32 + bias[j];
                    let bound = SUM_ROUNDING * (1.0 + magnitude.at(i, j) as f32);
                    let case = format!("{simd:?} {rows}x{depth}x{columns}");
                    let bound = |y: f32| bound + rounding * y.abs();
                    assert_close(&[found], &[expected], bound, &case);
                }
            }
        }
    }
}

#[test]
fn products_in_f32_agree_with_plain_loops() {
    check_linear::<f32, f32>(0.0);
}

#[test]
fn products_in_bf16_agree_with_plain_loops() {
    check_linear::<bf16, f32>(0.0);
    check_linear::<bf16, bf16>(BF16_ROUNDING);
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_weight_comes_out_as_it_was_packed() {
    let mut rng = Random::new(2);
    for (_, depth, columns) in SHAPES {
        let weight = rng.vec_bf16(columns * depth);
        for simd in Simd::supported() {
            let weight = WeightRows::Bf16(&weight);
            let packed = PackedLinear::<bf16>::pack_on(simd, weight, columns, depth);
            let mut row = vec![bf16::ZERO; depth];
            for i in 0..columns {
                packed.unpack_row(i, &mut row);
                let mut expected = row.clone();
                weight.read(i * depth, &mut expected);
                assert_eq!(row, expected, "{simd:?} row {i}");
            }
        }
    }
}

#[test]
fn what_follows_a_product_is_applied_in_order_before_rounding() {
    let activations = [Activation::GeluTanh, Activation::Silu, Activation::QuickGelu];
    for activation in activations.map(Some).into_iter().chain([None]) {
        for simd in Simd::supported() {
            check_epilogue::<f32>(simd, activation, 1e-5);
            check_epilogue::<bf16>(simd, activation, BF16_ROUNDING);
        }
    }
}

/// Two LoRA updates, bias, activation, gate and residual with batches of 7 rows.
fn check_epilogue<T: Number>(simd: Simd, activation: Option<Activation>, rounding: f32) {
    let mut rng = Random::new(3);
    let (rows, depth, columns) = (14, 40, 70);
    let (x, stride, x_ref) = random::<T>(&mut rng, rows, depth);
    let (_, _, w) = random::<T>(&mut rng, columns, depth);
    let (residual, residual_stride, residual_ref) = random::<T>(&mut rng, rows, columns);
    let (gate, gate_stride, gate_ref) = random::<T>(&mut rng, 2, columns);
    let bias = rng.vec_f32(columns);
    let mut expected = x_ref.times(&w.transposed());
    let mut packed_lora = Vec::new();
    for (rank, scale) in [(4, 0.5), (3, -1.25)] {
        let (_, _, down) = random::<T>(&mut rng, rank, depth);
        let (_, _, up) = random::<f32>(&mut rng, columns, rank);
        let update = x_ref.times(&down.transposed()).times(&up.transposed());
        expected = expected.plus(&update, f64::from(scale));
        packed_lora.push((pack::<T>(simd, &down), pack::<f32>(simd, &up), scale));
    }
    let expected = Matrix::from_fn(rows, columns, |i, j| {
        let y = expected.at(i, j) + f64::from(bias[j]);
        let y = activation.map_or(y, |activation| activate(activation, y));
        residual_ref.at(i, j) + gate_ref.at(i / 7, j) * y
    });
    let lora: Vec<_> =
        packed_lora.iter().map(|(down, up, scale)| Lora { down, up, scale: *scale }).collect();
    let gated = Gated {
        gate: Rows::strided(&gate, 2, columns, gate_stride),
        residual: Rows::strided(&residual, rows, columns, residual_stride),
    };
    let mut y = vec![T::from_f32(0.0); rows * columns];
    linear(
        Rows::strided(&x, rows, depth, stride),
        &pack::<T>(simd, &w),
        &Epilogue { lora: &lora, bias: Some(&bias), activation, gated: Some(gated) },
        RowsMut::new(&mut y, columns),
    );
    let found: Vec<_> = y.iter().map(|y| y.to_f32()).collect();
    // Values reach some tens, of which 1e-5 is lost in sums.
    let bound = |y: f32| 5e-5 + rounding * y.abs();
    assert_close(&found, &expected.data, bound, &format!("{simd:?} {activation:?}"));
}

#[test]
fn the_gradient_of_the_input_reads_the_same_packing() {
    fn check<T: Number>() {
        let mut rng = Random::new(4);
        for simd in Simd::supported() {
            for (rows, depth, columns) in SHAPES {
                if is_too_long(rows * depth * columns) {
                    continue;
                }
                let (dy, stride, dy_ref) = random::<T>(&mut rng, rows, columns);
                let (_, _, w) = random::<T>(&mut rng, columns, depth);
                let (hidden, hidden_stride, hidden_ref) = random::<f32>(&mut rng, rows, 3);
                let (matrix, matrix_stride, matrix_ref) = random::<f32>(&mut rng, 3, depth);
                let updates = [LowRank {
                    hidden: Rows::strided(&hidden, rows, 3, hidden_stride),
                    matrix: Rows::strided(&matrix, 3, depth, matrix_stride),
                }];
                let mut dx = vec![0.0; rows * depth];
                let dy = Rows::strided(&dy, rows, columns, stride);
                let to = RowsMut::new(&mut dx, depth);
                grad_input(dy, &pack::<T>(simd, &w), &updates, to);
                let expected = dy_ref.times(&w).plus(&hidden_ref.times(&matrix_ref), 1.0);
                let bound = |_| SUM_ROUNDING * (4.0 + columns as f32);
                let case = format!("{simd:?} {rows}x{depth}x{columns}");
                assert_close(&dx, &expected.data, bound, &case);
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_row_has_the_same_bits_for_any_number_of_threads_and_in_any_company() {
    let mut rng = Random::new(6);
    let (rows, depth, columns) = (403, 1100, 200);
    let x = rng.vec_bf16(rows * depth);
    let w = rng.vec_bf16(columns * depth);
    for simd in Simd::supported() {
        let packed = PackedLinear::<bf16>::pack_on(simd, WeightRows::Bf16(&w), columns, depth);
        let run = |x: &[bf16], threads| {
            threads::set_count(threads);
            let mut y = vec![0.0_f32; x.len() / depth * columns];
            let (x, to) = (Rows::new(x, depth), RowsMut::new(&mut y, columns));
            linear(x, &packed, &Epilogue::default(), to);
            y
        };
        let all = run(&x, 1);
        assert_eq!(all, run(&x, 2));
        assert_eq!(all, run(&x, 3));
        for row in [0, 1, 200, 402] {
            let alone = run(&x[row * depth..(row + 1) * depth], 2);
            assert_eq!(alone, all[row * columns..(row + 1) * columns], "{simd:?} row {row}");
        }
    }
}

#[test]
fn an_empty_sum_is_zero() {
    for simd in Simd::supported() {
        let packed = PackedLinear::<bf16>::pack_on(simd, WeightRows::Bf16(&[]), 70, 0);
        let (x, mut y) = ([bf16::ONE; 3], [bf16::ONE; 3 * 70]);
        let to = RowsMut::new(&mut y, 70);
        linear(Rows::strided(&x, 3, 0, 1), &packed, &Epilogue::default(), to);
        assert_eq!(y, [bf16::ZERO; 3 * 70], "{simd:?}");
    }
}

#[test]
fn values_that_are_no_numbers_stay_so_and_stay_in_their_row() {
    for simd in Simd::supported() {
        let mut x = vec![bf16::ONE; 3 * 5];
        x[7] = bf16::NAN;
        let w = vec![bf16::ONE; 2 * 5];
        let packed = PackedLinear::<bf16>::pack_on(simd, WeightRows::Bf16(&w), 2, 5);
        let mut y = vec![bf16::ZERO; 3 * 2];
        let epilogue = Epilogue { activation: Some(Activation::Silu), ..Epilogue::default() };
        linear(Rows::new(&x, 5), &packed, &epilogue, RowsMut::new(&mut y, 2));
        let is_nan: Vec<_> = y.iter().map(|y| y.is_nan()).collect();
        assert_eq!(is_nan, [false, false, true, true, false, false], "{simd:?}");
    }
}

#[test]
#[should_panic(expected = "numbers of a row of x")]
fn rows_that_do_not_fit_the_weight_are_refused() {
    let packed = PackedLinear::<f32>::pack(WeightRows::F32(&[0.0; 6]), 2, 3);
    let (x, mut y) = ([0.0_f32; 4], [0.0_f32; 2]);
    linear(Rows::new(&x, 4), &packed, &Epilogue::default(), RowsMut::new(&mut y, 2));
}
