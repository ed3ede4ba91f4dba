//! Judges trained adapters of a style by objects that they have not seen; the second half of `just proof-style`.
//!
//! `prove_style DATASET TRIGGER SHEET ADAPTER…`: DATASET holds `held_out/`, pictures with captions such as
//! "green apple, TOK style". For each adapter it measures the denoising loss on them, draws their captions at weight 1,
//! and their captions without the trigger's words at weight 0.8; once, their captions at weight 0. It writes the contact
//! sheet SHEET, the figures beside it as JSON, and prints them. It fails when the first adapter misses the style, or when
//! its loss falls less than that of the reference in `DATASET/peft.json`.

mod drawing; // prompts become pictures
mod figures; // what is measured, as it is printed and kept
mod judging; // border colours, and which original a picture is nearest to
mod loss; // the denoising loss on the held-out pictures

use std::error::Error;
use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use masuka_training::dataset::Dataset;
use masuka_training::prior::without_trigger;

use drawing::Painter;
use figures::{AdapterFigures, Figures, Reference};
use judging::{Originals, WHITE};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The weight at which pictures without the style's words are drawn, as the reference's were.
const WITHOUT_WORDS: f64 = 0.8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dataset, trigger, sheet, adapters @ ..] = arguments.as_slice() else {
        return Err("usage: prove_style DATASET TRIGGER SHEET ADAPTER…".into());
    };
    let held_out = Dataset::open(&Path::new(dataset).join("held_out"), Some(trigger))?;
    let adapters: Vec<PathBuf> = adapters.iter().map(PathBuf::from).collect();
    let (figures, rows) = judge(&held_out, trigger, &adapters)?;
    save(&rows, Path::new(sheet))?;
    std::fs::write(Path::new(sheet).with_extension("json"), figures.to_json()?)?;
    print!("{figures}");
    let reference = Reference::open(Path::new(dataset))?;
    if let Some(reference) = &reference {
        print!("{reference}");
    }
    figures.check(reference.as_ref())
}

/// The figures of `adapters`, and the rows of the sheet from its top.
fn judge(
    held_out: &Dataset,
    trigger: &str,
    adapters: &[PathBuf],
) -> Result<(Figures, Vec<Vec<RgbImage>>)> {
    let originals = Originals::open(held_out)?;
    let styled: Vec<_> = held_out.pictures.iter().map(|p| p.caption.clone()).collect();
    let plain: Vec<_> = styled.iter().map(|c| without_trigger(c, Some(trigger))).collect();
    let mut painter = Painter::open()?;
    let (mut rows, mut of_adapters) = (Vec::new(), Vec::new());
    for file in adapters {
        let [loss_before, loss_after] = loss::with_and_without(&mut painter, held_out, file)?;
        let in_style = painter.draw(&styled, Some((file, 1.0)))?;
        let without_words = painter.draw(&plain, Some((file, WITHOUT_WORDS)))?;
        of_adapters.push(AdapterFigures {
            adapter: masuka_training::dataset::file_name(file),
            loss_before,
            loss_after,
            in_style: originals.near_own_ground(&in_style),
            nearest_to_own: originals.nearest_to_own(&in_style),
            white_without_words: judging::near(&without_words, WHITE),
        });
        rows.extend([in_style, without_words]);
    }
    let without_adapter = painter.draw(&styled, None)?;
    let pictures = held_out.pictures.len();
    let white_at_zero = judging::near(&without_adapter, WHITE);
    rows.extend([without_adapter, originals.into_pictures()]);
    Ok((Figures { pictures, white_at_zero, adapters: of_adapters }, rows))
}

fn save(rows: &[Vec<RgbImage>], path: &Path) -> Result<()> {
    let (width, height) = rows[0][0].dimensions();
    let mut sheet = RgbImage::new(width * rows[0].len() as u32, height * rows.len() as u32);
    for (row, pictures) in rows.iter().enumerate() {
        for (column, picture) in pictures.iter().enumerate() {
            let (x, y) = (i64::from(width) * column as i64, i64::from(height) * row as i64);
            imageops::replace(&mut sheet, picture, x, y);
        }
    }
    Ok(sheet.save(path)?)
}
