//! What a block adds to the memory of a step: the only test of its process, which counts what all threads allocate.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use candle_core::{DType, Device, Tensor};
use common::{repo, tensors, transformer};
use masuka_diffusion::conditioning::Conditioning;
use masuka_training::adapter::{AdapterSize, Targets, TrainedAdapter};
use masuka_training::gradients::{Batch, Gradients, Keep, Learner};

/// The system's allocator, which knows how much is allocated and how much was at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system allocator's own, with the arguments that the caller vouches for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(now, SeqCst);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Pictures of a batch, rows and columns of tokens in each, and tokens of a caption.
const PICTURES: usize = 2;
const SIDE: usize = 24;
const WORDS: usize = 6;
/// Of the fixture's residual stream.
const WIDTH: usize = 48;

/// Writes the fixture's model into `folder`, with `doubles` and `singles` copies of its first blocks.
fn write_model(folder: &Path, doubles: usize, singles: usize) {
    let fixture = repo("fixtures/transformer/dev");
    let config = std::fs::read_to_string(fixture.join("config.json")).expect("a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    (config["num_layers"], config["num_single_layers"]) = (doubles.into(), singles.into());
    std::fs::write(folder.join("config.json"), config.to_string()).expect("it is written");
    let mut copies = HashMap::new();
    for (name, tensor) in tensors(&fixture.join("diffusion_pytorch_model.safetensors")) {
        let stacks = [("transformer_blocks.", doubles), ("single_transformer_blocks.", singles)];
        match stacks.into_iter().find(|(stack, _)| name.starts_with(stack)) {
            None => drop(copies.insert(name, tensor)),
            Some((stack, count)) => {
                let Some(of_block) = name[stack.len()..].strip_prefix("0.") else { continue };
                copies
                    .extend((0..count).map(|i| (format!("{stack}{i}.{of_block}"), tensor.clone())));
            }
        }
    }
    let file = folder.join("diffusion_pytorch_model.safetensors");
    candle_core::safetensors::save(&copies, file).expect("it is written");
}

fn batch() -> Batch {
    let random = |rows, columns| {
        Tensor::randn(0f32, 1.0, (PICTURES, rows, columns), &Device::Cpu).expect("noise")
    };
    let pooled = Tensor::randn(0f32, 1.0, (PICTURES, 24), &Device::Cpu).expect("noise");
    Batch {
        latents: random(SIDE * SIDE, 16),
        noise: random(SIDE * SIDE, 16),
        target: None,
        sigmas: vec![0.3, 0.7],
        conditioning: Conditioning { txt: random(WORDS, 40), pooled },
        grid: (SIDE, SIDE),
    }
}

/// Bytes that a step takes at most beside the model, less those of its gradients.
fn peak_of_step(doubles: usize, singles: usize, keep: Keep) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    write_model(folder.path(), doubles, singles);
    let model = transformer(folder.path());
    let size = AdapterSize { rank: 1, alpha: 1.0 };
    let seed = masuka_diffusion::noise::Seed::new(1).expect("a seed");
    let adapter =
        TrainedAdapter::new(model.adapters(), Targets::Attention, size, seed, &Device::Cpu);
    let adapter = adapter.expect("an adapter");
    adapter.attach();
    let (batch, transformer) = (batch(), &model);
    let learner = Learner { transformer, adapter: &adapter, keep, guidance: 1.0, by_graph: false };
    let mut gradients = Gradients::zeros(&adapter).expect("zeros");
    PEAK.store(NOW.load(SeqCst), SeqCst);
    let before = NOW.load(SeqCst);
    learner.learn(&batch, 1.0, &mut gradients, &|| true).expect("gradients");
    let of_gradients = adapter.parameters().iter().map(|p| p.elem_count() * size_of::<f32>());
    PEAK.load(SeqCst) - before - of_gradients.sum::<usize>()
}

/// By how much one more block raises the peak.
fn growth(keep: Keep, more_doubles: usize, more_singles: usize) -> usize {
    let few = peak_of_step(1, 1, keep);
    let many = peak_of_step(1 + more_doubles, 1 + more_singles, keep);
    (many - few) / (more_doubles + more_singles)
}

#[test]
fn a_block_that_is_computed_again_takes_no_more_than_its_input() {
    masuka_kernels::threads::set_count(1);
    let input = PICTURES * (SIDE * SIDE + WORDS) * WIDTH * DType::F32.size_in_bytes();
    for (doubles, singles) in [(8, 0), (0, 8)] {
        let grown = growth(Keep::Inputs, doubles, singles);
        println!("{doubles}, {singles}: {grown} bytes a block, whose input has {input}");
        assert!(grown <= input + input / 20, "{grown} bytes, not {input}");
        assert!(grown >= input / 2, "{grown} bytes: its input is not there");
        let kept = growth(Keep::Everything, doubles, singles);
        assert!(kept > 5 * input, "everything of a block takes but {kept} bytes");
    }
}
