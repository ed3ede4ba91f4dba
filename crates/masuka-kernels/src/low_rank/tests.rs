//! Every level against the definitions, over odd shapes and strides.

use half::bf16;

use super::reference::{at, product};
use super::*;
use crate::testing::{Random, assert_close, is_too_long};

/// (rows, wide, rank): single rows and columns, tails of panels and vectors, more than one block along the sum.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (2, 33, 4), (17, 70, 16), (40, 300, 5), (16, 512, 48), (301, 65, 17), (7, 600, 64)];

/// Sums of up to 600 products of numbers below 1, each rounded to 2⁻²⁴ of the sum so far.
const BOUND: f32 = 5e-5;

fn numbers<T: Number>(random: &mut Random, rows: usize, columns: usize) -> (Vec<T>, usize) {
    let stride = columns + random.within(0, 3);
    ((0..rows * stride).map(|_| T::from_f32(random.signed())).collect(), stride)
}

fn check<T: Number>(rounding: f32) {
    let mut random = Random::new(1);
    for simd in Simd::supported() {
        for (rows, wide, rank) in SHAPES {
            if is_too_long(rows * wide * rank) {
                continue;
            }
            let case = format!("{simd:?} {rows} {wide} {rank}");
            let (x, x_stride) = numbers::<T>(&mut random, rows, wide);
            let (a, a_stride) = numbers::<f32>(&mut random, rank, wide);
            let (b, b_stride) = numbers::<f32>(&mut random, wide, rank);
            let (h, h_stride) = numbers::<f32>(&mut random, rows, rank);
            let (y, y_stride) = numbers::<f32>(&mut random, rows, wide);
            let x = Rows::strided(&x, rows, wide, x_stride);
            let a = Rows::strided(&a, rank, wide, a_stride);
            let b = Rows::strided(&b, wide, rank, b_stride);
            let h = Rows::strided(&h, rows, rank, h_stride);
            let y = Rows::strided(&y, rows, wide, y_stride);

            let mut hidden = vec![0.0; rows * rank];
            narrow_on(simd, x, a, 1.0, RowsMut::new(&mut hidden, rank));
            let expected = product((rows, wide, rank), |i, k| at(x, i, k), |k, j| at(a, j, k));
            assert_close(&hidden, &expected, |_| BOUND, &format!("{case} narrow"));

            narrow_back_on(simd, x, b, 0.5, RowsMut::new(&mut hidden, rank));
            let expected =
                product((rows, wide, rank), |i, k| 0.5 * at(x, i, k), |k, j| at(b, k, j));
            assert_close(&hidden, &expected, |_| BOUND, &format!("{case} narrow back"));

            let mut to = vec![T::default(); rows * wide];
            widen_on(simd, h, b, y, RowsMut::new(&mut to, wide));
            let mut expected = product((rows, rank, wide), |i, k| at(h, i, k), |k, j| at(b, j, k));
            for (i, expected) in expected.iter_mut().enumerate() {
                *expected += at(y, i / wide, i % wide) as f32;
            }
            let to: Vec<f32> = to.iter().map(|x| x.to_f32()).collect();
            let bound = |y: f32| BOUND + rounding * y.abs();
            assert_close(&to, &expected, bound, &format!("{case} widen"));

            let mut da = vec![0.0; rank * wide];
            outer_on(simd, h, x, RowsMut::new(&mut da, wide));
            let expected = product((rank, rows, wide), |i, k| at(h, k, i), |k, j| at(x, k, j));
            assert_close(&da, &expected, |_| BOUND, &format!("{case} dA"));

            let mut db = vec![0.0; wide * rank];
            outer_on(simd, x, h, RowsMut::new(&mut db, rank));
            let expected = product((wide, rows, rank), |i, k| at(x, k, i), |k, j| at(h, k, j));
            assert_close(&db, &expected, |_| BOUND, &format!("{case} dB"));
        }
    }
}

#[test]
fn every_level_agrees_with_the_definitions() {
    check::<f32>(0.0);
    check::<bf16>(1.0 / 256.0);
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn bits_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::new(2);
    let (rows, wide, rank) = (150, 700, 16);
    let (x, h) = (random.vec_bf16(rows * wide), random.vec_f32(rows * rank));
    let run = |count| {
        threads::set_count(count);
        let (mut hidden, mut dw) = (vec![0.0; rows * rank], vec![0.0; rank * wide]);
        let a = Rows::new(&h[..rank * rank], rank);
        let x = Rows::new(&x, wide);
        outer(Rows::new(&h, rank), x, RowsMut::new(&mut dw, wide));
        narrow(x, Rows::new(&dw, wide), 0.3, RowsMut::new(&mut hidden, rank));
        let mut wider = vec![bf16::ZERO; rows * rank];
        let y = Rows::new(&hidden, rank);
        widen(Rows::new(&h, rank), a, y, RowsMut::new(&mut wider, rank));
        (dw, hidden, wider)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

#[test]
#[should_panic(expected = "numbers of a row of x")]
fn matrices_of_other_widths_are_refused() {
    let mut hidden = [0.0; 2];
    let (x, a) = (Rows::new(&[0.0_f32; 4], 4), Rows::new(&[0.0; 3], 3));
    narrow(x, a, 1.0, RowsMut::new(&mut hidden[..1], 1));
}
