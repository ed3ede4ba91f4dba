//! CLIP's byte-level BPE, as transformers' `CLIPTokenizer` builds it: lower case, words and single digits, `</w>` at
//! the end of a word.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::config::{TokenEntry, TokenizerConfig};
use super::{PromptTokenizer, damaged, special_id};
use crate::error::{Error, Result};
use crate::files::read_json;

/// The length of every CLIP that FLUX models use, where the files do not say.
const MAX_LENGTH: usize = 77;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// What counts as a word.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

type Merges = Vec<(String, String)>;

/// The vocabulary and where it came from.
struct Vocabulary {
    file: PathBuf,
    ids: HashMap<String, u32>,
    merges: Merges,
    added_tokens: Vec<TokenEntry>,
}

/// The tokenizer of `folder`.
pub(super) fn load(folder: &Path) -> Result<PromptTokenizer> {
    let vocabulary = Vocabulary::read(folder)?;
    let file = vocabulary.file.clone();
    let config = TokenizerConfig::read(folder, vocabulary.added_tokens.clone())?;
    let (bos, eos) = (config.bos(START), config.eos(END));
    let (unk, pad) = (config.unk(END), config.pad(END));

    let mut tokenizer = Tokenizer::new(vocabulary.into_model(&unk)?);
    let fixed = "the patterns and the order are constants that the tests run";
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").expect(fixed);
    let words = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).expect(fixed);
    let normalizer = Sequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| damaged(&file, e))?;
    let bytes = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    let roles = [bos.clone(), eos.clone(), unk, pad.clone()];
    tokenizer.add_tokens(config.added_tokens(&roles)).map_err(|e| damaged(&file, e))?;

    let bos = (special_id(&tokenizer, "start token", &bos, &file)?, bos);
    let eos = (special_id(&tokenizer, "end token", &eos, &file)?, eos);
    let ends = RobertaProcessing::new((eos.1, eos.0), (bos.1, bos.0));
    tokenizer.with_post_processor(Some(ends.trim_offsets(false).add_prefix_space(false)));
    let pad_id = special_id(&tokenizer, "padding token", &pad, &file)?;
    Ok(PromptTokenizer { tokenizer, pad_id, model_max_length: config.max_length(MAX_LENGTH) })
}

impl Vocabulary {
    fn read(folder: &Path) -> Result<Self> {
        let [json, vocab, merges] =
            ["tokenizer.json", "vocab.json", "merges.txt"].map(|name| folder.join(name));
        if json.exists() {
            return Self::from_tokenizer_json(json);
        }
        if !vocab.exists() || !merges.exists() {
            let message = "holds no CLIP tokenizer; copy `tokenizer.json`, or `vocab.json` and \
                           `merges.txt`, from the model's `tokenizer` folder";
            return Err(Error::model(folder.display(), message));
        }
        let ids = read_json(&vocab, "a vocabulary of token ids")?;
        let text = std::fs::read_to_string(&merges).map_err(|e| Error::io(&merges, e))?;
        let lines = text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
        let pairs = lines.map(|line| pair(line).map_err(|reason| damaged(&merges, reason)));
        let pairs = pairs.collect::<Result<_>>()?;
        Ok(Self { file: merges, ids, merges: pairs, added_tokens: Vec::new() })
    }

    fn from_tokenizer_json(file: PathBuf) -> Result<Self> {
        let json: TokenizerJson = read_json(&file, "a CLIP tokenizer")?;
        let merges = match json.model.merges {
            MergeList::Pairs(pairs) => pairs,
            MergeList::Lines(lines) => lines
                .iter()
                .map(|line| pair(line).map_err(|reason| damaged(&file, reason)))
                .collect::<Result<_>>()?,
        };
        Ok(Self { file, ids: json.model.vocab, merges, added_tokens: json.added_tokens })
    }

    /// The model, once all that merges speak of is known to exist.
    fn into_model(self, unk: &str) -> Result<BPE> {
        for (left, right) in &self.merges {
            let merged = format!("{left}{right}");
            if let Some(unknown) =
                [left, right, &merged].into_iter().find(|token| !self.ids.contains_key(*token))
            {
                let reason =
                    format!("merge `{left} {right}` needs `{unknown}`, which the vocabulary lacks");
                return Err(damaged(&self.file, reason));
            }
        }
        let ids: tokenizers::models::bpe::Vocab = self.ids.into_iter().collect();
        BPE::builder()
            .vocab_and_merges(ids, self.merges)
            .unk_token(unk.to_owned())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(|e| damaged(&self.file, e))
    }
}

/// The two halves of a merge.
fn pair(line: &str) -> Result<(String, String), String> {
    match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => Err(format!("merge `{line}` is not a pair of tokens")),
    }
}

#[derive(Deserialize)]
struct TokenizerJson {
    model: BpeJson,
    #[serde(default)]
    added_tokens: Vec<TokenEntry>,
}

#[derive(Deserialize)]
struct BpeJson {
    vocab: HashMap<String, u32>,
    merges: MergeList,
}

/// Merges as newer and as older files write them.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeList {
    Pairs(Merges),
    Lines(Vec<String>),
}
