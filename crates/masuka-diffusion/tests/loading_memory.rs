//! What loading takes, measured in processes of their own: the peak against the weights.
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use candle_core::DType;
use common::checkpoints::{part, weights};
use masuka_diffusion::layers::Residency;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::Part;
use masuka_diffusion::weights::names::flux_bfl::FLUX_BFL;

/// A transformer of 155 million parameters in one double-stream block and two single-stream blocks.
const CONFIG: &str = r#"{
    "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128,
    "num_attention_heads": 12, "joint_attention_dim": 256, "pooled_projection_dim": 128,
    "guidance_embeds": true
}"#;

/// What a child process is to load: a file, and whether its blocks stay.
const FILE: &str = "MASUKA_TEST_FILE";
const STREAMED: &str = "MASUKA_TEST_STREAMED";

#[test]
fn loading_takes_the_weights_and_little_more() {
    let config: FluxConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, size) in [("BF16", 2), ("F32", 4), ("F8_E4M3", 1)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        write_zeros(&path, &config, name, size);
        let bytes = weights(part(&path, Part::Transformer), DType::BF16).bytes();
        let (resident, streamed) = (peak_of_child(&path, false), peak_of_child(&path, true));
        println!("{name}: weights {bytes}, peak {resident}, streamed {streamed}");
        assert!(bytes > 300_000_000, "{bytes}");
        assert!(resident > bytes * 9 / 10, "the peak cannot be below the weights");
        assert!(resident <= bytes * 11 / 10, "{name}: {resident} for {bytes}");
        // The double-stream block is more than half of this model.
        assert!(streamed <= bytes * 7 / 10, "{name}: {streamed} streamed for {bytes}");
    }
}

/// Loads what the environment names and prints by how much that raised the process's memory at most.
#[test]
fn child_that_is_measured() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let config: FluxConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let streamed = std::env::var_os(STREAMED).is_some();
    let residency = if streamed { Residency::Streamed } else { Residency::Resident };
    let before = status("VmRSS:");
    let weights = weights(part(Path::new(&path), Part::Transformer), DType::BF16);
    let model = FluxTransformer::load(&weights, &config, residency).expect("it loads");
    println!("peak {}", status("VmHWM:") - before);
    drop(model);
}

/// The peak in bytes of a process that loads `path` as bf16. Each in a process of its own, because an allocator
/// keeps what one load has freed for the next.
fn peak_of_child(path: &Path, streamed: bool) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "child_that_is_measured", "--nocapture"]).env(FILE, path);
    if streamed {
        child.env(STREAMED, "1");
    }
    let output = child.output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.parse().ok());
    peak.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A file of zeros in Black Forest Labs' names. The zeros take no room on the disk, but in memory they do.
fn write_zeros(path: &Path, config: &FluxConfig, dtype: &str, size: usize) {
    let d = config.hidden_size();
    let mut layers = vec![
        ("x_embedder".to_owned(), vec![d, config.in_channels]),
        ("context_embedder".to_owned(), vec![d, config.joint_attention_dim]),
        ("norm_out.linear".to_owned(), vec![2 * d, d]),
        ("proj_out".to_owned(), vec![config.in_channels, d]),
    ];
    for (name, width) in
        [("timestep", 256), ("guidance", 256), ("text", config.pooled_projection_dim)]
    {
        layers.push((format!("time_text_embed.{name}_embedder.linear_1"), vec![d, width]));
        layers.push((format!("time_text_embed.{name}_embedder.linear_2"), vec![d, d]));
    }
    let head = config.attention_head_dim;
    for i in 0..config.num_layers {
        let mut add = |name: &str, shape: Vec<usize>| {
            layers.push((format!("transformer_blocks.{i}.{name}"), shape));
        };
        for (norm, mlp) in [("norm1", "ff"), ("norm1_context", "ff_context")] {
            add(&format!("{norm}.linear"), vec![6 * d, d]);
            add(&format!("{mlp}.net.0.proj"), vec![4 * d, d]);
            add(&format!("{mlp}.net.2"), vec![d, 4 * d]);
        }
        for name in [
            "to_q",
            "to_k",
            "to_v",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_out.0",
            "to_add_out",
        ] {
            add(&format!("attn.{name}"), vec![d, d]);
        }
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
            add(&format!("attn.{name}"), vec![head]);
        }
    }
    for i in 0..config.num_single_layers {
        let mut add = |name: &str, shape: Vec<usize>| {
            layers.push((format!("single_transformer_blocks.{i}.{name}"), shape));
        };
        add("norm.linear", vec![3 * d, d]);
        add("proj_mlp", vec![4 * d, d]);
        add("proj_out", vec![d, 5 * d]);
        for name in ["to_q", "to_k", "to_v"] {
            add(&format!("attn.{name}"), vec![d, d]);
        }
        add("attn.norm_q", vec![head]);
        add("attn.norm_k", vec![head]);
    }
    write_file(path, &layers, dtype, size);
}

fn write_file(path: &Path, layers: &[(String, Vec<usize>)], dtype: &str, size: usize) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (layer, shape) in layers {
        let bias = (shape.len() == 2).then(|| ("bias", vec![shape[0]]));
        for (parameter, shape) in [("weight", shape.clone())].into_iter().chain(bias) {
            let (name, take) =
                FLUX_BFL.spell(&format!("{layer}.{parameter}"), 0).expect("a spelling");
            let shape = take.stored_shape(&shape);
            let start = end;
            if header.contains_key(&name) {
                continue; // a part of a joined layer
            }
            end += shape.iter().product::<usize>() * size;
            let entry =
                serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
            header.insert(name, entry);
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = File::create(path).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len((8 + header.len() + end) as u64).expect("room");
}
