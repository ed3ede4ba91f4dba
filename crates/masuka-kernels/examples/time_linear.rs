//! Times linear layers for `bench/kernels/linear.py`: reads `KIND ROWS IN OUT` lines, answers each with the median in
//! milliseconds. KIND is bf16, f32 or int8. The first argument is the number of threads, the second a level.

use std::error::Error;
use std::io::{self, BufRead};
use std::time::{Duration, Instant};

use half::bf16;
use masuka_kernels::linear::{Epilogue, PackedLinear, WeightRows, linear};
use masuka_kernels::linear_int8::{PackedInt8, linear_int8};
use masuka_kernels::testing::Random;
use masuka_kernels::{Number, Rows, RowsMut, set_level_limit, threads};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let Some(count) = arguments.next() {
        threads::set_count(count.parse()?);
    }
    if let Some(level) = arguments.next() {
        set_level_limit(level.parse()?);
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (kind, sizes) = line.split_once(' ').ok_or("a line is `KIND ROWS IN OUT`")?;
        let sizes = sizes.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let [rows, depth, columns] = sizes[..] else { return Err("three sizes".into()) };
        println!("{}", time(kind, rows, depth, columns)?);
    }
    Ok(())
}

fn time(kind: &str, rows: usize, depth: usize, columns: usize) -> Result<f64, Box<dyn Error>> {
    let mut random = Random::new(1);
    let weight = random.vec_bf16(columns * depth);
    let weight = WeightRows::Bf16(&weight);
    Ok(match kind {
        "bf16" => float::<bf16>(rows, &PackedLinear::pack(weight, columns, depth)),
        "f32" => float::<f32>(rows, &PackedLinear::pack(weight, columns, depth)),
        "int8" => int8(rows, &PackedInt8::pack(weight, columns, depth)),
        _ => return Err(format!("kind `{kind}` is not one of bf16, f32, int8").into()),
    })
}

fn float<T: Number>(rows: usize, weight: &PackedLinear<T>) -> f64 {
    let (depth, columns) = (weight.in_features(), weight.out_features());
    let x: Vec<T> = Random::new(2).vec_f32(rows * depth).into_iter().map(T::from_f32).collect();
    let mut y = vec![T::from_f32(0.0); rows * columns];
    median_ms(|| {
        let (x, y) = (Rows::new(&x, depth), RowsMut::new(&mut y, columns));
        linear(x, weight, &Epilogue::default(), y);
    })
}

fn int8(rows: usize, weight: &PackedInt8) -> f64 {
    let (depth, columns) = (weight.in_features(), weight.out_features());
    let x = Random::new(2).vec_bf16(rows * depth);
    let mut y = vec![bf16::ZERO; rows * columns];
    median_ms(|| {
        let (x, y) = (Rows::new(&x, depth), RowsMut::new(&mut y, columns));
        linear_int8(x, weight, &Epilogue::default(), y);
    })
}

/// The median of up to 20 runs within a second, after one that warms up.
fn median_ms(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || (times.len() < 20 && start.elapsed() < Duration::from_secs(1)) {
        let begin = Instant::now();
        run();
        times.push(1e3 * begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
