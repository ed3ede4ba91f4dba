//! diffusers and PEFT: `transformer.transformer_blocks.0.attn.to_q.lora_A.weight`, `text_encoder.…`.

use super::{Place, Target, TensorRole};

const PREFIXES: [(&str, Target); 3] = [
    ("transformer.", Target::Transformer),
    ("text_encoder.", Target::TextEncoder),
    ("text_encoder_2.", Target::TextEncoder2),
];

const ROLES: [(&str, TensorRole); 7] = [
    (".lora_A.weight", TensorRole::Down),
    (".lora_B.weight", TensorRole::Up),
    (".lora_A.default.weight", TensorRole::Down),
    (".lora_B.default.weight", TensorRole::Up),
    (".lora_linear_layer.down.weight", TensorRole::Down),
    (".lora_linear_layer.up.weight", TensorRole::Up),
    (".alpha", TensorRole::Alpha),
];

/// Where `name` belongs, if this convention spells it.
pub(super) fn place(name: &str) -> Option<Place> {
    let (rest, target) =
        PREFIXES.iter().find_map(|(prefix, target)| Some((name.strip_prefix(prefix)?, *target)))?;
    let (module, role) =
        ROLES.iter().find_map(|(suffix, role)| Some((rest.strip_suffix(suffix)?, *role)))?;
    Some(Place { target, module: canonical_module(target, module).to_owned(), role })
}

/// The name by which a slot is found: CLIP's files spell it with and without `text_model.`.
pub fn canonical_module(target: Target, module: &str) -> &str {
    match target {
        Target::TextEncoder => module.strip_prefix("text_model.").unwrap_or(module),
        Target::Transformer | Target::TextEncoder2 => module,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<(Target, &str, TensorRole)>) {
        let expected = expected.map(|(target, module, role)| Place {
            target,
            module: module.to_owned(),
            role,
        });
        assert_eq!(place(name), expected);
    }

    #[test]
    fn names_of_all_components_are_placed() {
        let module = "transformer_blocks.3.attn.to_out.0";
        let name = format!("transformer.{module}.lora_A.weight");
        check(&name, Some((Target::Transformer, module, TensorRole::Down)));
        let module = "encoder.layers.1.mlp.fc1";
        let name = format!("text_encoder.text_model.{module}.lora_B.weight");
        check(&name, Some((Target::TextEncoder, module, TensorRole::Up)));
        let name = "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q.alpha";
        let module = "encoder.block.0.layer.0.SelfAttention.q";
        check(name, Some((Target::TextEncoder2, module, TensorRole::Alpha)));
    }

    #[test]
    fn other_conventions_are_not_taken_for_this_one() {
        check("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", None);
        check("transformer.proj_out.weight", None);
    }
}
