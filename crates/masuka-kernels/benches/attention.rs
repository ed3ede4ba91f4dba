//! Attention in bf16 at the processor's highest level: FLUX.1 at 512² and 1024², T5-XXL at 512 tokens, and the single
//! head of the autoencoder at 512². `bench/kernels/attention_norm_conv.py` measures the same beside PyTorch.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::bf16;
use masuka_kernels::attention::{AttentionShape, Qkv, Scoring, Strides, View, attention};
use masuka_kernels::testing::Random;

/// (heads, tokens, width of a head)
const SHAPES: [(usize, usize, usize); 4] =
    [(24, 1536, 128), (24, 4608, 128), (64, 512, 64), (1, 4096, 512)];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("attention");
    for (h, l, d) in SHAPES {
        group.throughput(Throughput::Elements((4 * h * l * l * d) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{h}x{l}x{d}")), |bencher| {
            let mut random = Random::new(1);
            let [q, k, v] = [(); 3].map(|()| random.vec_bf16(h * l * d));
            let mut y = vec![bf16::ZERO; h * l * d];
            let strides = Strides::blhd(h, l, d);
            let view = |data| View { data, strides };
            let qkv = Qkv { q: view(&q), k: view(&k), v: view(&v) };
            let shape = AttentionShape { b: 1, h, l_q: l, l_k: l, d };
            let scoring = Scoring { scale: 1.0 / (d as f32).sqrt(), bias: None, causal: false };
            bencher.iter(|| attention(shape, &qkv, &scoring, black_box(&mut y), strides));
        });
    }
    group.finish();
    criterion.final_summary();
}
