//! The convolutions of FLUX.1's autoencoder at 512², in bf16 at the processor's highest level. Throughput counts the
//! products of the definition; Winograd's method and upsampling take fewer.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::bf16;
use masuka_kernels::conv2d::{Geometry, PackedConv2d};
use masuka_kernels::testing::Random;

/// (channels in, channels out, kernel, side of the picture, whether it is doubled first)
const SHAPES: [(usize, usize, usize, usize, bool); 7] = [
    (512, 512, 3, 64, false),
    (512, 512, 3, 128, false),
    (256, 256, 3, 256, false),
    (128, 128, 3, 512, false),
    (512, 256, 1, 256, false),
    (512, 512, 3, 64, true),
    (256, 256, 3, 256, true),
];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("conv2d");
    for (c_in, c_out, kernel, side, doubles) in SHAPES {
        let out_side = if doubles { 2 * side } else { side };
        let products = c_in * c_out * kernel * kernel * out_side * out_side;
        group.throughput(Throughput::Elements(2 * products as u64));
        let name = format!("{c_in}-{c_out} {kernel}x{kernel} at {side}, doubled {doubles}");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let padding = kernel / 2;
            let geometry = Geometry {
                c_in,
                c_out,
                kernel,
                stride: 1,
                padding_before: padding,
                padding_after: padding,
            };
            let mut random = Random::new(1);
            let weight = random.vec_bf16(c_out * c_in * kernel * kernel);
            let bias = vec![0.0; c_out];
            let conv = match doubles {
                true => PackedConv2d::upsampling(&weight, &bias, geometry),
                false => PackedConv2d::new(&weight, &bias, geometry),
            };
            let x = random.vec_bf16(side * side * c_in);
            let mut y = vec![bf16::ZERO; out_side * out_side * c_out];
            bencher.iter(|| conv.forward(&x, (side, side), None, black_box(&mut y)));
        });
    }
    group.finish();
    criterion.final_summary();
}
