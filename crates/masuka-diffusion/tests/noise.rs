//! Noise against `torch.randn` with a CPU generator (`fixtures/rng/make.py`): equal bits, no tolerance.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use masuka_diffusion::noise::{Generator, Seed};

const FIXTURE: &str = "fixtures/rng/noise.safetensors";

fn generator(seed: &str) -> Generator {
    let seed = seed.parse().expect("a number");
    Generator::new(Seed::new(seed).expect("a seed"))
}

/// A number of the fixture's names.
fn number(part: &str) -> usize {
    part.parse().expect("a number")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The bits of a tensor of the fixture, widened to f32, which is exact.
fn tensor_bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.to_dtype(DType::F32).and_then(|t| t.to_vec1::<f32>());
    bits(&values.expect("values"))
}

/// Checks every first draw of `dtype`, and that there are `count` of them.
#[track_caller]
fn check(dtype: &str, count: usize, draw: impl Fn(&mut Generator, usize) -> Vec<f32>) {
    let mut checked = 0;
    for (name, tensor) in common::tensors(FIXTURE) {
        let parts: Vec<&str> = name.split('.').collect();
        if let [kind, seed, size] = parts[..]
            && kind == dtype
        {
            let drawn = draw(&mut generator(seed), number(size));
            assert_eq!(bits(&drawn), tensor_bits(&tensor), "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, count);
}

#[test]
fn every_size_and_seed_is_drawn_as_pytorch_draws_it() {
    check("f32", 7 * 14, Generator::randn);
}

#[test]
fn so_are_the_16_bit_types() {
    check("bf16", 7 * 4, |g, size| g.randn_bf16(size).iter().map(|v| v.to_f32()).collect());
    check("f16", 7 * 4, |g, size| g.randn_f16(size).iter().map(|v| v.to_f32()).collect());
}

#[test]
fn draws_of_one_generator_follow_each_other_as_in_pytorch() {
    let mut draws: HashMap<String, Vec<(usize, usize, Tensor)>> = HashMap::new();
    for (name, tensor) in common::tensors(FIXTURE) {
        let parts: Vec<&str> = name.split('.').collect();
        if let ["draws", seed, place, size] = parts[..] {
            let draw = (number(place), number(size), tensor);
            draws.entry(seed.to_owned()).or_default().push(draw);
        }
    }
    assert_eq!(draws.len(), 7);
    for (seed, mut draws) in draws {
        draws.sort_by_key(|(place, ..)| *place);
        let mut one = generator(&seed);
        for (place, size, tensor) in draws {
            assert_eq!(bits(&one.randn(size)), tensor_bits(&tensor), "seed {seed}, draw {place}");
        }
    }
}

#[test]
fn raw_numbers_are_those_of_pytorchs_generator() {
    let mut checked = 0;
    for (name, tensor) in common::tensors(FIXTURE) {
        let Some(seed) = name.strip_prefix("random.") else { continue };
        let expected = tensor.to_vec1::<i64>().expect("integers");
        let mut generator = generator(seed);
        for (place, expected) in expected.into_iter().enumerate() {
            let low_half = i64::from(generator.next_u64() as u32);
            assert_eq!(low_half, expected, "seed {seed}, place {place}");
        }
        checked += 1;
    }
    assert_eq!(checked, 7);
}

/// The sum of all bit patterns, each times an odd number of its own: one wrong bit changes it.
fn weighted_sum(values: &[f32]) -> u64 {
    let term = |(place, value): (usize, &f32)| {
        u64::from(value.to_bits()).wrapping_mul(2 * place as u64 + 1)
    };
    values.iter().enumerate().map(term).fold(0, u64::wrapping_add)
}

#[test]
fn the_noise_of_a_picture_of_1024_pixels_has_no_wrong_bit() {
    let file = std::fs::read(common::repo(FIXTURE)).expect("the fixture");
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).expect("a header");
    let metadata = header.metadata().as_ref().expect("metadata");
    let sums: HashMap<String, String> =
        serde_json::from_str(&metadata["weighted_sum_of_262144"]).expect("sums by seed");
    assert_eq!(sums.len(), 3);
    for (seed, sum) in sums {
        assert_eq!(weighted_sum(&generator(&seed).randn(262_144)).to_string(), sum, "seed {seed}");
    }
}
