//! Pixels and parameters to PNG and back. Two text chunks say how the picture was made: `parameters` for the tools
//! of the AUTOMATIC1111 family and `masuka`, JSON, which holds everything and is what we read ourselves.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::RgbImage;

use super::parameters::Parameters;
use super::{infotext, text_chunks};
use crate::error::{Error, Result};

/// The keyword that A1111, Forge and others read.
const INFOTEXT: &str = "parameters";
/// The keyword of our own JSON.
const JSON: &str = "masuka";

/// What a PNG file tells without being decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct PngFacts {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// How it was made, if it says.
    pub parameters: Option<Parameters>,
}

/// `image` as a PNG file that tells how it was made.
///
/// # Errors
/// When the picture is empty or the parameters are too long for PNG.
pub fn encode_png(image: &RgbImage, parameters: &Parameters) -> Result<Vec<u8>> {
    let json = serde_json::to_string(parameters).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    add_text(&mut encoder, INFOTEXT, &infotext::write(parameters)).map_err(|e| failed(&e))?;
    add_text(&mut encoder, JSON, &json).map_err(|e| failed(&e))?;
    let mut writer = encoder.write_header().map_err(|e| failed(&e))?;
    writer.write_image_data(image.as_raw()).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))?;
    Ok(bytes)
}

/// Latin-1 goes into tEXt, which every reader knows; other scripts need iTXt.
fn add_text(
    encoder: &mut ::png::Encoder<'_, &mut Vec<u8>>,
    keyword: &str,
    text: &str,
) -> Result<(), ::png::EncodingError> {
    let text = text.replace('\0', ""); // ends the text in every text chunk
    if text.chars().all(|c| u32::from(c) < 256) {
        return encoder.add_text_chunk(keyword.to_owned(), text);
    }
    encoder.add_itxt_chunk(keyword.to_owned(), text)
}

/// Reads the size and the parameters of the PNG file at `path`, from our JSON or else from the text of A1111.
///
/// # Errors
/// When the file cannot be read, is no PNG or is damaged; without parameters it is none of these.
pub fn read_png(path: &Path) -> Result<PngFacts> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let found = text_chunks::read(&mut BufReader::new(file), &[JSON, INFOTEXT])
        .map_err(|message| Error::picture(path.display(), message))?;
    let text = |key| found.texts.iter().find(|(keyword, _)| keyword == key).map(|(_, text)| text);
    let ours = text(JSON).and_then(|json| serde_json::from_str(json).ok());
    let parameters = ours.or_else(|| text(INFOTEXT).map(|text| infotext::parse(text)));
    Ok(PngFacts { width: found.width, height: found.height, parameters })
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::picture("new picture", format!("cannot be written as PNG: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::pictures::LoraUse;

    fn parameters(prompt: &str) -> Parameters {
        Parameters {
            prompt: prompt.into(),
            negative: Some("Negative prompt: \"x\"\n".into()),
            true_cfg: Some(1.0),
            seed: Some((1 << 53) - 1),
            steps: Some(20),
            sampler: Some("heun".into()),
            guidance: Some(3.5),
            width: Some(3),
            height: Some(2),
            model: Some("starter".into()),
            dtype: Some("f32".into()),
            loras: vec![LoraUse {
                file: "ä.safetensors".into(),
                weight: 0.8,
                ..LoraUse::default()
            }],
            version: Some("masuka 0.1.0".into()),
        }
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8 * 80, y as u8 * 90, 7]))
    }

    fn read_back(bytes: &[u8]) -> Result<PngFacts> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, bytes).unwrap();
        read_png(&path)
    }

    /// The text chunk `kind` around `data`, with its checksum.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, &kind[..], data, &crc.sum().to_be_bytes()].concat()
    }

    /// A PNG with `extra` right behind its header.
    fn with_chunk(extra: &[u8]) -> Vec<u8> {
        let mut plain = Cursor::new(Vec::new());
        picture().write_to(&mut plain, image::ImageFormat::Png).unwrap();
        let plain = plain.into_inner();
        [&plain[..33], extra, &plain[33..]].concat()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_prompt_comes_back_unchanged_and_so_do_the_pixels() {
        let long = "word ".repeat(800);
        let prompts = [
            "red apple, noto style",
            "",
            "two\nlines\n\nNegative prompt: not one\nSteps: 1, Seed: 2, Size: 3x4",
            "\"quotes\" and \\backslashes\\ and 'more'",
            "Äpfel für naïve Gäste",
            "苹果 яблоко 🍎👩‍🚀 ‏עברית",
            "tab\there, \u{1}control\u{7f}, \u{85}",
            " spaces around ",
            &long,
        ];
        for prompt in prompts {
            let bytes = encode_png(&picture(), &parameters(prompt)).unwrap();
            let facts = read_back(&bytes).unwrap();
            assert_eq!(facts.parameters, Some(parameters(prompt)), "{prompt}");
            assert_eq!((facts.width, facts.height), (3, 2));
            assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), picture());
        }
    }

    #[test]
    fn other_readers_find_the_text_of_a1111() {
        for prompt in ["red apple", "苹果"] {
            let bytes = encode_png(&picture(), &parameters(prompt)).unwrap();
            let reader = ::png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
            let info = reader.info();
            let latin = info.uncompressed_latin1_text.iter().map(|t| (&t.keyword, t.text.clone()));
            let utf8 = info.utf8_text.iter().map(|t| (&t.keyword, t.get_text().unwrap()));
            let text = latin.chain(utf8).find(|(keyword, _)| *keyword == "parameters").unwrap().1;
            assert!(text.starts_with(&format!("{prompt} <lora:ä:0.8>\n")), "{text}");
        }
    }

    #[test]
    fn texts_of_other_tools_are_read_in_every_kind_of_chunk() {
        let text = b"caf\xe9\nSteps: 5, Sampler: Euler, Seed: 9";
        let packed = [b"parameters\0\0".as_slice(), &zlib(text)].concat();
        let utf8 = "café\nSteps: 5, Sampler: Euler, Seed: 9".as_bytes();
        let packed_utf8 = [b"parameters\0\x01\0en\0Angaben\0".as_slice(), &zlib(utf8)].concat();
        for extra in [
            chunk(b"tEXt", &[b"parameters\0".as_slice(), text].concat()),
            chunk(b"zTXt", &packed),
            chunk(b"iTXt", &[b"parameters\0\0\0\0\0".as_slice(), utf8].concat()),
            chunk(b"iTXt", &packed_utf8),
        ] {
            let read = read_back(&with_chunk(&extra)).unwrap().parameters.unwrap();
            assert_eq!((read.prompt.as_str(), read.steps, read.seed), ("café", Some(5), Some(9)));
        }
    }

    #[test]
    fn a_picture_without_parameters_is_no_error() {
        assert_eq!(read_back(&with_chunk(&[])).unwrap().parameters, None);
        let foreign = chunk(b"tEXt", b"Software\0paint");
        assert_eq!(read_back(&with_chunk(&foreign)).unwrap().parameters, None);
    }

    #[test]
    fn broken_json_falls_back_to_the_text() {
        let text = chunk(b"tEXt", b"parameters\0cat\nSteps: 5, Sampler: Euler, Seed: 9");
        let both = [chunk(b"tEXt", b"masuka\0{\"prompt\": 3"), text].concat();
        assert_eq!(read_back(&with_chunk(&both)).unwrap().parameters.unwrap().prompt, "cat");
    }

    #[test]
    fn a_text_that_unpacks_to_gigabytes_is_refused() {
        let bomb = [b"parameters\0\0".as_slice(), &zlib(&vec![b'a'; 64 << 20])].concat();
        assert!(bomb.len() < 1 << 20);
        let error = read_back(&with_chunk(&chunk(b"zTXt", &bomb))).unwrap_err().to_string();
        assert!(error.ends_with("holds a text of more than 4 MiB"), "{error}");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let good = encode_png(&picture(), &parameters("苹果")).unwrap();
        for end in 0..good.len() - 12 {
            assert!(read_back(&good[..end]).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            for bit in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                let _ = read_back(&bad);
            }
        }
        let error = read_back(b"GIF89a").unwrap_err().to_string();
        assert!(error.ends_with("a.png` is not a PNG file"), "{error}");
        let endless = [&good[..33], &[0xff; 8]].concat();
        assert!(read_back(&endless).is_err());
    }
}
