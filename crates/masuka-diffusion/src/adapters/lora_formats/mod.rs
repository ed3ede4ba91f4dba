//! How the conventions of the field spell the tensors of a LoRA: each file answers for one, as a table. Which of them
//! a file follows is asked once, here.

mod layers; // the layers that can be adapted, by diffusers' names
mod spelling; // from a file's module names to layers, and back
mod roles; // what the end of a tensor's name says
mod diffusers; // `transformer.*.lora_A.weight`
mod peft; // `base_model.model.*.lora_A.weight`
mod kohya; // `lora_unet_*.lora_down.weight`
mod comfyui; // `diffusion_model.*.lora_A.weight`
mod bfl; // `double_blocks.*.lora_A.weight`
mod xlabs; // `double_blocks.*.processor.*.down.weight`
mod onetrainer; // `lora_transformer_*`, and kin
mod metadata; // alpha values that stand beside the tensors

use std::fmt;

use serde::Serialize;

use super::Target;
use spelling::Spelling;

pub use layers::canonical_module;
pub use metadata::Configurations;
pub(super) use metadata::HEADER_KEY;
pub use roles::TensorRole;
pub(super) use spelling::Layer;

/// A convention of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoraFormat {
    /// diffusers.
    Diffusers,
    /// PEFT's checkpoint of one model.
    Peft,
    /// kohya-ss/sd-scripts.
    Kohya,
    /// ComfyUI and ai-toolkit.
    #[serde(rename = "comfyui")]
    ComfyUi,
    /// Black Forest Labs' names alone.
    Bfl,
    /// XLabs-AI/x-flux.
    Xlabs,
    /// OneTrainer.
    #[serde(rename = "onetrainer")]
    OneTrainer,
    /// OneTrainer with Black Forest Labs' names.
    #[serde(rename = "onetrainer-bfl")]
    OneTrainerBfl,
    /// LyCORIS as SimpleTuner saves it.
    Lycoris,
}

impl fmt::Display for LoraFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Diffusers => "diffusers",
            Self::Peft => "peft",
            Self::Kohya => "kohya",
            Self::ComfyUi => "comfyui",
            Self::Bfl => "bfl",
            Self::Xlabs => "xlabs",
            Self::OneTrainer => "onetrainer",
            Self::OneTrainerBfl => "onetrainer-bfl",
            Self::Lycoris => "lycoris",
        })
    }
}

/// A convention: how tensor names begin, go on and end.
pub(super) struct Convention {
    format: LoraFormat,
    prefixes: &'static [Prefix],
    roles: &'static [(&'static str, TensorRole)],
}

/// How the names of a part of the model begin and go on.
struct Prefix {
    text: &'static str,
    target: Target,
    spellings: &'static [Spelling],
}

/// Of two conventions that know equally many tensors of a file, the first is taken.
const CONVENTIONS: [&Convention; 9] = [
    &diffusers::DIFFUSERS,
    &peft::PEFT,
    &kohya::KOHYA,
    &comfyui::COMFYUI,
    &bfl::BFL,
    &xlabs::XLABS,
    &onetrainer::ONETRAINER,
    &onetrainer::ONETRAINER_BFL,
    &onetrainer::LYCORIS,
];

/// Where a tensor belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The part of the model.
    pub target: Target,
    /// The module by the file's name.
    pub module: String,
    /// The layers that the module stands for; none if it has no effect on a picture.
    pub layers: Vec<Layer>,
    /// What the tensor is to the module.
    pub role: TensorRole,
}

impl Convention {
    /// The one that knows the most of `names`; none if none knows any.
    pub(super) fn of(names: &[&str]) -> Option<&'static Self> {
        let tells = |place: Place| place.role != TensorRole::NormScale;
        let known = |c: &Self| names.iter().filter(|n| c.place(n).is_some_and(tells)).count();
        // `max_by_key` takes the last of equals.
        let most = CONVENTIONS.into_iter().rev().max_by_key(|convention| known(convention))?;
        (known(most) > 0).then_some(most)
    }

    /// The convention by its name.
    pub(super) fn named(format: LoraFormat) -> &'static Self {
        let named = CONVENTIONS.into_iter().find(|convention| convention.format == format);
        named.unwrap_or(&diffusers::DIFFUSERS)
    }

    /// Its name.
    pub(super) fn format(&self) -> LoraFormat {
        self.format
    }

    /// Where the tensor `name` belongs, if the convention knows it.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let (module, role) =
            self.roles.iter().find_map(|(end, role)| Some((name.strip_suffix(end)?, *role)))?;
        let (target, layers) = self.prefixes.iter().find_map(|prefix| {
            let rest = module.strip_prefix(prefix.text)?;
            let layers = prefix.spellings.iter().find_map(|spelling| spelling.layers(rest))?;
            Some((prefix.target, layers))
        })?;
        Some(Place { target, module: module.to_owned(), layers, role })
    }

    /// The module that holds a layer of ours, and which of its rows those are; none if the convention has no name
    /// for it.
    pub(super) fn spell(&self, target: Target, layer: &str) -> Option<Layer> {
        let of_target = self.prefixes.iter().filter(|prefix| prefix.target == target);
        of_target
            .flat_map(|prefix| prefix.spellings.iter().map(move |spelling| (prefix, spelling)))
            .find_map(|(prefix, spelling)| {
                let (module, take) = spelling.spell(layer)?;
                Some((format!("{}{module}", prefix.text), take))
            })
    }
}

/// Whether a layer or norm of the model, by diffusers' name, can be adapted.
pub(crate) fn is_adaptable(target: Target, layer: &str) -> bool {
    let norms = if target == Target::Transformer { layers::FLUX_NORMS } else { &[] };
    [layers::of(target), norms].into_iter().any(|of| Spelling::Ours(of).layers(layer).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the place of `name` in a file of such names alone.
    #[track_caller]
    fn check(name: &str, format: LoraFormat, target: Target, layers: &[&str], role: TensorRole) {
        let convention = Convention::of(&[name]).expect("a convention");
        let place = convention.place(name).expect("a place");
        let found: Vec<_> = place.layers.iter().map(|(layer, _)| layer.as_str()).collect();
        let expected = (format, target, layers.to_vec(), role);
        assert_eq!((convention.format(), place.target, found, place.role), expected, "{name}");
    }

    #[test]
    fn each_convention_is_known_by_its_names() {
        use LoraFormat as Format;
        use TensorRole::{Alpha, Down, Kronecker, Magnitude, Up};
        let to_q = "transformer_blocks.3.attn.to_q";
        let qkv = [to_q, "transformer_blocks.3.attn.to_k", "transformer_blocks.3.attn.to_v"];
        let flux = |name: &str, format, layers: &[&str], role| {
            check(name, format, Target::Transformer, layers, role);
        };
        flux(
            "transformer.transformer_blocks.3.attn.to_q.lora_A.weight",
            Format::Diffusers,
            &[to_q],
            Down,
        );
        flux(
            "base_model.model.transformer_blocks.3.attn.to_q.lora_B.weight",
            Format::Peft,
            &[to_q],
            Up,
        );
        flux(
            "base_model.model.double_blocks.3.img_attn.qkv.lora_A.weight",
            Format::Peft,
            &qkv,
            Down,
        );
        flux("lora_unet_double_blocks_3_img_attn_qkv.alpha", Format::Kohya, &qkv, Alpha);
        flux(
            "diffusion_model.double_blocks.3.img_attn.qkv.lora_A.weight",
            Format::ComfyUi,
            &qkv,
            Down,
        );
        flux("double_blocks.3.img_attn.qkv.lora_B.weight", Format::Bfl, &qkv, Up);
        flux("double_blocks.3.processor.qkv_lora1.up.weight", Format::Xlabs, &qkv, Up);
        flux(
            "lora_transformer_transformer_blocks_3_attn_to_q.dora_scale",
            Format::OneTrainer,
            &[to_q],
            Magnitude,
        );
        flux(
            "transformer.double_blocks.3.img_attn.qkv.0.alpha",
            Format::OneTrainerBfl,
            &[to_q],
            Alpha,
        );
        flux(
            "lycoris_transformer_blocks_3_attn_to_q.lokr_w1",
            Format::Lycoris,
            &[to_q],
            Kronecker(0),
        );
    }

    #[test]
    fn text_encoders_have_names_in_each() {
        let clip = |name| {
            let layer = "encoder.layers.1.self_attn.q_proj";
            let convention = Convention::of(&[name]).expect(name);
            let place = convention.place(name).expect(name);
            assert_eq!(place.target, Target::TextEncoder, "{name}");
            assert_eq!(place.layers[0].0, layer, "{name}");
        };
        clip("text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_A.weight");
        clip("text_encoder.encoder.layers.1.self_attn.q_proj.lora_A.weight");
        clip("lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_down.weight");
        clip(
            "text_encoders.clip_l.transformer.text_model.encoder.layers.1.self_attn.q_proj.lora_up.weight",
        );
        clip("base_model.model.text_model.encoder.layers.1.self_attn.q_proj.lora_A.weight");
        let t5 = |name| {
            let place = Convention::of(&[name]).and_then(|c| c.place(name));
            let place = place.expect(name);
            assert_eq!(place.target, Target::TextEncoder2, "{name}");
            assert_eq!(place.layers[0].0, "encoder.block.0.layer.0.SelfAttention.q", "{name}");
        };
        t5("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight");
        t5("lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight");
        t5("lora_te2_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight");
        t5("text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight");
    }

    #[test]
    fn other_models_tensors_are_not_taken_for_ours() {
        for name in [
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            "transformer.proj_out.weight",
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
            "transformer_blocks.0.attn.to_q.lora_A.weights",
            "double_blocks.0.img_attn.qkv.weight",
            "double_blocks.0.img_attn.norm.query_norm.scale",
        ] {
            assert!(Convention::of(&[name]).is_none(), "{name}");
        }
    }

    #[test]
    fn layers_without_effect_are_known() {
        let name = "lora_te1_text_projection.lora_down.weight";
        let place = Convention::named(LoraFormat::Kohya).place(name).expect("a place");
        assert_eq!(place.layers, []);
    }

    #[test]
    fn every_layer_is_spelled_as_it_is_read() {
        for convention in [LoraFormat::Diffusers, LoraFormat::Kohya, LoraFormat::ComfyUi] {
            let convention = Convention::named(convention);
            for target in [Target::Transformer, Target::TextEncoder, Target::TextEncoder2] {
                for layer in layers::of(target).iter().map(|layer| layer.replace("{}", "0")) {
                    let (module, take) = convention.spell(target, &layer).expect(&layer);
                    let place = convention.place(&format!("{module}.alpha")).expect(&module);
                    assert_eq!(place.target, target);
                    assert!(place.layers.contains(&(layer, take)), "{module}");
                }
            }
        }
    }
}
