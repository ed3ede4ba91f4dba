//! The text encoders against transformers' (`fixtures/t5/make.py`, `fixtures/clip/make.py`).

mod common;

use candle_core::{DType, Tensor};
use masuka_diffusion::observer::{StepObserver, Unobserved};
use masuka_diffusion::text_encoders::{ClipTextConfig, ClipTextEncoder, T5Config, T5Encoder};
use masuka_diffusion::{Error, Result};

const TOLERANCE: f32 = 1e-4;

fn t5(name: &str, dtype: DType) -> Result<T5Encoder> {
    let folder = format!("fixtures/t5/{name}");
    let config = T5Config::read(&common::repo(&folder).join("config.json"))?;
    let weights = common::weights(&folder, dtype);
    let encoder = T5Encoder::load(&weights, &config)?;
    weights.finish()?; // nothing of the file is left over
    Ok(encoder)
}

fn clip(name: &str) -> Result<ClipTextEncoder> {
    let folder = format!("fixtures/clip/{name}");
    let config = ClipTextConfig::read(&common::repo(&folder).join("config.json"))?;
    let weights = common::weights(&folder, DType::F32);
    let encoder = ClipTextEncoder::load(&weights, &config)?;
    weights.finish()?;
    Ok(encoder)
}

fn ids(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::U32)?)
}

#[test]
fn t5_agrees_for_short_and_long_prompts() -> Result<()> {
    for name in ["narrow", "deep"] {
        let encoder = t5(name, DType::F32)?;
        let io = common::tensors(&format!("fixtures/t5/{name}/io.safetensors"));
        for length in [16, 200] {
            let ids = ids(&io[&format!("input_ids_{length}")])?;
            let states = encoder.forward(&ids, &Unobserved)?;
            print!("t5 {name}, {length} tokens: ");
            common::assert_close(&states, &io[&format!("last_hidden_state_{length}")], TOLERANCE);
        }
    }
    Ok(())
}

#[test]
fn clip_agrees_by_both_rules_of_pooling() -> Result<()> {
    for name in ["eos_2", "eos_first"] {
        let io = common::tensors(&format!("fixtures/clip/{name}/io.safetensors"));
        let encoding = clip(name)?.forward(&ids(&io["input_ids"])?, &Unobserved)?;
        print!("clip {name}, tokens: ");
        common::assert_close(&encoding.last_hidden_state, &io["last_hidden_state"], TOLERANCE);
        print!("clip {name}, pooled: ");
        common::assert_close(&encoding.pooled, &io["pooler_output"], TOLERANCE);
    }
    Ok(())
}

#[test]
fn a_prompt_longer_than_clips_positions_is_refused() -> Result<()> {
    let io = common::tensors("fixtures/clip/eos_2/io.safetensors");
    let ids = ids(&io["input_ids"])?;
    let long = Tensor::cat(&[&ids, &ids], 1)?;
    let error = clip("eos_2")?.forward(&long, &Unobserved).err().expect("a refusal");
    let rule = "CLIP prompt length 40 is more than the 20 positions of this CLIP model";
    assert_eq!(error.to_string(), rule);
    Ok(())
}

#[test]
fn an_id_beyond_the_vocabulary_is_refused() -> Result<()> {
    let ids = Tensor::new(&[[300u32]], &common::device())?;
    assert!(t5("narrow", DType::F32)?.forward(&ids, &Unobserved).is_err());
    Ok(())
}

#[test]
fn both_stop_between_blocks_when_cancelled() -> Result<()> {
    struct Impatient;
    impl StepObserver for Impatient {
        fn proceed(&self) -> bool {
            false
        }
    }
    let io = common::tensors("fixtures/t5/narrow/io.safetensors");
    let stopped = t5("narrow", DType::F32)?.forward(&ids(&io["input_ids_16"])?, &Impatient);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let io = common::tensors("fixtures/clip/eos_2/io.safetensors");
    let stopped = clip("eos_2")?.forward(&ids(&io["input_ids"])?, &Impatient);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    Ok(())
}
