//! Models of zeros: their files take no room on the disk, but in memory they do.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use masuka_diffusion::text_encoders::T5Config;
use masuka_diffusion::transformers::flux::FluxConfig;
use masuka_diffusion::weights::names::flux_bfl::FLUX_BFL;

/// A tensor's name and shape.
pub type Entry = (String, Vec<usize>);

/// The tensors of a transformer, by diffusers' names.
pub fn flux(config: &FluxConfig) -> Vec<Entry> {
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
    for i in 0..config.num_layers {
        double_block(config, &format!("transformer_blocks.{i}"), &mut layers);
    }
    for i in 0..config.num_single_layers {
        single_block(config, &format!("single_transformer_blocks.{i}"), &mut layers);
    }
    let parameters = |(layer, shape): (String, Vec<usize>)| {
        let bias = (shape.len() == 2).then(|| (format!("{layer}.bias"), vec![shape[0]]));
        [Some((format!("{layer}.weight"), shape)), bias].into_iter().flatten()
    };
    layers.into_iter().flat_map(parameters).collect()
}

fn double_block(config: &FluxConfig, block: &str, layers: &mut Vec<Entry>) {
    let d = config.hidden_size();
    let mut add = |name: &str, shape: Vec<usize>| layers.push((format!("{block}.{name}"), shape));
    for (norm, mlp) in [("norm1", "ff"), ("norm1_context", "ff_context")] {
        add(&format!("{norm}.linear"), vec![6 * d, d]);
        add(&format!("{mlp}.net.0.proj"), vec![4 * d, d]);
        add(&format!("{mlp}.net.2"), vec![d, 4 * d]);
    }
    let img = ["to_q", "to_k", "to_v", "to_out.0"];
    let txt = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
    for name in img.into_iter().chain(txt) {
        add(&format!("attn.{name}"), vec![d, d]);
    }
    for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
        add(&format!("attn.{name}"), vec![config.attention_head_dim]);
    }
}

fn single_block(config: &FluxConfig, block: &str, layers: &mut Vec<Entry>) {
    let d = config.hidden_size();
    let mut add = |name: &str, shape: Vec<usize>| layers.push((format!("{block}.{name}"), shape));
    add("norm.linear", vec![3 * d, d]);
    add("proj_mlp", vec![4 * d, d]);
    add("proj_out", vec![d, 5 * d]);
    for name in ["to_q", "to_k", "to_v"] {
        add(&format!("attn.{name}"), vec![d, d]);
    }
    add("attn.norm_q", vec![config.attention_head_dim]);
    add("attn.norm_k", vec![config.attention_head_dim]);
}

/// The tensors of a T5 encoder with gated layers, by transformers' names.
pub fn t5(config: &T5Config) -> Vec<Entry> {
    let (d, inner, d_ff) = (config.d_model, config.num_heads * config.d_kv, config.d_ff);
    let mut tensors = vec![
        ("shared.weight".to_owned(), vec![config.vocab_size, d]),
        ("encoder.final_layer_norm.weight".to_owned(), vec![d]),
        (
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".to_owned(),
            vec![config.relative_attention_num_buckets, config.num_heads],
        ),
    ];
    for i in 0..config.num_layers {
        let mut add = |name: &str, shape: Vec<usize>| {
            tensors.push((format!("encoder.block.{i}.{name}.weight"), shape));
        };
        for name in ["q", "k", "v"] {
            add(&format!("layer.0.SelfAttention.{name}"), vec![inner, d]);
        }
        add("layer.0.SelfAttention.o", vec![d, inner]);
        add("layer.0.layer_norm", vec![d]);
        add("layer.1.layer_norm", vec![d]);
        for (name, shape) in [("wi_0", [d_ff, d]), ("wi_1", [d_ff, d]), ("wo", [d, d_ff])] {
            add(&format!("layer.1.DenseReluDense.{name}"), shape.to_vec());
        }
    }
    tensors
}

/// The same transformer in Black Forest Labs' names.
pub fn in_bfl_names(tensors: &[Entry]) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for (name, shape) in tensors {
        let (name, take) = FLUX_BFL.spell(name, 0).expect("a spelling");
        if found.iter().all(|(other, _)| *other != name) {
            found.push((name, take.stored_shape(shape))); // once for the parts of a joined layer
        }
    }
    found
}

/// Writes a safetensors file of zeros, each of `size` bytes.
pub fn write(path: &Path, tensors: &[Entry], dtype: &str, size: usize) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * size;
        let entry =
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut file = File::create(path).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len((8 + header.len() + end) as u64).expect("room");
}
