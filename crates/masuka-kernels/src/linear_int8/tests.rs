//! All levels against the plain loops: exactly, where only the order of exact sums differs, and within what rounding to
//! bytes costs.

use half::bf16;

use super::reference::{rounded_rows, rounded_weight};
use super::*;
use crate::elementwise::Activation;
use crate::linear::reference::{Matrix, activate};
use crate::linear::{Gated, Lora, PackedLinear};
use crate::testing::{Random, assert_close, is_too_long};

/// (rows, in, out): single numbers, tails of words, rows and panels, more than one block along the sum.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (300, 70, 450),
    (1, 64, 64),
    (2, 33, 65),
    (5, 7, 130),
    (7, 2, 63),
    (13, 3001, 70),
    (197, 50, 67),
    (64, 2300, 5),
];

fn random<T: Number>(rng: &mut Random, rows: usize, columns: usize) -> (Vec<T>, Matrix) {
    let data: Vec<T> = (0..rows * columns).map(|_| T::from_f32(rng.signed())).collect();
    let matrix = Matrix::from_fn(rows, columns, |i, j| data[i * columns + j].to_f32().into());
    (data, matrix)
}

fn check<T: Number>() {
    let mut rng = Random::new(1);
    for simd in Simd::supported() {
        for (rows, depth, columns) in SHAPES {
            if is_too_long(rows * depth * columns) {
                continue;
            }
            let (x, x_ref) = random::<T>(&mut rng, rows, depth);
            let (_, w) = random::<T>(&mut rng, columns, depth);
            let packed = PackedInt8::pack_on(simd, WeightRows::F32(&w.data), columns, depth);
            let mut y = vec![0.0_f32; rows * columns];
            let to = RowsMut::new(&mut y, columns);
            linear_int8(Rows::new(&x, depth), &packed, &Epilogue::default(), to);
            let expected = rounded_rows(&x_ref).times(&rounded_weight(&w).transposed());
            // Sums are exact; two scales and a product are rounded in f32, as is the reference's matrix.
            let bound = |y: f32| 1e-6 * (y.abs() + depth as f32);
            assert_close(&y, &expected.data, bound, &format!("{simd:?} {rows}x{depth}x{columns}"));
        }
    }
}

#[test]
fn products_of_bytes_agree_with_plain_loops() {
    check::<f32>();
    check::<bf16>();
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn every_level_has_the_same_bits() {
    let mut rng = Random::new(2);
    let (rows, depth, columns) = (31, 1203, 130);
    let (x, w) = (rng.vec_bf16(rows * depth), rng.vec_bf16(columns * depth));
    let run = |simd, threads| {
        let packed = PackedInt8::pack_on(simd, WeightRows::Bf16(&w), columns, depth);
        threads::set_count(threads);
        let mut y = vec![0.0_f32; rows * columns];
        let to = RowsMut::new(&mut y, columns);
        linear_int8(Rows::new(&x, depth), &packed, &Epilogue::default(), to);
        y
    };
    let expected = run(Simd::Portable, 1);
    for simd in Simd::supported() {
        assert_eq!(run(simd, 1), expected, "{simd:?}");
        assert_eq!(run(simd, 2), expected, "{simd:?}");
    }
}

#[test]
fn the_largest_bytes_do_not_saturate() {
    for simd in Simd::supported() {
        let depth = 4096;
        let (x, w) = (vec![1.0_f32; depth], vec![-1.0_f32; depth]);
        let packed = PackedInt8::pack_on(simd, WeightRows::F32(&w), 1, depth);
        let mut y = [0.0_f32];
        let to = RowsMut::new(&mut y, 1);
        linear_int8(Rows::new(&x, depth), &packed, &Epilogue::default(), to);
        assert_close(&y, &[-4096.0], |_| 0.01, &format!("{simd:?}"));
    }
}

#[test]
fn what_follows_a_product_of_bytes_is_applied_in_f32() {
    let mut rng = Random::new(3);
    let (rows, depth, columns, rank) = (6, 64, 70, 4);
    let (x, x_ref) = random::<bf16>(&mut rng, rows, depth);
    let (_, w) = random::<f32>(&mut rng, columns, depth);
    let (_, down) = random::<bf16>(&mut rng, rank, depth);
    let (_, up) = random::<f32>(&mut rng, columns, rank);
    let (residual, residual_ref) = random::<f32>(&mut rng, rows, columns);
    let (gate, gate_ref) = random::<f32>(&mut rng, 2, columns);
    let bias = rng.vec_f32(columns);
    let product = rounded_rows(&x_ref).times(&rounded_weight(&w).transposed());
    let update = x_ref.times(&down.transposed()).times(&up.transposed());
    let sum = product.plus(&update, 0.5);
    let expected = Matrix::from_fn(rows, columns, |i, j| {
        let y = activate(Activation::GeluTanh, sum.at(i, j) + f64::from(bias[j]));
        residual_ref.at(i, j) + gate_ref.at(i / 3, j) * y
    });
    let down = PackedLinear::<bf16>::pack(WeightRows::F32(&down.data), rank, depth);
    let up = PackedLinear::<f32>::pack(WeightRows::F32(&up.data), columns, rank);
    let lora = [Lora { down: &down, up: &up, scale: 0.5 }];
    let gated = Gated { gate: Rows::new(&gate, columns), residual: Rows::new(&residual, columns) };
    for simd in Simd::supported() {
        let packed = PackedInt8::pack_on(simd, WeightRows::F32(&w.data), columns, depth);
        let mut y = vec![0.0_f32; rows * columns];
        let activation = Some(Activation::GeluTanh);
        let epilogue = Epilogue { lora: &lora, bias: Some(&bias), activation, gated: Some(gated) };
        let to = RowsMut::new(&mut y, columns);
        linear_int8(Rows::new(&x, depth), &packed, &epilogue, to);
        assert_close(&y, &expected.data, |y| 1e-5 * (y.abs() + 10.0), &format!("{simd:?}"));
    }
}

#[test]
fn zeros_stay_zeros_and_what_is_no_number_stays_so() {
    for simd in Simd::supported() {
        let mut x = vec![0.0_f32; 3 * 8];
        (x[8], x[16]) = (f32::INFINITY, f32::NAN);
        let w = [1.0_f32; 2 * 8];
        let packed = PackedInt8::pack_on(simd, WeightRows::F32(&w), 2, 8);
        let mut y = vec![9.0_f32; 3 * 2];
        let to = RowsMut::new(&mut y, 2);
        linear_int8(Rows::new(&x, 8), &packed, &Epilogue::default(), to);
        assert_eq!(y[..2], [0.0, 0.0]);
        assert!(y[2..].iter().all(|y| y.is_nan()), "{simd:?} {y:?}");
    }
}
