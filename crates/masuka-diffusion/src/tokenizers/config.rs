//! What surrounds a vocabulary: special tokens and the longest prompt, from `tokenizer_config.json` and the older
//! `special_tokens_map.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tokenizers::AddedToken;

use crate::error::Result;
use crate::files::read_json;

/// Lengths above this mean "not known"; transformers writes 10³⁰.
const LONGEST_KNOWN: f64 = 1e6;

/// The parts of `tokenizer_config.json` that change ids.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenizerConfig {
    model_max_length: Option<f64>,
    #[serde(flatten)]
    named: NamedTokens,
    #[serde(alias = "extra_special_tokens")]
    additional_special_tokens: Option<ExtraTokens>,
    added_tokens_decoder: Option<BTreeMap<u32, TokenEntry>>,
    /// T5's sentinels `<extra_id_0>`, ….
    pub extra_ids: Option<usize>,
}

/// The tokens with a role.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct NamedTokens {
    bos_token: Option<TokenEntry>,
    eos_token: Option<TokenEntry>,
    unk_token: Option<TokenEntry>,
    pad_token: Option<TokenEntry>,
}

impl NamedTokens {
    /// These, and those of `others` where these say nothing.
    fn or(self, others: Self) -> Self {
        Self {
            bos_token: self.bos_token.or(others.bos_token),
            eos_token: self.eos_token.or(others.eos_token),
            unk_token: self.unk_token.or(others.unk_token),
            pad_token: self.pad_token.or(others.pad_token),
        }
    }
}

/// More special tokens, in a list or by names of their own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ExtraTokens {
    List(Vec<TokenEntry>),
    Named(BTreeMap<String, TokenEntry>),
}

/// A token, alone or with the rules by which it is found in a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenEntry {
    Text(String),
    Rules {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        special: Option<bool>,
    },
}

impl TokenEntry {
    fn text(&self) -> &str {
        match self {
            Self::Text(content) | Self::Rules { content, .. } => content,
        }
    }

    fn added(&self) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, true),
            Self::Rules { content, single_word, lstrip, rstrip, normalized, special } => {
                let special = special.unwrap_or(true);
                AddedToken::from(content, special)
                    .single_word(*single_word)
                    .lstrip(*lstrip)
                    .rstrip(*rstrip)
                    .normalized(normalized.unwrap_or(!special))
            }
        }
    }
}

impl TokenizerConfig {
    /// Reads what `folder` has of these files. `listed` are the added tokens of its `tokenizer.json`, which count
    /// where `tokenizer_config.json` lists none.
    pub(super) fn read(folder: &Path, listed: Vec<TokenEntry>) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        let mut config: Self = if path.exists() {
            read_json(&path, "a tokenizer configuration")?
        } else {
            Self::default()
        };
        if config.added_tokens_decoder.is_none() {
            let path = folder.join("special_tokens_map.json");
            if path.exists() {
                let map: NamedTokens = read_json(&path, "a map of special tokens")?;
                config.named = map.or(config.named);
            }
            config.added_tokens_decoder = Some((0..).zip(listed).collect());
        }
        Ok(config)
    }

    /// The length to pad to, or `fallback` where the file says nothing sensible.
    pub(super) fn max_length(&self, fallback: usize) -> usize {
        match self.model_max_length {
            Some(length) if (2.0..LONGEST_KNOWN).contains(&length) => length as usize,
            _ => fallback,
        }
    }

    /// The start token, or `default`.
    pub(super) fn bos(&self, default: &str) -> String {
        text_or(&self.named.bos_token, default)
    }

    /// The end token, or `default`.
    pub(super) fn eos(&self, default: &str) -> String {
        text_or(&self.named.eos_token, default)
    }

    /// The token for what the vocabulary lacks, or `default`.
    pub(super) fn unk(&self, default: &str) -> String {
        text_or(&self.named.unk_token, default)
    }

    /// The token that fills up a prompt, or `default`.
    pub(super) fn pad(&self, default: &str) -> String {
        text_or(&self.named.pad_token, default)
    }

    /// The tokens that are found in a text before it is split, in the order in which missing ones get new ids:
    /// those of the files, then `roles` as special tokens.
    pub(super) fn added_tokens(&self, roles: &[String]) -> Vec<AddedToken> {
        let named = &self.named;
        let named = [&named.bos_token, &named.eos_token, &named.unk_token, &named.pad_token];
        let extra: Vec<&TokenEntry> = match &self.additional_special_tokens {
            Some(ExtraTokens::List(tokens)) => tokens.iter().collect(),
            Some(ExtraTokens::Named(tokens)) => tokens.values().collect(),
            None => Vec::new(),
        };
        let listed = self.added_tokens_decoder.iter().flat_map(BTreeMap::values);
        let mut tokens: Vec<AddedToken> = Vec::new();
        let entries = listed.chain(named.into_iter().flatten()).chain(extra);
        let roles = roles.iter().map(|role| AddedToken::from(role, true));
        for token in entries.map(TokenEntry::added).chain(roles) {
            if tokens.iter().all(|known| known.content != token.content) {
                tokens.push(token);
            }
        }
        tokens
    }
}

fn text_or(token: &Option<TokenEntry>, default: &str) -> String {
    token.as_ref().map_or(default, TokenEntry::text).to_owned()
}
