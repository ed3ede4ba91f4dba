//! Prompts to token ids, as transformers makes them: its classes fix everything but the vocabulary, so normalisation
//! and splitting are written here and not read from `tokenizer.json`.

mod config; // special tokens and lengths, from `tokenizer_config.json`
mod clip; // byte-level BPE
mod t5; // SentencePiece unigram
mod spiece; // SentencePiece's own file

use std::path::Path;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// A tokenizer that pads prompts to one length.
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
    pad_id: u32,
    model_max_length: usize,
}

/// A prompt as a text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// The ids, padded to the length that was asked for.
    pub ids: Vec<u32>,
    /// How many of them are not padding, start and end token included.
    pub used: usize,
    /// How many tokens did not fit.
    pub cut_tokens: usize,
    /// What did not fit, in the prompt's own words; `None` when everything did.
    pub cut: Option<String>,
}

impl PromptTokenizer {
    /// CLIP's, from a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// When files are missing, damaged or contradict each other.
    pub fn clip(folder: &Path) -> Result<Self> {
        clip::load(folder)
    }

    /// T5's, from a folder with `tokenizer.json` or `spiece.model`.
    ///
    /// # Errors
    /// When files are missing, damaged or contradict each other.
    pub fn t5(folder: &Path) -> Result<Self> {
        t5::load(folder)
    }

    /// The most tokens that the text encoder was trained with.
    pub fn model_max_length(&self) -> usize {
        self.model_max_length
    }

    /// Exactly `max_length` ids of `text`. A longer prompt loses its end, but not its end token.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<TokenizedPrompt> {
        let encoding = self.tokenizer.encode(text, true).map_err(|e| {
            Error::invalid("prompt", format!("`{text}`"), format!("cannot be tokenized ({e})"))
        })?;
        let mut ids = encoding.get_ids().to_vec();
        let cut_tokens = ids.len().saturating_sub(max_length);
        let mut cut = None;
        if let (1.., Some(kept), Some(end)) = (cut_tokens, max_length.checked_sub(1), ids.last()) {
            let end = *end;
            let (start, _) = encoding.get_offsets()[kept];
            cut = text.get(start..).map(str::to_owned);
            ids[kept] = end;
        }
        ids.truncate(max_length);
        let used = ids.len();
        ids.resize(max_length, self.pad_id);
        Ok(TokenizedPrompt { ids, used, cut_tokens, cut })
    }
}

/// The id of the special token `name` = `token`, which `file` must know.
fn special_id(tokenizer: &Tokenizer, name: &str, token: &str, file: &Path) -> Result<u32> {
    tokenizer.token_to_id(token).ok_or_else(|| {
        let message = format!(
            "lacks the {name} `{token}` that `tokenizer_config.json` names; \
             do both belong to the same tokenizer?"
        );
        Error::model(file.display(), message)
    })
}

/// An error of the tokenizer library about `file`.
fn damaged(file: &Path, reason: impl std::fmt::Display) -> Error {
    Error::model(file.display(), format!("holds no usable tokenizer: {reason}; copy it again"))
}
