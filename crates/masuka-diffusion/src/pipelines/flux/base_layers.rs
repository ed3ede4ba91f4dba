//! What adapters need to know of the weights: which layers there are, and for norms what they hold. Only headers stay
//! in memory.

use std::collections::BTreeMap;

use super::files::FluxFiles;
use crate::adapters::lora_formats::{canonical_module, is_adaptable};
use crate::adapters::{BaseLayer, BaseLayers, Host, Target};
use crate::error::{Error, Result};
use crate::pipelines::LoadOptions;
use crate::weights::{Part, Table, Weights};

const TARGETS: [Target; 3] = [Target::Transformer, Target::TextEncoder, Target::TextEncoder2];

/// The layers of a FLUX.1 model that can be adapted.
pub(super) struct FluxLayers {
    name: String,
    components: BTreeMap<Target, Component>,
}

struct Component {
    weights: Weights,
    /// By canonical name: the layer's own name, and its (out, in).
    layers: BTreeMap<String, (String, (usize, usize))>,
}

impl FluxLayers {
    /// Reads the headers of `files`.
    pub(super) fn new(files: &FluxFiles, options: &LoadOptions) -> Result<Self> {
        let component = |target: Target| {
            let weights = files.weights(part(target), options)?;
            let layers = weights.matrices().into_iter().filter_map(|(name, shape)| {
                let canonical = canonical_module(target, &name).to_owned();
                is_adaptable(target, &canonical).then_some((canonical, (name, shape)))
            });
            Ok((target, Component { layers: layers.collect(), weights }))
        };
        let components = TARGETS.into_iter().map(component).collect::<Result<_>>()?;
        Ok(Self { name: files.name(), components })
    }

    /// The (out, in) of a layer.
    pub(super) fn shape(&self, target: Target, layer: &str) -> Option<(usize, usize)> {
        Some(self.components.get(&target)?.layers.get(layer)?.1)
    }

    /// The model as adapters see it.
    pub(super) fn host<'a>(&'a self, options: &'a LoadOptions) -> Host<'a> {
        Host {
            dtype: options.precision.dtype(),
            device: &options.device,
            name: &self.name,
            base: self,
        }
    }
}

/// The part of the model that `target` is.
fn part(target: Target) -> Part {
    match target {
        Target::Transformer => Part::Transformer,
        Target::TextEncoder => Part::TextEncoder,
        Target::TextEncoder2 => Part::TextEncoder2,
    }
}

impl BaseLayers for FluxLayers {
    fn layer(&self, target: Target, name: &str) -> Result<BaseLayer> {
        let component = self.components.get(&target);
        let found = component.and_then(|c| Some((&c.weights, c.layers.get(name)?)));
        let Some((weights, (name, (out, columns)))) = found else {
            let file = self.name.clone();
            return Err(Error::MissingTensor { tensor: format!("{name}.weight"), file });
        };
        let is_norm = *columns == 1;
        let weights = weights.at(name);
        if is_norm {
            return Ok(BaseLayer { weight: weights.tensor("weight", &[*out])?, bias: None });
        }
        let weight = match weights.table("weight", [*out, *columns])? {
            Table::Dense(weight) => weight,
            Table::Quantized(blocks) => blocks.dequantize(weights.device())?,
        };
        let bias = weights.contains("bias").then(|| weights.tensor("bias", &[*out])).transpose()?;
        Ok(BaseLayer { weight, bias })
    }
}
