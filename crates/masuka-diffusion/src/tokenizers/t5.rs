//! T5's unigram model (arXiv:1804.10959), as transformers' `T5Tokenizer` builds it: words start with `▁`, `</s>` ends
//! the prompt. Of a `tokenizer.json`'s normalisation only SentencePiece's own character map counts there, so here too.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::config::{TokenEntry, TokenizerConfig};
use super::{PromptTokenizer, damaged, special_id, spiece};
use crate::error::{Error, Result};
use crate::files::read_json;

/// The longest prompt FLUX models take, where the files do not say.
const MAX_LENGTH: usize = 512;

/// The place of the unknown token in every T5 vocabulary.
const UNK_ID: usize = 2;

/// Sentinels of T5's pre-training, `<extra_id_0>` and on.
const EXTRA_IDS: usize = 100;

/// The vocabulary and where it came from.
struct Vocabulary {
    file: PathBuf,
    /// Pieces with their log probabilities.
    pieces: Vec<(String, f64)>,
    characters: Option<Precompiled>,
    added_tokens: Vec<TokenEntry>,
    /// Whether the sentinels come on top of the pieces.
    lacks_extra_ids: bool,
}

/// The tokenizer of `folder`.
pub(super) fn load(folder: &Path) -> Result<PromptTokenizer> {
    let mut vocabulary = Vocabulary::read(folder)?;
    let file = vocabulary.file;
    let config = TokenizerConfig::read(folder, vocabulary.added_tokens)?;
    let sentinels = (0..config.extra_ids.unwrap_or(EXTRA_IDS)).map(|i| format!("<extra_id_{i}>"));
    let sentinels: Vec<String> = sentinels.collect();
    if vocabulary.lacks_extra_ids {
        vocabulary.pieces.extend(sentinels.iter().rev().map(|token| (token.clone(), 0.0)));
    }
    let model = Unigram::from(vocabulary.pieces, Some(UNK_ID), false);
    let mut tokenizer = Tokenizer::new(model.map_err(|e| damaged(&file, e))?);
    tokenizer.with_normalizer(vocabulary.characters).map_err(|e| damaged(&file, e))?;
    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    let words = Sequence::new(vec![WhitespaceSplit.into(), metaspace.into()]);
    tokenizer.with_pre_tokenizer(Some(words));

    let (eos, pad) = (config.eos("</s>"), config.pad("<pad>"));
    let roles = [eos.clone(), config.unk("<unk>"), pad.clone()];
    let mut added = config.added_tokens(&roles);
    // A sentinel beyond the vocabulary would be beyond the encoder's table.
    let known = sentinels.iter().filter(|token| tokenizer.token_to_id(token).is_some());
    added.extend(known.map(|token| AddedToken::from(token, true)));
    tokenizer.add_tokens(added).map_err(|e| damaged(&file, e))?;

    let eos_id = special_id(&tokenizer, "end token", &eos, &file)?;
    let end = TemplateProcessing::builder()
        .try_single("$A </s>")
        .map_err(|e| damaged(&file, e))?
        .special_tokens(vec![("</s>", eos_id)])
        .build()
        .map_err(|e| damaged(&file, e))?;
    tokenizer.with_post_processor(Some(end));
    let pad_id = special_id(&tokenizer, "padding token", &pad, &file)?;
    Ok(PromptTokenizer { tokenizer, pad_id, model_max_length: config.max_length(MAX_LENGTH) })
}

impl Vocabulary {
    fn read(folder: &Path) -> Result<Self> {
        let [json, spiece] = ["tokenizer.json", "spiece.model"].map(|name| folder.join(name));
        if json.exists() {
            Self::from_tokenizer_json(json)
        } else if spiece.exists() {
            Self::from_sentencepiece(spiece)
        } else {
            let message = "holds no T5 tokenizer; copy `tokenizer.json` or `spiece.model` from the \
                           model's `tokenizer_2` folder";
            Err(Error::model(folder.display(), message))
        }
    }

    fn from_tokenizer_json(file: PathBuf) -> Result<Self> {
        let json: TokenizerJson = read_json(&file, "a T5 tokenizer")?;
        let characters = match json.normalizer.as_ref().and_then(character_map) {
            Some(map) => Some(Precompiled::deserialize(map).map_err(|e| damaged(&file, e))?),
            None => None,
        };
        Ok(Self {
            file,
            pieces: json.model.vocab,
            characters,
            added_tokens: json.added_tokens,
            lacks_extra_ids: false,
        })
    }

    fn from_sentencepiece(file: PathBuf) -> Result<Self> {
        let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, e))?;
        let model = spiece::parse(&bytes).map_err(|reason| damaged(&file, reason))?;
        let characters = match model.character_map {
            Some(map) => Some(Precompiled::from(map).map_err(|e| damaged(&file, e))?),
            None => None,
        };
        Ok(Self {
            file,
            pieces: model.pieces,
            characters,
            added_tokens: model.special.into_iter().map(TokenEntry::Text).collect(),
            lacks_extra_ids: true,
        })
    }
}

/// The `Precompiled` normalizer, alone or in a sequence.
fn character_map(normalizer: &Value) -> Option<&Value> {
    let steps = match normalizer.get("normalizers") {
        Some(Value::Array(steps)) => steps.as_slice(),
        _ => std::slice::from_ref(normalizer),
    };
    steps.iter().find(|step| step["type"] == "Precompiled")
}

#[derive(Deserialize)]
struct TokenizerJson {
    model: UnigramJson,
    normalizer: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<TokenEntry>,
}

#[derive(Deserialize)]
struct UnigramJson {
    vocab: Vec<(String, f64)>,
}
