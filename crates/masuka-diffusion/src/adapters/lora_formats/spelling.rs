//! From the name that a file gives a module to the layers of the model that it stands for, and back.

use crate::weights::names::{Names, Take};

/// How a convention spells the layers of a part of the model.
#[derive(Clone, Copy)]
pub(super) enum Spelling {
    /// As diffusers and transformers do; the table lists the layers.
    Ours(&'static [&'static str]),
    /// Likewise, with `_` for every dot.
    OursUnderscored(&'static [&'static str]),
    /// By the names of another project.
    Theirs(&'static Names),
    /// Likewise, with `_` for every dot.
    TheirsUnderscored(&'static Names),
    /// Layers that have no effect on a picture, as diffusers and transformers name them.
    Unused(&'static [&'static str]),
}

/// A layer, and which rows of a module's output are its own.
pub(in crate::adapters) type Layer = (String, Take);

impl Spelling {
    /// The layers that `module` stands for, in the order of its rows: none if it has no effect.
    pub(super) fn layers(self, module: &str) -> Option<Vec<Layer>> {
        let whole = |name: String| vec![(name, Take::Whole)];
        match self {
            Self::Ours(layers) => find(layers, module, ".").map(whole),
            Self::OursUnderscored(layers) => find(layers, module, "_").map(whole),
            Self::Theirs(names) => Some(translate(names, module)).filter(|found| !found.is_empty()),
            Self::TheirsUnderscored(names) => {
                let patterns = names.rules.iter().map(|rule| rule.theirs);
                let dotted = patterns.filter_map(|pattern| fit(pattern, module, "_")).next()?;
                Some(translate(names, &dotted))
            }
            Self::Unused(layers) => {
                let found = find(layers, module, ".").or_else(|| find(layers, module, "_"));
                found.map(|_| Vec::new())
            }
        }
    }

    /// The module that holds `layer`, and which of its rows those are.
    pub(super) fn spell(self, layer: &str) -> Option<Layer> {
        match self {
            Self::Ours(layers) => Some((find(layers, layer, ".")?, Take::Whole)),
            Self::OursUnderscored(layers) => {
                Some((find(layers, layer, ".")?.replace('.', "_"), Take::Whole))
            }
            Self::Theirs(names) => {
                let (tensor, take) = names.spell(&format!("{layer}.weight"), 0)?;
                Some((tensor.strip_suffix(".weight")?.to_owned(), take))
            }
            Self::TheirsUnderscored(names) => {
                let (module, take) = Self::Theirs(names).spell(layer)?;
                Some((module.replace('.', "_"), take))
            }
            Self::Unused(_) => None,
        }
    }
}

fn translate(names: &Names, module: &str) -> Vec<Layer> {
    names.translate_module(module, 0)
}

/// The dotted name of `module` if it fits one of `patterns`.
fn find(patterns: &[&str], module: &str, separator: &str) -> Option<String> {
    patterns.iter().find_map(|pattern| fit(pattern, module, separator))
}

/// `pattern` with its numbers taken from `module`, which has `separator` where the pattern has dots.
fn fit(pattern: &str, module: &str, separator: &str) -> Option<String> {
    let (mut dotted, mut rest) = (String::with_capacity(module.len()), module);
    for (index, part) in pattern.split('.').enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(separator)?;
            dotted.push('.');
        }
        let length = if part == "{}" {
            rest.bytes().take_while(u8::is_ascii_digit).count()
        } else {
            rest.starts_with(part).then_some(part.len())?
        };
        let (taken, after) = rest.split_at(length);
        if taken.is_empty() {
            return None;
        }
        dotted.push_str(taken);
        rest = after;
    }
    rest.is_empty().then_some(dotted)
}

#[cfg(test)]
mod tests {
    use super::super::layers::{FLUX, T5};
    use super::*;
    use crate::weights::names::flux_bfl::FLUX_BFL;

    #[track_caller]
    fn check(spelling: Spelling, module: &str, expected: &[&str]) {
        let layers = spelling.layers(module).unwrap_or_default();
        let names: Vec<_> = layers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{module}");
        for layer in layers {
            assert_eq!(spelling.spell(&layer.0), Some((module.to_owned(), layer.1)));
        }
    }

    #[test]
    fn names_go_there_and_back() {
        let module = "transformer_blocks.11.ff_context.net.0.proj";
        check(Spelling::Ours(FLUX), module, &[module]);
        check(Spelling::OursUnderscored(FLUX), &module.replace('.', "_"), &[module]);
        let module = "encoder.block.2.layer.1.DenseReluDense.wi_0";
        check(Spelling::OursUnderscored(T5), &module.replace('.', "_"), &[module]);
        let layers = ["to_q", "to_k", "to_v"].map(|l| format!("transformer_blocks.3.attn.{l}"));
        let layers = layers.each_ref().map(String::as_str);
        check(Spelling::Theirs(&FLUX_BFL), "double_blocks.3.img_attn.qkv", &layers);
        check(Spelling::TheirsUnderscored(&FLUX_BFL), "double_blocks_3_img_attn_qkv", &layers);
    }

    #[test]
    fn other_names_are_not_taken_for_these() {
        for module in
            ["transformer_blocks.x.attn.to_q", "transformer_blocks.1.attn.to_q.0", "", "."]
        {
            check(Spelling::Ours(FLUX), module, &[]);
            check(Spelling::OursUnderscored(FLUX), &module.replace('.', "_"), &[]);
        }
        check(Spelling::TheirsUnderscored(&FLUX_BFL), "double_blocks__img_attn_qkv", &[]);
    }

    #[test]
    fn every_layer_has_a_name_there() {
        for layer in FLUX.iter().map(|layer| layer.replace("{}", "7")) {
            let (module, _) = Spelling::Theirs(&FLUX_BFL).spell(&layer).expect(&layer);
            let layers = Spelling::Theirs(&FLUX_BFL).layers(&module).expect(&module);
            assert!(layers.iter().any(|(name, _)| *name == layer), "{layer} as {module}");
        }
    }
}
