//! Times one kernel for each line of standard input and answers with milliseconds, so that another program can
//! alternate with it: `attention HEADS QUERIES KEYS WIDTH`, `conv C_IN C_OUT KERNEL HEIGHT WIDTH`,
//! `upsample C HEIGHT WIDTH`, `norm ROWS D`, `group PIXELS C`. All in bf16; `peak` answers GFLOP/s of the products.

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use half::bf16;
use masuka_kernels::attention::{AttentionShape, Qkv, Scoring, Strides, View, attention};
use masuka_kernels::conv2d::{Geometry, PackedConv2d};
use masuka_kernels::elementwise::Activation;
use masuka_kernels::norm::{Affine, GroupMoments, GroupNormWeights, group_norm, layer_norm};
use masuka_kernels::testing::Random;

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let sizes: Vec<usize> = words.map(|word| word.parse().expect("a size")).collect();
        let mut kernel = prepare(&name, &sizes);
        kernel();
        let start = Instant::now();
        let runs = (0..20).take_while(|i| *i == 0 || start.elapsed().as_secs_f32() < 1.0);
        let times = runs.map(|_| {
            let start = Instant::now();
            kernel();
            start.elapsed().as_secs_f64() * 1e3
        });
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        writeln!(io::stdout(), "{:.4}", times[times.len() / 2])?;
        io::stdout().flush()?;
    }
    Ok(())
}

/// The kernel `name` with its data.
fn prepare(name: &str, sizes: &[usize]) -> Box<dyn FnMut()> {
    let mut random = Random::new(1);
    match (name, sizes) {
        ("attention", &[h, l_q, l_k, d]) => prepare_attention(&mut random, h, l_q, l_k, d),
        ("conv", &[c_in, c_out, kernel, height, width]) => {
            let padding = kernel / 2;
            let geometry = Geometry {
                c_in,
                c_out,
                kernel,
                stride: 1,
                padding_before: padding,
                padding_after: padding,
            };
            let weight = random.vec_bf16(c_out * c_in * kernel * kernel);
            let conv = PackedConv2d::new(&weight, &vec![0.0; c_out], geometry);
            convolve(random, conv, height, width)
        }
        ("upsample", &[c, height, width]) => {
            let geometry = Geometry {
                c_in: c,
                c_out: c,
                kernel: 3,
                stride: 1,
                padding_before: 1,
                padding_after: 1,
            };
            let weight = random.vec_bf16(c * c * 9);
            let conv = PackedConv2d::upsampling(&weight, &vec![0.0; c], geometry);
            convolve(random, conv, height, width)
        }
        ("norm", &[rows, d]) => {
            let (x, factor) = (random.vec_bf16(rows * d), random.vec_f32(d));
            let mut y = x.clone();
            Box::new(move || {
                let affine = Affine { factor: &factor, summand: &factor };
                layer_norm(&x, d, 1e-6, &affine, black_box(&mut y));
            })
        }
        ("group", &[pixels, c]) => {
            let (x, weight) = (random.vec_bf16(pixels * c), random.vec_f32(c));
            let mut y = x.clone();
            Box::new(move || {
                let moments = GroupMoments::of(&x, c, 32);
                let weights = GroupNormWeights { weight: &weight, bias: &weight, eps: 1e-6 };
                group_norm(&x, &moments, &weights, Some(Activation::Silu), black_box(&mut y));
            })
        }
        _ => panic!("no kernel is called `{name}` with {} sizes", sizes.len()),
    }
}

fn prepare_attention(
    random: &mut Random,
    h: usize,
    l_q: usize,
    l_k: usize,
    d: usize,
) -> Box<dyn FnMut()> {
    let shape = AttentionShape { b: 1, h, l_q, l_k, d };
    let [q, mut y] = [random.vec_bf16(h * l_q * d), vec![bf16::ZERO; h * l_q * d]];
    let [k, v] = [(); 2].map(|()| random.vec_bf16(h * l_k * d));
    Box::new(move || {
        let of_q = Strides::blhd(h, l_q, d);
        let of_k = Strides::blhd(h, l_k, d);
        let qkv = Qkv {
            q: View { data: &q, strides: of_q },
            k: View { data: &k, strides: of_k },
            v: View { data: &v, strides: of_k },
        };
        let scoring = Scoring { scale: 1.0 / (d as f32).sqrt(), bias: None, causal: false };
        attention(shape, &qkv, &scoring, black_box(&mut y), of_q);
    })
}

fn convolve(
    mut random: Random,
    conv: PackedConv2d<bf16>,
    height: usize,
    width: usize,
) -> Box<dyn FnMut()> {
    let x = random.vec_bf16(height * width * conv.geometry().c_in);
    let (out_height, out_width) = conv.output_size(height, width);
    let mut y = vec![bf16::ZERO; out_height * out_width * conv.geometry().c_out];
    Box::new(move || conv.forward(&x, (height, width), None, black_box(&mut y)))
}
