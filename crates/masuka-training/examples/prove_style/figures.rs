//! What is measured, as it is printed and kept.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

/// All figures of one run; counts are of `pictures`.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub pictures: usize,
    /// Pictures on a white ground at weight 0.
    pub white_at_zero: usize,
    pub adapters: Vec<AdapterFigures>,
}

/// The figures of one adapter.
#[derive(Debug, Serialize)]
pub struct AdapterFigures {
    pub adapter: String,
    /// The held-out loss of the model alone.
    pub loss_before: f64,
    /// The held-out loss with the adapter.
    pub loss_after: f64,
    /// Pictures at weight 1 whose ground is that of their original.
    pub in_style: usize,
    /// Pictures at weight 1 that resemble their own original more than any other.
    pub nearest_to_own: usize,
    /// Pictures without the style's words on a white ground.
    pub white_without_words: usize,
}

/// What PyTorch + PEFT reached with a recipe of its own, `peft.json` beside the pictures.
#[derive(Debug, Deserialize)]
pub struct Reference {
    recipe: String,
    loss_before: f64,
    loss_after: f64,
    in_style: usize,
    white_without_words: usize,
}

/// The part of the reference's fall of the loss that is asked for.
const FALL: f64 = 0.8;
/// Pictures that may miss the style.
const MISSES: usize = 1;

impl Reference {
    /// The reference of `dataset`, if there is one.
    pub fn open(dataset: &Path) -> Result<Option<Self>> {
        let file = dataset.join("peft.json");
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&std::fs::read(file)?)?))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.recipe)?;
        writeln!(f, "  held-out loss {:.3} → {:.3}", self.loss_before, self.loss_after)?;
        writeln!(f, "  in style at weight 1: {}", self.in_style)?;
        writeln!(f, "  white without the style's words: {}", self.white_without_words)
    }
}

impl Figures {
    /// What the first adapter falls short of.
    ///
    /// # Errors
    /// Naming the first figure that is too low.
    pub fn check(&self, reference: Option<&Reference>) -> Result<()> {
        let first = self.adapters.first().ok_or("no adapter was named")?;
        if first.in_style + MISSES < self.pictures {
            return Err(format!("only {} of {} are in style", first.in_style, self.pictures).into());
        }
        if self.white_at_zero < self.pictures {
            return Err(format!("at weight 0 only {} are white", self.white_at_zero).into());
        }
        let Some(reference) = reference else { return Ok(()) };
        let fall = first.loss_before - first.loss_after;
        let least = FALL * (reference.loss_before - reference.loss_after);
        if fall < least {
            return Err(format!("the loss falls by {fall:.2}, not by {least:.2}").into());
        }
        Ok(())
    }

    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.pictures;
        for of in &self.adapters {
            writeln!(f, "{}", of.adapter)?;
            writeln!(f, "  held-out loss {:.3} → {:.3}", of.loss_before, of.loss_after)?;
            writeln!(f, "  in style at weight 1: {} of {all}", of.in_style)?;
            writeln!(f, "  nearest to their own original: {} of {all}", of.nearest_to_own)?;
            writeln!(f, "  white without the style's words: {} of {all}", of.white_without_words)?;
        }
        writeln!(f, "white at weight 0: {} of {all}", self.white_at_zero)
    }
}
