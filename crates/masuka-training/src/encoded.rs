//! Pictures and captions as the denoiser sees them, kept on disk: the encoders work once, before the first step, and
//! are dropped. A file's name is the hash of all that it depends on, so that nothing stale is ever read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::pipelines::flux::FluxPipeline;
use sha2::{Digest, Sha256};

use crate::dataset::{Bucket, CaptionedPicture, Pixels};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::observer::{Engine, Preparation, TrainingObserver};

/// A picture and a caption in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPicture {
    /// The picture's size.
    pub bucket: Bucket,
    /// For messages.
    pub name: String,
    latents: PathBuf,
    caption: PathBuf,
}

impl EncodedPicture {
    /// Says which picture and caption were encoded by which model.
    pub(crate) fn key(&self) -> String {
        let name = crate::dataset::file_name;
        format!("{}\n{}\n", name(&self.latents), name(&self.caption))
    }

    /// The packed latents (1, l, c) in f32.
    ///
    /// # Errors
    /// When the cache was damaged.
    pub fn latents(&self, device: &Device) -> Result<Tensor> {
        read(&self.latents, device)?.take("latents")
    }

    /// What the denoiser is told.
    ///
    /// # Errors
    /// When the cache was damaged.
    pub fn conditioning(&self, device: &Device) -> Result<Conditioning> {
        read_conditioning(&self.caption, device)
    }
}

/// The cache and the encoders that fill it.
pub struct Encoder<'a> {
    /// The cache's folder.
    pub folder: &'a Path,
    /// Says which model it is, with all that its encoders depend on.
    pub model: &'a str,
    /// The encoders.
    pub pipeline: &'a mut FluxPipeline,
    /// The device of the encoders.
    pub device: &'a Device,
    /// Sees the progress.
    pub observer: &'a dyn TrainingObserver,
}

impl Encoder<'_> {
    /// Encodes what is not in the cache yet.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the observer stops.
    pub fn encode(
        &mut self,
        pictures: &[(CaptionedPicture, Bucket)],
    ) -> Result<Vec<EncodedPicture>> {
        let total = pictures.len();
        let mut encoded = Vec::with_capacity(total);
        for (index, (picture, bucket)) in pictures.iter().enumerate() {
            encoded.push(EncodedPicture {
                bucket: *bucket,
                name: picture.name.clone(),
                latents: self.picture(&picture.path, *bucket)?,
                caption: self.caption(&picture.caption)?,
            });
            self.observer.preparing(Preparation::Encode, index + 1, total);
        }
        Ok(encoded)
    }

    /// The cache's file of a caption.
    ///
    /// # Errors
    /// When it cannot be encoded or written.
    pub fn caption(&mut self, caption: &str) -> Result<PathBuf> {
        let path = self.path("caption", &[caption.as_bytes()]);
        if !path.exists() {
            let observer = Engine(self.observer);
            let told = self.pipeline.conditioning(caption, &observer)?;
            write(&path, [("txt", told.txt), ("pooled", told.pooled)])?;
        }
        Ok(path)
    }

    fn picture(&mut self, file: &Path, bucket: Bucket) -> Result<PathBuf> {
        let bytes = std::fs::read(file).map_err(|e| Error::io(file, e))?;
        let size = format!("{}x{}", bucket.width, bucket.height);
        let path = self.path("latents", &[size.as_bytes(), &bytes]);
        if !path.exists() {
            let pixels = Pixels::open(file).map_err(|reason| Error::unusable(file, reason))?;
            let pixels = pixels.fit(bucket, self.device)?;
            let latents = self.pipeline.encode_picture(&pixels, &Engine(self.observer))?;
            write(&path, [("latents", latents)])?;
        }
        Ok(path)
    }

    fn path(&self, kind: &str, parts: &[&[u8]]) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [self.model.as_bytes(), kind.as_bytes()].iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
        self.folder.join(format!("{kind}-{digest}.safetensors"))
    }
}

/// What [`Encoder::caption`] wrote.
///
/// # Errors
/// When the cache was damaged.
pub fn read_conditioning(path: &Path, device: &Device) -> Result<Conditioning> {
    let mut tensors = read(path, device)?;
    Ok(Conditioning { txt: tensors.take("txt")?, pooled: tensors.take("pooled")? })
}

/// The tensors of a cache file.
struct CacheFile<'a> {
    path: &'a Path,
    tensors: HashMap<String, Tensor>,
}

impl CacheFile<'_> {
    fn take(&mut self, name: &str) -> Result<Tensor> {
        self.tensors.remove(name).ok_or_else(|| damaged(self.path))
    }
}

fn read<'a>(path: &'a Path, device: &Device) -> Result<CacheFile<'a>> {
    let tensors = candle_core::safetensors::load(path, device).map_err(|_| damaged(path))?;
    Ok(CacheFile { path, tensors })
}

fn damaged(path: &Path) -> Error {
    Error::unusable(path, "of the cache is damaged; delete it, it will be made again")
}

fn write<const N: usize>(path: &Path, tensors: [(&str, Tensor); N]) -> Result<()> {
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        Ok((name, tensor.contiguous()?))
    });
    let tensors = tensors.collect::<candle_core::Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors, None);
    write_atomically(path, &bytes.map_err(candle_core::Error::wrap)?)
}
