//! Products with packed weights in FLUX.1's shapes, on two threads, with the share of the processor's peak as the same
//! run found it. A filter such as `avx512/bf16` picks some.

#[path = "common/peak.rs"]
mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use half::bf16;
use masuka_kernels::linear::{Epilogue, PackedLinear, WeightRows, grad_input, linear};
use masuka_kernels::linear_int8::{PackedInt8, linear_int8};
use masuka_kernels::testing::Random;
use masuka_kernels::{Level, Number, Rows, RowsMut, Simd, threads};
use peak::Peak;

/// (rows, in, out) of FLUX.1 at 512² and 1024²; a single row is the modulation.
const SHAPES: [(usize, usize, usize); 7] = [
    (1536, 3072, 3072),
    (1536, 3072, 12288),
    (1536, 15360, 3072),
    (4608, 3072, 3072),
    (4608, 3072, 12288),
    (4608, 15360, 3072),
    (1, 3072, 18432),
];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let count = threads::count();
    let peak = peak::measure(count);
    let tiles = peak::measure_tiles(count);
    println!(
        "{count} threads; peak: bf16 {:.3e}, int8 {:.3e}, f32 {:.3e} operations/s; AMX: bf16 {:.3e}, int8 {:.3e}",
        peak.bf16, peak.int8, peak.f32, tiles.bf16, tiles.int8
    );
    for simd in Simd::supported().into_iter().rev() {
        let group = |of: &str| format!("{}/{of}", simd.level());
        let peak = match simd.level() {
            Level::Amx => Peak { f32: peak.f32, ..tiles },
            _ => peak,
        };
        forward::<bf16>(&mut criterion.benchmark_group(group("bf16")), simd, peak.bf16);
        forward::<f32>(&mut criterion.benchmark_group(group("f32")), simd, peak.f32);
        int8(&mut criterion.benchmark_group(group("int8")), simd, peak.int8);
        backward(&mut criterion.benchmark_group(group("bf16-grad")), simd, peak.bf16);
    }
    criterion.final_summary();
}

/// x · Wᵀ, from `T` to `T`.
fn forward<T: Number>(group: &mut BenchmarkGroup<'_, WallTime>, simd: Simd, peak: f64) {
    for shape in SHAPES {
        let (rows, depth, columns) = shape;
        bench(group, shape, peak, || {
            let (x, w) = inputs::<T>(simd, rows * depth, columns, depth);
            let mut y = vec![T::from_f32(0.0); rows * columns];
            move || {
                let (x, y) = (Rows::new(&x, depth), RowsMut::new(&mut y, columns));
                linear(x, black_box(&w), &Epilogue::default(), y);
            }
        });
    }
}

/// x · Wᵀ, from bf16 to bf16, with rows quantised on the way.
fn int8(group: &mut BenchmarkGroup<'_, WallTime>, simd: Simd, peak: f64) {
    for shape in SHAPES {
        let (rows, depth, columns) = shape;
        bench(group, shape, peak, || {
            let mut random = Random::new(1);
            let (x, w) = (random.vec_bf16(rows * depth), random.vec_bf16(columns * depth));
            let w = PackedInt8::pack_on(simd, WeightRows::Bf16(&w), columns, depth);
            let mut y = vec![bf16::ZERO; rows * columns];
            move || {
                let (x, y) = (Rows::new(&x, depth), RowsMut::new(&mut y, columns));
                linear_int8(x, black_box(&w), &Epilogue::default(), y);
            }
        });
    }
}

/// dY · W from the same packing.
fn backward(group: &mut BenchmarkGroup<'_, WallTime>, simd: Simd, peak: f64) {
    for shape in SHAPES {
        let (rows, depth, columns) = shape;
        bench(group, shape, peak, || {
            let (dy, w) = inputs::<bf16>(simd, rows * columns, columns, depth);
            let mut dx = vec![bf16::ZERO; rows * depth];
            move || {
                let (dy, dx) = (Rows::new(&dy, columns), RowsMut::new(&mut dx, depth));
                grad_input(dy, black_box(&w), &[], dx);
            }
        });
    }
}

fn inputs<T: Number>(
    simd: Simd,
    len: usize,
    columns: usize,
    depth: usize,
) -> (Vec<T>, PackedLinear<T>) {
    let mut random = Random::new(1);
    let x = random.vec_f32(len).into_iter().map(T::from_f32).collect();
    let weight = random.vec_bf16(columns * depth);
    (x, PackedLinear::pack_on(simd, WeightRows::Bf16(&weight), columns, depth))
}

/// Measures what `prepare` makes, and prints its share of `peak` if the filter picks it.
fn bench<R: FnMut()>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (rows, depth, columns): (usize, usize, usize),
    peak: f64,
    prepare: impl FnOnce() -> R,
) {
    let operations = 2 * (rows * depth * columns) as u64;
    let mut prepare = Some(prepare);
    let mut run = None;
    let mut times = Vec::new();
    group.throughput(Throughput::Elements(operations));
    group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{depth}x{columns}")), |b| {
        let run = run.get_or_insert_with(|| prepare.take().expect("prepared once")());
        b.iter_custom(|rounds| {
            let start = Instant::now();
            (0..rounds).for_each(|_| run());
            times.push(start.elapsed().as_secs_f64() / rounds as f64);
            start.elapsed()
        });
    });
    times.sort_by(f64::total_cmp);
    if let Some(median) = times.get(times.len() / 2) {
        let speed = operations as f64 / median;
        println!("{:>52.3e} operations/s, {:.1} % of the peak", speed, 100.0 * speed / peak);
    }
}
