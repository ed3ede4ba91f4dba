//! The first part of the walk: a prompt to tokens to what the denoiser is told of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::adapters::{AdapterSlot, Target};
use crate::conditioning::Conditioning;
use crate::error::Result;
use crate::observer::StepObserver;
use crate::text_encoders::{ClipTextEncoder, T5Encoder};
use crate::tokenizers::{PromptTokenizer, TokenizedPrompt};

/// Prompts whose encoding is kept: enough for a page of variations.
const CACHED_PROMPTS: usize = 16;

/// Both text encoders.
pub(super) struct TextEncoders {
    pub clip: ClipTextEncoder,
    pub t5: T5Encoder,
    pub adapters: BTreeMap<Target, BTreeMap<String, Arc<AdapterSlot>>>,
}

impl TextEncoders {
    /// The adapter slots of both.
    pub(super) fn adapters(&self) -> &BTreeMap<Target, BTreeMap<String, Arc<AdapterSlot>>> {
        &self.adapters
    }
}

/// A prompt that has passed both encoders.
pub(super) struct EncodedPrompt {
    pub conditioning: Conditioning,
    pub t5_tokens: usize,
    pub clip_tokens: usize,
    /// The end of the prompt that T5 does not see.
    pub cut: Option<String>,
}

/// The prompt and, for true classifier-free guidance, the negative prompt.
pub(super) struct PromptPair {
    pub positive: Arc<EncodedPrompt>,
    pub negative: Option<Arc<EncodedPrompt>>,
}

/// A prompt as both encoders will see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// CLIP's.
    pub clip: TokenizedPrompt,
    /// T5's.
    pub t5: TokenizedPrompt,
}

/// Both tokenizers with the lengths that the model was trained with.
pub(super) struct Prompter {
    pub clip: PromptTokenizer,
    pub clip_length: usize,
    pub t5: PromptTokenizer,
    pub t5_length: usize,
    pub device: Device,
}

impl Prompter {
    /// Splits `prompt` without encoding it.
    pub(super) fn tokenize(&self, prompt: &str) -> Result<PromptTokens> {
        let clip = self.clip.encode(prompt, self.clip_length)?;
        Ok(PromptTokens { clip, t5: self.t5.encode(prompt, self.t5_length)? })
    }

    /// Encodes `prompt`. As in FLUX, padding is not masked.
    pub(super) fn encode(
        &self,
        encoders: &TextEncoders,
        prompt: &str,
        observer: &dyn StepObserver,
    ) -> Result<EncodedPrompt> {
        let PromptTokens { clip: clip_tokens, t5: t5_tokens } = self.tokenize(prompt)?;
        let pooled = encoders.clip.forward(&self.ids(&clip_tokens)?, observer)?.pooled;
        let txt = encoders.t5.forward(&self.ids(&t5_tokens)?, observer)?;
        Ok(EncodedPrompt {
            conditioning: Conditioning { txt, pooled },
            t5_tokens: t5_tokens.used,
            clip_tokens: clip_tokens.used,
            cut: t5_tokens.cut, // CLIP only sets the tone; what T5 does not see is lost
        })
    }

    /// The ids (1, l).
    fn ids(&self, tokens: &TokenizedPrompt) -> Result<Tensor> {
        Ok(Tensor::new(tokens.ids.as_slice(), &self.device)?.unsqueeze(0)?)
    }
}

/// The latest prompts and their encodings.
#[derive(Default)]
pub(super) struct PromptCache {
    latest: VecDeque<(String, Arc<EncodedPrompt>)>,
}

impl PromptCache {
    pub(super) fn get(&self, prompt: &str) -> Option<Arc<EncodedPrompt>> {
        self.latest.iter().find(|(known, _)| known == prompt).map(|(_, encoded)| encoded.clone())
    }

    pub(super) fn insert(&mut self, prompt: &str, encoded: EncodedPrompt) -> Arc<EncodedPrompt> {
        let encoded = Arc::new(encoded);
        self.latest.push_front((prompt.to_owned(), encoded.clone()));
        self.latest.truncate(CACHED_PROMPTS);
        encoded
    }

    pub(super) fn clear(&mut self) {
        self.latest.clear();
    }
}
