//! What a checkpoint file says about itself, read from its header alone. What it is used for is not decided here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file;
use memmap2::Mmap;
use safetensors::SafeTensors;

use crate::error::{Error, Result};

/// A checkpoint file's header in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointSummary {
    /// `safetensors` or `gguf`.
    pub format: &'static str,
    /// How many tensors it holds.
    pub tensors: usize,
    /// How many numbers they hold together.
    pub parameters: u64,
    /// How many tensors there are of each dtype.
    pub dtypes: BTreeMap<String, usize>,
    /// What its writer noted: keys and values as text.
    pub metadata: BTreeMap<String, String>,
    /// Of a LoRA, its ranks and for how many modules each; empty for other files.
    pub lora_ranks: BTreeMap<usize, usize>,
}

impl CheckpointSummary {
    /// Reads the header of the safetensors or GGUF file at `path`, told apart by the content.
    ///
    /// # Errors
    /// When the file cannot be read, is neither or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is read-only; a file that another process truncates meanwhile is outside
        // what any reader of model files can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        if map.starts_with(b"GGUF") {
            return Self::gguf(path, file);
        }
        Self::safetensors(path, &map)
    }

    fn empty(format: &'static str) -> Self {
        Self {
            format,
            tensors: 0,
            parameters: 0,
            dtypes: BTreeMap::new(),
            metadata: BTreeMap::new(),
            lora_ranks: BTreeMap::new(),
        }
    }

    fn add(&mut self, name: &str, dtype: String, shape: &[usize]) {
        self.tensors += 1;
        self.parameters += shape.iter().map(|&side| side as u64).product::<u64>();
        *self.dtypes.entry(dtype).or_default() += 1;
        let down = [".lora_A.", ".lora_down.", "lora_A.weight", "lora_down.weight"];
        if let (true, Some(&rank)) = (down.iter().any(|part| name.contains(part)), shape.first()) {
            *self.lora_ranks.entry(rank).or_default() += 1;
        }
    }

    fn safetensors(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
            Error::model(path.display(), format!("is no safetensors or GGUF file ({e})"))
        })?;
        let mut summary = Self::empty("safetensors");
        for (name, info) in header.tensors() {
            summary.add(&name, format!("{:?}", info.dtype).to_lowercase(), &info.shape);
        }
        let metadata = header.metadata().iter().flatten();
        summary.metadata = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(summary)
    }

    fn gguf(path: &Path, file: File) -> Result<Self> {
        let content = gguf_file::Content::read(&mut BufReader::new(file))
            .map_err(|e| Error::model(path.display(), format!("is a damaged GGUF file: {e}")))?;
        let mut summary = Self::empty("gguf");
        for (name, info) in &content.tensor_infos {
            summary.add(name, format!("{:?}", info.ggml_dtype).to_lowercase(), info.shape.dims());
        }
        let texts = content.metadata.iter().filter_map(|(key, value)| match value {
            gguf_file::Value::Array(_) => None,
            gguf_file::Value::String(text) => Some((key.clone(), text.clone())),
            other => Some((key.clone(), gguf_number(other))),
        });
        summary.metadata = texts.collect();
        Ok(summary)
    }
}

/// `U32(3)` as `3`.
fn gguf_number(value: &gguf_file::Value) -> String {
    let text = format!("{value:?}");
    text.split_once('(').map_or(text.clone(), |(_, rest)| rest.trim_end_matches(')').to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn a_lora_is_summed_up_by_rank_and_metadata() {
        let zeros =
            |shape: (usize, usize)| Tensor::zeros(shape, DType::BF16, &Device::Cpu).unwrap();
        let tensors = HashMap::from([
            ("transformer.a.lora_A.weight".to_owned(), zeros((4, 6))),
            ("transformer.a.lora_B.weight".to_owned(), zeros((8, 4))),
        ]);
        let metadata = HashMap::from([("trigger".to_owned(), "TOK".to_owned())]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        safetensors::serialize_to_file(&tensors, Some(metadata), &path).unwrap();
        let summary = CheckpointSummary::read(&path).unwrap();
        assert_eq!((summary.tensors, summary.parameters), (2, 24 + 32));
        assert_eq!(summary.dtypes, BTreeMap::from([("bf16".to_owned(), 2)]));
        assert_eq!(summary.lora_ranks, BTreeMap::from([(4, 1)]));
        assert_eq!(summary.metadata["trigger"], "TOK");
    }

    #[test]
    fn a_gguf_is_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let tensor = Tensor::zeros((2, 32), DType::F32, &Device::Cpu).unwrap();
        let quantized = candle_core::quantized::QTensor::quantize(
            &tensor,
            candle_core::quantized::GgmlDType::Q8_0,
        );
        let name = gguf_file::Value::String("flux".into());
        let metadata = [("general.architecture", &name), ("n", &gguf_file::Value::U32(3))];
        let mut file = File::create(&path).unwrap();
        gguf_file::write(&mut file, &metadata, &[("x", &quantized.unwrap())]).unwrap();
        let summary = CheckpointSummary::read(&path).unwrap();
        assert_eq!((summary.format, summary.tensors, summary.parameters), ("gguf", 1, 64));
        assert_eq!(summary.metadata["general.architecture"], "flux");
        assert_eq!(summary.metadata["n"], "3");
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [b"hello".as_slice(), b"", b"GGUF", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff"] {
            let path = folder.path().join("odd.bin");
            std::fs::write(&path, bytes).unwrap();
            let error = CheckpointSummary::read(&path).unwrap_err().to_string();
            assert!(error.contains("odd.bin"), "{error}");
        }
    }
}
