//! The tokenizers against transformers' (`fixtures/tokenizers/make.py`): exact ids of every prompt.

mod common;

use std::path::Path;

use masuka_diffusion::Result;
use masuka_diffusion::tokenizers::PromptTokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    clip: Lengths,
    t5: Lengths,
    prompts: Vec<Line>,
}

#[derive(Deserialize)]
struct Lengths {
    max_length: usize,
}

#[derive(Deserialize)]
struct Line {
    prompt: String,
    clip: Expected,
    t5: Expected,
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    untruncated: usize,
    untruncated_ids: Option<Vec<u32>>,
}

fn fixture() -> Fixture {
    common::json("fixtures/tokenizers/tokens.json")
}

/// Checks one tokenizer on every prompt of the fixture: cut to its length, and whole.
#[track_caller]
fn check(tokenizer: &PromptTokenizer, length: usize, expected: impl Fn(&Line) -> &Expected) {
    let prompts = fixture().prompts;
    assert!(prompts.len() >= 200, "only {} prompts", prompts.len());
    assert_eq!(tokenizer.model_max_length(), length);
    for line in &prompts {
        let (prompt, expected) = (&line.prompt, expected(line));
        let tokens = tokenizer.encode(prompt, length).expect("ids");
        assert_eq!(tokens.ids, expected.ids, "{prompt:?}");
        assert_eq!(tokens.used, expected.untruncated.min(length), "{prompt:?}");
        assert_eq!(tokens.cut_tokens, expected.untruncated.saturating_sub(length), "{prompt:?}");
        assert_eq!(tokens.cut.is_some(), expected.untruncated > length, "{prompt:?}");
        if let Some(ids) = &expected.untruncated_ids {
            let whole = tokenizer.encode(prompt, ids.len()).expect("ids");
            assert_eq!(&whole.ids, ids, "{prompt:?}");
        }
    }
}

#[test]
fn clip_gives_the_ids_of_transformers_for_every_prompt() -> Result<()> {
    let tokenizer = PromptTokenizer::clip(&common::repo("models/starter/tokenizer"))?;
    check(&tokenizer, fixture().clip.max_length, |line| &line.clip);
    Ok(())
}

#[test]
fn t5_gives_the_ids_of_transformers_for_every_prompt() -> Result<()> {
    let tokenizer = PromptTokenizer::t5(&common::repo("models/starter/tokenizer_2"))?;
    check(&tokenizer, fixture().t5.max_length, |line| &line.t5);
    Ok(())
}

#[test]
fn what_is_cut_off_is_told_in_the_prompts_own_words() -> Result<()> {
    let tokenizer = PromptTokenizer::t5(&common::repo("models/starter/tokenizer_2"))?;
    let prompt = "red apple, noto style";
    let tokens = tokenizer.encode(prompt, 3)?;
    let cut = tokens.cut.expect("a rest");
    assert!(prompt.ends_with(&cut) && !cut.is_empty(), "{cut:?}");
    assert_eq!((tokens.used, tokens.ids.len(), tokens.cut_tokens), (3, 3, 4));
    assert_eq!(tokens.ids[2], 1, "the end token stays");
    Ok(())
}

/// A field of a protocol buffer: its tag, its length, its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// The starter's `tokenizer.json` as SentencePiece would have written it.
fn spiece_of(tokenizer_json: &Path) -> Vec<u8> {
    const CONTROL: u8 = 3;
    const UNKNOWN: u8 = 2;
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(tokenizer_json).expect("a file")).expect("JSON");
    let mut model = Vec::new();
    for piece in json["model"]["vocab"].as_array().expect("pieces") {
        let text = piece[0].as_str().expect("text");
        let score = piece[1].as_f64().expect("a score") as f32;
        let mut bytes = field(1, text.as_bytes());
        bytes.push(2 << 3 | 5);
        bytes.extend(score.to_le_bytes());
        match text {
            "<pad>" | "</s>" => bytes.extend([3 << 3, CONTROL]),
            "<unk>" => bytes.extend([3 << 3, UNKNOWN]),
            _ => {}
        }
        model.extend(field(1, &bytes));
    }
    model.extend(field(2, &[3 << 3, 1])); // unigram
    model
}

#[test]
fn a_t5_folder_with_spiece_model_alone_gives_the_same_ids() -> Result<()> {
    let starter = common::repo("models/starter/tokenizer_2");
    let folder = tempfile::tempdir().expect("a folder");
    let spiece = spiece_of(&starter.join("tokenizer.json"));
    std::fs::write(folder.path().join("spiece.model"), spiece).expect("a file");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::copy(starter.join(name), folder.path().join(name)).expect("a copy");
    }
    // The starter's `tokenizer.json` may map characters; prompts of plain ASCII need none of it.
    let (json, spiece) = (PromptTokenizer::t5(&starter)?, PromptTokenizer::t5(folder.path())?);
    let plain = |line: &Line| line.prompt.chars().all(|c| matches!(c, ' '..='~'));
    let prompts: Vec<_> = fixture().prompts.into_iter().filter(plain).collect();
    assert!(prompts.len() > 100, "only {} prompts", prompts.len());
    for Line { prompt, .. } in prompts {
        assert_eq!(spiece.encode(&prompt, 512)?, json.encode(&prompt, 512)?, "{prompt:?}");
    }
    Ok(())
}

#[track_caller]
fn refused(tokenizer: Result<PromptTokenizer>, words: &[&str]) {
    let message = tokenizer.err().expect("a refusal").to_string();
    for word in words {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_folder_without_a_tokenizer_is_refused_with_what_to_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(PromptTokenizer::clip(folder.path()), &["vocab.json", "merges.txt", "tokenizer.json"]);
    refused(PromptTokenizer::t5(folder.path()), &["tokenizer.json", "spiece.model"]);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("spiece.model"), [0xff; 40]).expect("a file");
    refused(PromptTokenizer::t5(folder.path()), &["spiece.model", "protocol buffer"]);
    std::fs::write(folder.path().join("tokenizer.json"), "{}").expect("a file");
    refused(PromptTokenizer::t5(folder.path()), &["tokenizer.json"]);
    refused(PromptTokenizer::clip(folder.path()), &["tokenizer.json"]);
}
