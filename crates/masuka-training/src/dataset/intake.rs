//! A picture that somebody hands in: looked at once, with the eyes of the training, so that what is taken here can be
//! trained on later.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage, imageops};
use sha2::{Digest, Sha256};

use super::picture::{Decoded, decode};

/// The longer side of a thumbnail, in pixels.
const THUMBNAIL_SIDE: u32 = 384;
const THUMBNAIL_QUALITY: u8 = 82;

/// A picture that can be trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Pixels from left to right, upright.
    pub width: usize,
    /// Pixels from top to bottom, upright.
    pub height: usize,
    /// The same for pictures of equal pixels, whatever files they came in; SHA-256 in hexadecimal.
    pub pixel_hash: String,
    /// The usual ending of the file's format: `png`, `jpg` or `webp`.
    pub extension: &'static str,
    /// The picture as PNG, if it is not upright and opaque in its own file.
    pub upright: Option<Vec<u8>>,
    /// The picture in small, as JPEG.
    pub thumbnail: Vec<u8>,
}

/// Decodes the file at `path`, whose content counts and not its name.
///
/// # Errors
/// Why it cannot be used, as a verb phrase.
pub fn examine(path: &Path) -> Result<Examined, String> {
    let Decoded { pixels, format, as_in_file } = decode(path)?;
    let extension = match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpg",
        ImageFormat::WebP => "webp",
        other => return Err(format!("is {other:?}, not PNG, JPEG or WebP")),
    };
    let upright = (!as_in_file).then(|| png(&pixels)).transpose()?;
    Ok(Examined {
        width: pixels.width() as usize,
        height: pixels.height() as usize,
        pixel_hash: hash(&pixels),
        // What is written anew is PNG.
        extension: if as_in_file { extension } else { "png" },
        upright,
        thumbnail: thumbnail(&pixels)?,
    })
}

fn png(pixels: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = pixels.write_to(&mut bytes, ImageFormat::Png);
    written.map_err(|e| format!("cannot be written as PNG: {e}"))?;
    Ok(bytes.into_inner())
}

fn thumbnail(pixels: &RgbImage) -> Result<Vec<u8>, String> {
    let (width, height) = pixels.dimensions();
    let scale = f64::from(THUMBNAIL_SIDE) / f64::from(width.max(height).max(THUMBNAIL_SIDE));
    let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
    let small = imageops::thumbnail(pixels, side(width), side(height));
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL_QUALITY);
    small.write_with_encoder(encoder).map_err(|e| format!("has no thumbnail: {e}"))?;
    Ok(bytes)
}

fn hash(pixels: &RgbImage) -> String {
    let mut hash = Sha256::new();
    hash.update(pixels.width().to_le_bytes());
    hash.update(pixels.as_raw());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    fn examined(image: &image::DynamicImage, format: ImageFormat) -> Examined {
        let file = tempfile::NamedTempFile::new().expect("a file");
        image.save_with_format(file.path(), format).expect("a picture");
        examine(file.path()).expect("it can be used")
    }

    #[test]
    fn an_upright_opaque_picture_stays_in_its_own_file() {
        let image = RgbImage::from_fn(800, 400, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let of_png = examined(&image.clone().into(), ImageFormat::Png);
        assert_eq!((of_png.width, of_png.height, of_png.extension), (800, 400, "png"));
        assert_eq!(of_png.upright, None);
        let small = image::load_from_memory(&of_png.thumbnail).expect("a JPEG");
        assert_eq!((small.width(), small.height()), (384, 192));
        let of_webp = examined(&image.into(), ImageFormat::WebP);
        assert_eq!(of_webp.extension, "webp");
        assert_eq!(of_webp.pixel_hash, of_png.pixel_hash, "equal pixels in other files");
    }

    #[test]
    fn transparency_is_laid_on_white_and_written_anew() {
        let clear = RgbaImage::from_pixel(4, 4, Rgba([0, 0, 0, 0]));
        let examined = examined(&clear.into(), ImageFormat::WebP);
        assert_eq!(examined.extension, "png");
        let png = image::load_from_memory(&examined.upright.expect("a PNG")).expect("a picture");
        assert!(!png.color().has_alpha());
        assert_eq!(png.to_rgb8().get_pixel(0, 0).0, [255; 3]);
    }
}
