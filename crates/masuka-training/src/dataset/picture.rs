//! A picture file as pixels: turned upright by its EXIF orientation, transparency laid on white, cut to a bucket.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{Device, Tensor};
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::Bucket;
use crate::error::Result;

/// The longest side that is accepted, in pixels.
const MAX_SIDE: u32 = 16_384;
/// The largest area: what a small file may unpack to stays below 1 GiB, even with 8 bytes a pixel.
const MAX_PIXELS: u64 = 1 << 27;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels(RgbImage);

/// A picture with what is known of its file.
pub(super) struct Decoded {
    /// Upright and opaque.
    pub(super) pixels: RgbImage,
    pub(super) format: ImageFormat,
    /// Whether the file itself is upright and opaque.
    pub(super) as_in_file: bool,
}

/// Decodes the file at `path`, whose content counts and not its name.
///
/// # Errors
/// Why it cannot be used, as a verb phrase.
pub(super) fn decode(path: &Path) -> Result<Decoded, String> {
    let mut file = File::open(path).map_err(|e| format!("cannot be opened: {e}"))?;
    let mut start = [0; 1];
    if file.read(&mut start).map_err(|e| format!("cannot be read: {e}"))? == 0 {
        return Err("is empty".to_owned());
    }
    file.seek(SeekFrom::Start(0)).map_err(|e| format!("cannot be read: {e}"))?;
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|e| format!("cannot be read: {e}"))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    let damaged = |e: image::ImageError| format!("is no picture that can be decoded: {e}");
    let format = reader.format().ok_or("is no picture that can be decoded: unknown format")?;
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS >> 20;
        return Err(format!("has {width}×{height} pixels, more than {limit} Mi; scale it down"));
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    let as_in_file = orientation == Orientation::NoTransforms && !image.color().has_alpha();
    Ok(Decoded { pixels: on_white(image), format, as_in_file })
}

impl Pixels {
    /// Decodes the file at `path`, whose content counts and not its name.
    ///
    /// # Errors
    /// Why it cannot be used, as a verb phrase.
    pub fn open(path: &Path) -> Result<Self, String> {
        Ok(Self(decode(path)?.pixels))
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.0.width() as usize
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.0.height() as usize
    }

    /// The picture scaled to cover `bucket`, its middle cut out, as (1, 3, y, x) in −1…1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn fit(&self, bucket: Bucket, device: &Device) -> Result<Tensor> {
        let (width, height) = (bucket.width as u32, bucket.height as u32);
        let scale = f64::max(
            f64::from(width) / f64::from(self.0.width()),
            f64::from(height) / f64::from(self.0.height()),
        );
        let covering = |side: u32, least: u32| {
            let scaled = (f64::from(side) * scale).round() as u32;
            scaled.max(least)
        };
        let (wide, high) = (covering(self.0.width(), width), covering(self.0.height(), height));
        let scaled = if (wide, high) == self.0.dimensions() {
            self.0.clone()
        } else {
            imageops::resize(&self.0, wide, high, FilterType::Lanczos3)
        };
        let (left, top) = ((wide - width) / 2, (high - height) / 2);
        let middle = imageops::crop_imm(&scaled, left, top, width, height).to_image();
        let values: Vec<f32> =
            middle.into_raw().iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
        let pixels = Tensor::from_vec(values, (bucket.height, bucket.width, 3), device)?;
        Ok(pixels.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)?) // (1, 3, y, x)
    }
}

/// The picture without transparency.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (from, to) in rgba.pixels().zip(rgb.pixels_mut()) {
        let [r, g, b, alpha] = from.0.map(u32::from);
        to.0 = [r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("it is written");
        file
    }

    #[test]
    fn transparency_is_laid_on_white() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut image = RgbaImage::from_pixel(2, 1, Rgba([0, 0, 0, 0]));
        image.put_pixel(1, 0, Rgba([100, 0, 200, 128]));
        image.save_with_format(file.path(), ImageFormat::Png).expect("a picture");
        let pixels = Pixels::open(file.path()).expect("it opens");
        assert_eq!(pixels.0.into_raw(), [255, 255, 255, 177, 127, 227]);
    }

    #[test]
    fn a_photograph_is_turned_upright() {
        // A JPEG of 16×8 pixels, white left and black right, whose EXIF says: turn clockwise.
        let image = RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 255 } else { 0 }; 3]));
        let mut jpeg = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100);
        image.write_with_encoder(encoder).expect("a JPEG");
        let exif = *b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        drop(jpeg.splice(2..2, exif));
        let pixels = Pixels::open(write(&jpeg).path()).expect("it opens");
        assert_eq!((pixels.width(), pixels.height()), (8, 16));
        assert!(pixels.0.get_pixel(4, 1).0[0] > 200 && pixels.0.get_pixel(4, 14).0[0] < 50);
    }

    #[test]
    fn the_middle_of_a_covering_picture_is_cut_out() {
        let image = RgbImage::from_fn(64, 32, |x, _| image::Rgb([(x / 32 * 255) as u8; 3]));
        let bucket = Bucket { width: 32, height: 32 };
        let fitted = Pixels(image).fit(bucket, &Device::Cpu).expect("pixels");
        assert_eq!(fitted.dims(), [1, 3, 32, 32]);
        let row = fitted.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers");
        assert_eq!((row[0], row[15], row[16], row[31]), (-1.0, -1.0, 1.0, 1.0));
    }

    #[test]
    fn what_is_no_picture_says_why() {
        let check = |bytes: &[u8], expected: &str| {
            let reason = Pixels::open(write(bytes).path()).expect_err("a refusal");
            assert!(reason.contains(expected), "{reason}");
        };
        check(b"", "is empty");
        check(b"hello", "is no picture that can be decoded");
        check(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no picture that can be decoded");
        // A header that promises 16,000×16,000 pixels, and no pixel.
        let bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x3e\x80\0\0\x3e\x80\x08\x02\0\0\0\xce\x1c\x48\x89\0\0\0\0IDAT....";
        check(bomb, "has 16000×16000 pixels, more than 128 Mi; scale it down");
    }
}
