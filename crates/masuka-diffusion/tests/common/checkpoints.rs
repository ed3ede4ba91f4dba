//! Checkpoint files written for a test, and read by their content.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::weights::names::{Names, Take};
use masuka_diffusion::weights::{
    Checkpoint, Contents, FromShapes, Part, Shapes, TensorSource, Weights,
};

/// The tensors of `part` of the file or folder `path`, by our names.
pub fn part(path: &Path, part: Part) -> Checkpoint {
    let all = Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}"));
    let contents = Contents::of(&all);
    contents
        .part(part, &all)
        .unwrap_or_else(|| panic!("{} is {}", path.display(), contents.describe()))
}

/// Its configuration, as far as shapes tell.
pub fn config<C: FromShapes>(checkpoint: &Checkpoint) -> C {
    C::from_shapes(Shapes(checkpoint)).expect("sizes")
}

/// It, ready for a model to load itself from.
pub fn weights(checkpoint: Checkpoint, dtype: DType) -> Weights {
    Weights::new(Box::new(checkpoint), dtype, &super::device())
}

/// The tensors of `source` in the spelling of `names`, below `prefix`.
pub fn in_other_names(
    source: &dyn TensorSource,
    names: &Names,
    levels: usize,
    prefix: &str,
) -> HashMap<String, Tensor> {
    let mut parts: BTreeMap<String, Vec<(usize, Take, Tensor)>> = BTreeMap::new();
    for name in source.names() {
        let (theirs, take) =
            names.spell(&name, levels).unwrap_or_else(|| panic!("`{name}` has no spelling"));
        let place = if let Take::Rows { first, .. } = take { first } else { 0 };
        let tensor = source.load(&name, DType::F32, &Device::Cpu).expect("a tensor");
        parts.entry(format!("{prefix}{theirs}")).or_default().push((place, take, tensor));
    }
    let join = |mut parts: Vec<(usize, Take, Tensor)>| {
        parts.sort_by_key(|(place, _, _)| *place);
        let take = parts[0].1;
        let rows: Vec<Tensor> = parts.into_iter().map(|(_, _, tensor)| tensor).collect();
        let tensor = Tensor::cat(&rows, 0).expect("equal columns");
        let halves = |t: &Tensor| t.chunk(2, 0).expect("two halves");
        match take {
            Take::SwappedHalves => {
                Tensor::cat(&[&halves(&tensor)[1], &halves(&tensor)[0]], 0).expect("halves")
            }
            Take::Pointwise => tensor.reshape(take.stored_shape(tensor.dims())).expect("1x1"),
            Take::Whole | Take::Rows { .. } => tensor,
        }
    };
    parts.into_iter().map(|(name, parts)| (name, join(parts))).collect()
}

/// Writes `tensors` to `path`.
pub fn write(path: &Path, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, path).expect("a file");
}
