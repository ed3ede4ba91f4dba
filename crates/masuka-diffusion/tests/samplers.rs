//! Schedules against diffusers' `FlowMatchEulerDiscreteScheduler`; samplers against plain loops in f64.

mod common;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use masuka_diffusion::pipelines::SamplerName;
use masuka_diffusion::samplers::{FlowMatchSchedule, ScheduleConfig, sampler};
use masuka_diffusion::weights::safetensors_file::SafetensorsFile;
use serde::Deserialize;

const TABLES: &str = "fixtures/scheduler/tables.safetensors";
/// Two units in the last place of 1.0: NumPy's and Rust's exp may differ by one.
const TOLERANCE: f32 = 2.4e-7;

#[derive(Deserialize)]
struct Table {
    config: ScheduleConfig,
    steps: usize,
    image_seq_len: usize,
}

#[test]
fn schedules_equal_diffusers() {
    let file = SafetensorsFile::open(&common::repo(TABLES)).expect("the fixture");
    let tables = file.metadata("tables").expect("the list of tables");
    let tables: HashMap<String, Table> = serde_json::from_str(tables).expect("valid JSON");
    let tensors = common::tensors(TABLES);
    let mut checked = 0;
    for (name, table) in tables {
        if table.config.validate(&name).is_err() {
            assert!(name.starts_with("beta") || name.starts_with("train_500"), "{name}");
            continue;
        }
        let schedule = FlowMatchSchedule::new(&table.config, table.steps, table.image_seq_len);
        let expected = tensors[&format!("{name}.sigmas")].to_vec1::<f32>().expect("sigmas");
        assert_eq!(schedule.sigmas().len(), expected.len(), "{name}");
        for (actual, expected) in schedule.sigmas().iter().zip(&expected) {
            let difference = (actual - expected).abs();
            assert!(difference <= TOLERANCE, "{name}: {actual} is not {expected}");
        }
        checked += 1;
    }
    assert!(checked >= 40, "only {checked} tables");
}

#[test]
fn an_euler_walk_equals_diffusers() {
    let tensors = common::tensors(TABLES);
    let schedule = FlowMatchSchedule::new(&ScheduleConfig::flux_dev(), 4, 256);
    let mut sample = tensors["euler.sample"].clone();
    for (i, (sigma, next)) in schedule.steps().enumerate() {
        let given = &tensors[&format!("euler.velocity.{i}")];
        let step = sampler(SamplerName::Euler)
            .step(&sample, sigma, next, &mut |_, _| Ok(given.clone()))
            .expect("a step");
        sample = step.latents;
        common::assert_close(&sample, &tensors[&format!("euler.sample.{}", i + 1)], 1e-6);
    }
}

/// A velocity field that bends: v = sin(3σ) · x − σ.
fn field(x: f64, sigma: f64) -> f64 {
    (3.0 * sigma).sin() * x - sigma
}

/// Heun's method in plain f64 loops.
fn heun_by_hand(mut x: Vec<f64>, sigmas: &[f32]) -> Vec<f64> {
    for pair in sigmas.windows(2) {
        let (sigma, next) = (f64::from(pair[0]), f64::from(pair[1]));
        for x in &mut x {
            let v = field(*x, sigma);
            let euler = *x + (next - sigma) * v;
            *x = if next == 0.0 {
                euler
            } else {
                *x + (next - sigma) * (v + field(euler, next)) / 2.0
            };
        }
    }
    x
}

#[test]
fn heun_equals_a_plain_loop_and_is_of_second_order() {
    let start: Vec<f64> = (0..24).map(|i| f64::from(i) / 6.0 - 2.0).collect();
    let shape = (1, 2, 3, 4);
    let walk = |steps: usize, name: SamplerName| {
        let schedule = FlowMatchSchedule::new(&ScheduleConfig::flux_schnell(), steps, 256);
        let as_f32: Vec<f32> = start.iter().map(|v| *v as f32).collect();
        let mut x = Tensor::from_vec(as_f32, shape, &Device::Cpu).expect("a tensor");
        for (sigma, next) in schedule.steps() {
            let mut velocity = |x: &Tensor, sigma: f32| {
                let v = (x * (3.0 * f64::from(sigma)).sin())?;
                Ok((v - f64::from(sigma))?)
            };
            x = sampler(name).step(&x, sigma, next, &mut velocity).expect("a step").latents;
        }
        let end = x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("values");
        (end, heun_by_hand(start.clone(), schedule.sigmas()))
    };
    for steps in [1, 2, 5, 20] {
        let (end, oracle) = walk(steps, SamplerName::Heun);
        for (actual, expected) in end.iter().zip(&oracle) {
            assert!((f64::from(*actual) - expected).abs() < 1e-5, "{actual} is not {expected}");
        }
    }
    let exact = walk(100, SamplerName::Heun).1;
    let error = |end: &[f32]| {
        end.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
    };
    let (heun, euler) = (walk(20, SamplerName::Heun).0, walk(20, SamplerName::Euler).0);
    assert!(error(&heun) < error(&euler) / 5.0, "{} and {}", error(&heun), error(&euler));
}
