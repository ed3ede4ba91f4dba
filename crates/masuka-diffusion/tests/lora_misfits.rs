//! Adapters on base models of other sizes: the tensor that does not fit is named as the file has it.

mod common;

use std::sync::Arc;

use masuka_diffusion::adapters::{ChosenAdapter, LoraAdapter, Target};

/// Times as many outputs and inputs as the fixture's model has.
type Wider = (usize, usize);

/// Checks what is said of `file` on a wider base model: first `tensor` with `shapes`, that of the file and that wanted.
#[track_caller]
fn check(file: &str, wider: Wider, tensor: &str, shapes: &str) {
    let path = common::repo(&format!("fixtures/lora_formats/{file}.safetensors"));
    let adapter = Arc::new(LoraAdapter::open(&path).expect("the fixture opens"));
    let shape_of = |target: Target, layer: &str| {
        let update = adapter.updates().get(&(target, layer.to_owned()))?;
        let (out, columns) = update.shape().expect("a shape").unwrap_or((48, 48));
        Some((out * wider.0, columns * wider.1))
    };
    let choice = ChosenAdapter { adapter: adapter.clone(), weight: 1.0, allow_partial: true };
    let message = choice.check(&shape_of).expect_err("a refusal").to_string();
    assert!(message.contains(&format!("`{tensor}` has shape {shapes}")), "{message}");
    assert!(message.ends_with("was this LoRA trained on another base model?"), "{message}");
}

const BOTH: Wider = (2, 2);
const OUTPUTS: Wider = (2, 1);
const INPUTS: Wider = (1, 2);

#[test]
fn lora_is_wrong_in_its_projection_down_or_up() {
    let (down, up) = ("[4, 48] where [4, 96] would fit", "[48, 4] where [96, 4] would fit");
    let layer = "transformer.single_transformer_blocks.0.attn.to_k";
    check("diffusers", BOTH, &format!("{layer}.lora_A.weight"), down);
    check("diffusers", OUTPUTS, &format!("{layer}.lora_B.weight"), up);
    let layer = "lora_transformer_single_transformer_blocks_0_attn_to_k";
    check("dora_columns", BOTH, &format!("{layer}.lora_down.weight"), down);
    let layer = "text_encoder.text_model.encoder.layers.0.mlp.fc1";
    check("text_diffusers", BOTH, &format!("{layer}.lora_A.weight"), down);
}

#[test]
fn joined_layers_are_wrong_in_the_tensor_that_joins_them() {
    // Queries, keys, values and four times as much for the MLP.
    let told = "[336, 4] where [672, 4] would fit";
    check("kohya", OUTPUTS, "lora_unet_single_blocks_0_linear1.lora_up.weight", told);
    let told = "[144, 4] where [288, 4] would fit";
    check("xlabs", OUTPUTS, "double_blocks.0.processor.qkv_lora2.up.weight", told);
}

#[test]
fn loha_lokr_and_differences_are_wrong_in_a_factor() {
    let module = "diffusion_model.single_blocks.0.linear1";
    let (up, down) = ("[336, 4] where [672, 4] would fit", "[4, 48] where [4, 96] would fit");
    check("loha", OUTPUTS, &format!("{module}.hada_w1_a"), up);
    check("loha", INPUTS, &format!("{module}.hada_w1_b"), down);
    let module = "lycoris_single_blocks_0_linear1";
    check("lokr", BOTH, &format!("{module}.lokr_w1"), "[8, 6] where [16, 12] would fit");
    check("diff", OUTPUTS, "single_blocks.0.norm.key_norm.scale", "[24] where [48] would fit");
}
