//! Ten steps against PyTorch's AdamW, see `fixtures/training/make.py`.

mod common;

use common::{adapter, batch, relative_error, repo, tensors, transformer};
use masuka_training::adapter::{AdapterSize, Targets};
use masuka_training::gradients::{Gradients, Keep, Learner};
use masuka_training::optimizer::{AdamW, AdamWConfig, Decay, MovingAverage, Schedule};

#[test]
fn ten_steps_follow_pytorch() {
    let model = transformer(&repo("fixtures/transformer/dev"));
    let io = tensors(&repo("fixtures/training/adamw.safetensors"));
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let adapter = adapter(&model, Targets::AllLinear, size, &io, "before.");
    adapter.attach();
    let config = AdamWConfig { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.02 };
    let mut optimizer = AdamW::new(config, adapter.parameters()).expect("an optimiser");
    let schedule = Schedule { learning_rate: 2e-3, warmup_steps: 3, decay: Decay::Cosine };
    let mut average = MovingAverage::start(0.9, adapter.parameters()).expect("an average");
    let learner = Learner {
        transformer: &model,
        adapter: &adapter,
        keep: Keep::Everything,
        guidance: 1.0,
        by_graph: false,
    };
    let row = |name: &str| io[name].to_vec1::<f32>().expect("numbers");
    let (losses, norms, rates) = (row("loss"), row("norm"), row("learning_rate"));
    for step in 0..10 {
        let sigmas = io["sigmas"].get(step).and_then(|t| t.to_vec1()).expect("sigmas");
        let batch = batch(&io, io["noise"].get(step).expect("noise"), sigmas);
        let mut gradients = Gradients::zeros(&adapter).expect("zeros");
        let each = learner.learn(&batch, 1.0, &mut gradients, &|| true).expect("gradients");
        let norm = gradients.clip(0.05).expect("a norm");
        let rate = schedule.at(step, 10);
        optimizer.step(adapter.parameters(), &gradients, rate).expect("a step");
        average.update(adapter.parameters(), 1_000).expect("an average");

        let loss = each.iter().sum::<f32>() / each.len() as f32;
        println!("step {step}: loss {loss} (PyTorch {}), norm {norm:.5}", losses[step]);
        assert!((loss - losses[step]).abs() <= 1e-4 * losses[step], "loss of step {step}");
        assert!((norm as f32 - norms[step]).abs() <= 1e-4 * norms[step], "norm of step {step}");
        assert!((rate as f32 - rates[step]).abs() <= 1e-7, "learning rate of step {step}");
    }
    for (index, name) in adapter.names().iter().enumerate() {
        let check = |actual: &candle_core::Tensor, of: &str| {
            let error = relative_error(actual, &io[&format!("{of}.{name}")]);
            assert!(error <= 1e-3, "{of} {name} is off by {error:e}");
        };
        check(&adapter.parameters()[index], "after");
        check(&average.values()[index], "ema");
    }
}
