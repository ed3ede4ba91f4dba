//! One safetensors file: its header, checked, and its tensors, memory-mapped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::mapped_file::MappedFile;
use super::stored::{Encoding, StoredTensor};
use crate::error::{Error, Result};

/// What ComfyUI calls the scale of an fp8 weight `<layer>.weight`, older spelling first.
const SCALES: [&str; 2] = [".scale_weight", ".weight_scale"];
/// What else it writes beside such weights: the scale of activations, and how a layer was quantised.
const MARKS: [&str; 3] = [".scale_input", ".input_scale", ".comfy_quant"];
/// The tensor that says that a file is scaled fp8.
const SCALED_FP8: &str = "scaled_fp8";

/// A safetensors file whose header has been checked.
pub struct SafetensorsFile {
    file: MappedFile,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: HashMap<String, String>,
    data_start: usize,
}

impl SafetensorsFile {
    /// Maps `path` and checks its header: lengths, offsets, dtypes, and that no name comes twice.
    ///
    /// # Errors
    /// When the file cannot be opened or its header does not describe its bytes.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(MappedFile::open(path)?)
    }

    /// As [`open`](Self::open), of a file that is mapped already.
    ///
    /// # Errors
    /// When its header does not describe its bytes.
    pub fn read(file: MappedFile) -> Result<Self> {
        let refuse = |message: String| Error::model(file.path().display(), message);
        let bytes = file.bytes();
        let (header_bytes, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| refuse(complaint(&e, bytes)))?;
        if let Some(name) = repeated_name(&bytes[8..8 + header_bytes]) {
            return Err(refuse(format!("holds tensor `{name}` twice; copy it again")));
        }
        let tensors =
            header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { tensors, metadata, data_start: header_bytes + 8, file })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// An entry of the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    /// The dtype of `name`, if it is there and of a dtype that tensors can have.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        DType::try_from(self.tensors.get(name)?.dtype).ok()
    }

    /// Whether `name` only says how another tensor is to be read.
    pub fn is_scale(&self, name: &str) -> bool {
        let belongs_to_weight = |end: &&str| {
            let layer = name.strip_suffix(*end);
            layer.is_some_and(|layer| self.tensors.contains_key(&format!("{layer}.weight")))
        };
        let is_marker =
            name.strip_suffix(SCALED_FP8).is_some_and(|p| p.is_empty() || p.ends_with('.'));
        is_marker || SCALES.iter().chain(&MARKS).any(belongs_to_weight)
    }

    /// The tensor `name` as it lies in the file, if it is there.
    ///
    /// # Errors
    /// When its dtype is not supported or its scale is not one number.
    pub fn stored(&self, name: &str) -> Result<Option<StoredTensor<'_>>> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let (start, end) = info.data_offsets;
        Ok(Some(StoredTensor {
            file: &self.file,
            bytes: self.data_start + start..self.data_start + end,
            encoding: self.encoding(name, info.dtype)?,
            shape: info.shape.clone(),
        }))
    }

    /// Copies `name` out as `dtype` onto `device`.
    ///
    /// # Errors
    /// When it is not there or its dtype is not supported.
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(stored) = self.stored(name)? else {
            let file = self.path().display().to_string();
            return Err(Error::MissingTensor { tensor: name.to_owned(), file });
        };
        let rows = 0..stored.shape.first().copied().unwrap_or(1);
        stored.read(&[rows], &stored.shape, dtype, device)
    }

    fn encoding(&self, name: &str, dtype: Dtype) -> Result<Encoding> {
        Ok(match dtype {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            Dtype::F8_E4M3 => Encoding::F8E4m3 { scale: self.scale(name)? },
            Dtype::F8_E5M2 => Encoding::F8E5m2 { scale: self.scale(name)? },
            dtype => {
                let known = DType::try_from(dtype).map_err(|_| {
                    let message = format!(
                        "tensor `{name}` has dtype {dtype:?}, which is not supported; use a file in \
                         bf16, f16, f32, fp8 or GGUF"
                    );
                    Error::model(self.path().display(), message)
                })?;
                Encoding::Other(known)
            }
        })
    }

    /// What the numbers of the fp8 tensor `name` are multiplied by.
    fn scale(&self, name: &str) -> Result<f32> {
        let Some(layer) = name.strip_suffix(".weight") else { return Ok(1.0) };
        let mut names = SCALES.iter().map(|end| format!("{layer}{end}"));
        let Some(scale) = names.find(|scale| self.tensors.contains_key(scale)) else {
            return Ok(1.0);
        };
        let value = self.load(&scale, DType::F32, &Device::Cpu)?;
        match value.flatten_all()?.to_vec1::<f32>()?.as_slice() {
            [value] => Ok(*value),
            values => {
                let message = format!("`{scale}` must be one number, it has {}", values.len());
                Err(Error::model(self.path().display(), message))
            }
        }
    }
}

/// What is wrong with a file whose header cannot be read, for people.
fn complaint(error: &SafeTensorError, bytes: &[u8]) -> String {
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    match error {
        SafeTensorError::HeaderTooSmall => {
            format!("has {} bytes, too few for a safetensors file; copy it again", bytes.len())
        }
        SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge => format!(
            "is cut off or no safetensors file: its header would take {length} bytes, the file has {}; copy it again",
            bytes.len()
        ),
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "is cut off or padded: its header describes another length than its {} bytes; copy it again",
            bytes.len()
        ),
        error => format!("is no valid safetensors file ({error}); copy it again"),
    }
}

/// The first name that the header holds twice, which JSON allows and of which a map shows nothing.
fn repeated_name(header: &[u8]) -> Option<String> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut repeated) = (BTreeSet::new(), None);
            while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                if !seen.insert(name.clone()) {
                    repeated.get_or_insert(name);
                }
            }
            Ok(repeated)
        }
    }

    serde_json::Deserializer::from_slice(header).deserialize_map(Names).ok().flatten()
}
