//! Loss and gradients against PyTorch + PEFT, see `fixtures/training/make.py`.

mod common;

use std::path::Path;

use candle_core::DType;
use common::{adapter, batch, relative_error, repo, tensors, transformer, transformer_in};
use masuka_training::adapter::{AdapterSize, Targets};
use masuka_training::gradients::{Gradients, Keep, Learner};
use masuka_training::{pieces, prior};

const TOLERANCE: f64 = 1e-4;

/// The largest relative error of the loss and of any gradient of `file`.
fn largest_error(
    model: &Path,
    file: &Path,
    targets: Targets,
    size: AdapterSize,
    keep: Keep,
) -> f64 {
    let (model, io) = (transformer(model), tensors(file));
    let adapter = adapter(&model, targets, size, &io, "");
    adapter.attach();
    let sigmas = io["sigmas"].to_vec1().expect("sigmas");
    let batch = batch(&io, io["noise"].clone(), sigmas);
    let mut gradients = Gradients::zeros(&adapter).expect("zeros");
    let learner =
        Learner { transformer: &model, adapter: &adapter, keep, guidance: 1.0, by_graph: false };
    let losses = learner.learn(&batch, 1.0, &mut gradients, &|| true).expect("gradients");
    let mean = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64;
    let expected = f64::from(io["loss"].to_vec1::<f32>().expect("the loss")[0]);
    let names = adapter.names();
    assert_eq!(names.len(), io.keys().filter(|name| name.starts_with("grad.")).count());
    let errors = names.iter().zip(gradients.tensors()).map(|(name, gradient)| {
        let error = relative_error(gradient, &io[&format!("grad.{name}")]);
        (name.as_str(), error)
    });
    let loss = ("loss", (mean - expected).abs() / expected);
    let worst = errors.chain([loss]).max_by(|a, b| a.1.total_cmp(&b.1)).expect("errors");
    println!("{} tensors, loss off by {:.1e}, worst {worst:?}", names.len(), loss.1);
    worst.1
}

fn check(name: &str, targets: Targets, keep: Keep) {
    let file = repo(&format!("fixtures/training/gradients_{name}.safetensors"));
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let error = largest_error(&repo("fixtures/transformer/dev"), &file, targets, size, keep);
    assert!(error <= TOLERANCE, "{name}, {keep:?}: off by {error:e}");
}

#[test]
fn attention_adapters_get_the_gradients_of_pytorch() {
    for keep in [Keep::Inputs, Keep::Everything] {
        check("attention", Targets::Attention, keep);
    }
}

#[test]
fn adapters_of_all_linear_layers_get_the_gradients_of_pytorch() {
    for keep in [Keep::Inputs, Keep::Everything] {
        check("all_linear", Targets::AllLinear, keep);
    }
}

#[test]
#[ignore = "takes 5 GB; `just test-training-slice` makes its model and runs it"]
fn a_slice_of_flux_1_gets_the_gradients_of_pytorch() {
    let folder = repo("target/training_slice");
    let size = AdapterSize { rank: 16, alpha: 16.0 };
    let file = folder.join("gradients.safetensors");
    let error = largest_error(&folder, &file, Targets::AllLinear, size, Keep::Inputs);
    assert!(error <= TOLERANCE, "off by {error:e}");
}

#[test]
fn gradients_of_the_graph_are_those_of_the_kernels() {
    for (file, targets) in [("attention", Targets::Attention), ("all_linear", Targets::AllLinear)] {
        let file = repo(&format!("fixtures/training/gradients_{file}.safetensors"));
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::BF16, 0.05)] {
            let model = transformer_in(&repo("fixtures/transformer/dev"), dtype);
            let io = tensors(&file);
            let adapter = adapter(&model, targets, AdapterSize { rank: 4, alpha: 6.0 }, &io, "");
            adapter.attach();
            let batch = batch(&io, io["noise"].clone(), io["sigmas"].to_vec1().expect("sigmas"));
            let take = |by_graph| {
                let (transformer, adapter, keep) = (&model, &adapter, Keep::Everything);
                let learner = Learner { transformer, adapter, keep, guidance: 1.0, by_graph };
                let mut gradients = Gradients::zeros(adapter).expect("zeros");
                let losses = learner.learn(&batch, 1.0, &mut gradients, &|| true);
                (losses.expect("losses"), gradients)
            };
            let ((losses, own), (losses_of_graph, of_graph)) = (take(false), take(true));
            for (a, b) in losses.iter().zip(&losses_of_graph) {
                assert!((a - b).abs() <= bound as f32 * b.abs(), "{losses:?}, {losses_of_graph:?}");
            }
            for (name, (own, of_graph)) in
                adapter.names().iter().zip(own.tensors().iter().zip(of_graph.tensors()))
            {
                let error = relative_error(own, of_graph);
                assert!(error < bound, "{name} in {dtype:?} is off by {error:e}");
            }
        }
    }
}

#[test]
fn accumulated_gradients_add_up() {
    let (model, io) = (
        transformer(&repo("fixtures/transformer/dev")),
        tensors(&repo("fixtures/training/gradients_attention.safetensors")),
    );
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let adapter = adapter(&model, Targets::Attention, size, &io, "");
    adapter.attach();
    let sigmas: Vec<f32> = io["sigmas"].to_vec1().expect("sigmas");
    let whole = batch(&io, io["noise"].clone(), sigmas.clone());
    let learner = Learner {
        transformer: &model,
        adapter: &adapter,
        keep: Keep::Inputs,
        guidance: 1.0,
        by_graph: false,
    };
    let mut at_once = Gradients::zeros(&adapter).expect("zeros");
    learner.learn(&whole, 1.0, &mut at_once, &|| true).expect("gradients");
    let mut in_turn = Gradients::zeros(&adapter).expect("zeros");
    for (index, sigma) in sigmas.into_iter().enumerate() {
        let mut one = whole.clone();
        let pick = |tensor: &candle_core::Tensor| tensor.narrow(0, index, 1).expect("a picture");
        (one.latents, one.noise) = (pick(&whole.latents), pick(&whole.noise));
        one.conditioning.txt = pick(&whole.conditioning.txt);
        one.conditioning.pooled = pick(&whole.conditioning.pooled);
        one.sigmas = vec![sigma];
        learner.learn(&one, 0.5, &mut in_turn, &|| true).expect("gradients");
    }
    for (a, b) in in_turn.tensors().iter().zip(at_once.tensors()) {
        assert!(relative_error(a, b) < 1e-5);
    }
}

#[test]
fn pieces_on_several_threads_add_up_to_the_whole_and_to_the_same_bits() {
    let (model, io) = (
        transformer(&repo("fixtures/transformer/dev")),
        tensors(&repo("fixtures/training/gradients_attention.safetensors")),
    );
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let adapter = adapter(&model, Targets::Attention, size, &io, "");
    adapter.attach();
    let two = batch(&io, io["noise"].clone(), io["sigmas"].to_vec1().expect("sigmas"));
    let thrice = |tensor: &candle_core::Tensor| {
        let five = candle_core::Tensor::cat(&[tensor; 3], 0).and_then(|six| six.narrow(0, 0, 5));
        five.expect("five pictures")
    };
    let mut five = two.clone();
    (five.latents, five.noise) = (thrice(&two.latents), (thrice(&two.noise) * 0.7).expect("noise"));
    five.conditioning.txt = thrice(&two.conditioning.txt);
    five.conditioning.pooled = thrice(&two.conditioning.pooled);
    five.sigmas = vec![0.1, 0.3, 0.5, 0.7, 0.9];
    let learner = Learner {
        transformer: &model,
        adapter: &adapter,
        keep: Keep::Everything,
        guidance: 1.0,
        by_graph: false,
    };
    let mut whole = Gradients::zeros(&adapter).expect("zeros");
    let losses = learner.learn(&five, 1.0, &mut whole, &|| true).expect("gradients");
    let in_pieces = |count: usize| {
        masuka_kernels::threads::set_count(count);
        let mut gradients = Gradients::zeros(&adapter).expect("zeros");
        let each = pieces::learn(&learner, &five, 1.0, &mut gradients, &|| true);
        assert!(each.expect("gradients").iter().zip(&losses).all(|(a, b)| (a - b).abs() < 1e-5));
        gradients
    };
    let (one, three) = (in_pieces(1), in_pieces(3));
    let numbers = |t: &candle_core::Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>());
    for ((one, three), whole) in one.tensors().iter().zip(three.tensors()).zip(whole.tensors()) {
        assert!(relative_error(one, whole) < 1e-5);
        assert_eq!(numbers(one).expect("numbers"), numbers(three).expect("numbers"));
    }
}

#[test]
fn the_base_model_s_own_pictures_ask_for_what_it_says_without_the_adapter() {
    let (model, io) = (
        transformer(&repo("fixtures/transformer/dev")),
        tensors(&repo("fixtures/training/gradients_attention.safetensors")),
    );
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let adapter = adapter(&model, Targets::Attention, size, &io, "");
    let mut two = batch(&io, io["noise"].clone(), io["sigmas"].to_vec1().expect("sigmas"));
    let (transformer, keep) = (&model, Keep::Everything);
    let learner = Learner { transformer, adapter: &adapter, keep, guidance: 1.0, by_graph: false };
    let of_base = learner.velocity(&two).expect("a velocity");
    adapter.attach();
    let with_adapter = learner.velocity(&two).expect("a velocity");
    assert!(prior::target(&learner, &two, &[false, false]).expect("a target").is_none());
    let own = two.target().expect("a target");
    two.target = prior::target(&learner, &two, &[false, true]).expect("a target");
    let asked = two.target.as_ref().expect("a target");
    let row = |tensor: &candle_core::Tensor, index| tensor.narrow(0, index, 1).expect("a picture");
    assert_eq!(relative_error(&row(asked, 0), &row(&own, 0)), 0.0);
    assert!(relative_error(&row(asked, 1), &row(&of_base, 1)) < 1e-6);
    let after = learner.velocity(&two).expect("a velocity");
    assert_eq!(
        relative_error(&after, &with_adapter),
        0.0,
        "the adapter is beside the layers again"
    );
    let losses = learner.losses(&two).expect("losses");
    let distance = (row(&with_adapter, 1) - row(&of_base, 1)).and_then(|d| d.sqr()?.mean_all());
    let distance = distance.and_then(|d| d.to_scalar::<f32>()).expect("a distance");
    assert!(distance > 0.0 && (losses[1] - distance).abs() < 1e-4 * distance, "{losses:?}");
}

#[test]
fn learning_stops_between_blocks_when_asked() {
    let (model, io) = (
        transformer(&repo("fixtures/transformer/dev")),
        tensors(&repo("fixtures/training/gradients_attention.safetensors")),
    );
    let size = AdapterSize { rank: 4, alpha: 6.0 };
    let adapter = adapter(&model, Targets::Attention, size, &io, "");
    adapter.attach();
    let batch = batch(&io, io["noise"].clone(), io["sigmas"].to_vec1().expect("sigmas"));
    let learner = Learner {
        transformer: &model,
        adapter: &adapter,
        keep: Keep::Inputs,
        guidance: 1.0,
        by_graph: false,
    };
    let mut gradients = Gradients::zeros(&adapter).expect("zeros");
    let error = learner.learn(&batch, 1.0, &mut gradients, &|| false).expect_err("a stop");
    assert!(error.is_cancelled());
}
