//! The tokenizer itself: text to ids with byte offsets, and back.
//!
//! A thin layer over the `tokenizers` library that settles what the rest of lorascope must not have to think
//! about: no truncation, no padding, offsets that cover the whole of the text, and one answer to "is a BOS
//! added?". How it is built: `folder` and `gguf`; what is done with a chat: `template` and `prompt`.

use std::collections::BTreeMap;
use std::ops::Range;

use tokenizers::processors::sequence::Sequence;
use tokenizers::{DecoderWrapper, PostProcessorWrapper};

use crate::alphabet::{Alphabet, readable};
use crate::error::{Result, TextError};
use crate::template::ChatTemplate;

/// What is done about special tokens when plain text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Nothing is added. Special tokens written in the text are recognised (a rendered chat has them).
    AsIs,
    /// What the tokenizer's own post-processing adds is added: a BOS for most models, nothing for some.
    AddBos,
}

/// A text as token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token the bytes of the text it stands for, leading space included. Tokens that make up one
    /// character between them all have that character's whole range; an added BOS has an empty one.
    pub offsets: Vec<Range<usize>>,
}

impl From<&tokenizers::Encoding> for Encoding {
    fn from(encoding: &tokenizers::Encoding) -> Self {
        Self {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect(),
        }
    }
}

/// A model's tokenizer and chat template.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub(crate) backend: tokenizers::Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    /// `bos_token` and the like to their texts, as chat templates see them.
    pub(crate) special_tokens: BTreeMap<String, String>,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
    adds_bos: bool,
    /// Present where the vocabulary spells bytes.
    alphabet: Option<Alphabet>,
}

impl Tokenizer {
    /// Puts the parts together, whatever they were read from.
    pub(crate) fn assemble(
        mut backend: tokenizers::Tokenizer,
        special_tokens: BTreeMap<String, String>,
        template: Option<&str>,
    ) -> Result<Self> {
        backend.with_truncation(None).map_err(encode_error)?;
        backend.with_padding(None);
        let untrimmed = backend.get_post_processor().cloned().map(without_trimming);
        backend.with_post_processor(untrimmed);
        let id_of = |name: &str| special_tokens.get(name).and_then(|token| backend.token_to_id(token));
        let (bos_id, eos_id) = (id_of("bos_token"), id_of("eos_token"));
        let start = backend.encode("", true).map_err(encode_error)?;
        let adds_bos = bos_id.is_some() && start.get_ids().first().copied() == bos_id;
        let alphabet = backend.get_decoder().is_some_and(spells_bytes).then(Alphabet::new);
        let template = template.map(ChatTemplate::parse).transpose()?;
        Ok(Self { backend, template, special_tokens, bos_id, eos_id, adds_bos, alphabet })
    }

    /// Token ids of a text, with the bytes each token stands for.
    ///
    /// As in transformers, a byte that the vocabulary lacks is left out where there is no token for "unknown"
    /// (SmolLM2 has none for a few control characters); the offsets then skip it.
    ///
    /// # Errors
    /// What the tokenizer cannot represent and has no token for "unknown" for.
    pub fn encode(&self, text: &str, special: Special) -> Result<Encoding> {
        let encoding = self.backend.encode(text, special == Special::AddBos).map_err(encode_error)?;
        Ok(Encoding::from(&encoding))
    }

    /// As a raw prompt: what post-processing puts before the text, the text, and nothing behind it, because an
    /// answer follows.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; also a text that has no tokens.
    pub(crate) fn encode_raw_prompt(&self, text: &str) -> Result<Encoding> {
        let encoding = self.backend.encode(text, true).map_err(encode_error)?;
        // The mask tells what was added from what the text has, special tokens written in it included.
        let last = encoding.get_special_tokens_mask().iter().rposition(|added| *added == 0);
        let kept = last.ok_or(TextError::EmptyPrompt)? + 1;
        let mut encoding = Encoding::from(&encoding);
        encoding.ids.truncate(kept);
        encoding.offsets.truncate(kept);
        Ok(encoding)
    }

    /// A token as a reader would write it: with spaces as spaces, and bytes that are no text on their own as
    /// `<0xE2>`. An id outside the vocabulary is shown as `<id 123>`.
    pub fn token_text(&self, id: u32) -> String {
        let Some(token) = self.backend.id_to_token(id) else { return format!("<id {id}>") };
        if self.backend.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return token;
        }
        match self.alphabet.as_ref().map(|alphabet| alphabet.bytes_of(&token)) {
            Some(Some(bytes)) => readable(&bytes),
            Some(None) => token,
            None => token.replace('▁', " "),
        }
    }

    /// The text of a row of ids, special tokens included.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let unknown = ids.iter().find(|id| self.backend.id_to_token(**id).is_none());
        if let Some(id) = unknown {
            return Err(TextError::UnknownId { id: *id, vocab_size: self.vocab_size() });
        }
        self.backend.decode(ids, false).map_err(|error| TextError::Decode { reason: error.to_string() })
    }

    /// The id of a token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.backend.token_to_id(token)
    }

    /// The id of the token that starts a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The id of the token that ends a text.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// Whether plain text gets a BOS.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Number of tokens, added ones included. A model's embedding may have more rows (padding).
    pub fn vocab_size(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// Whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }
}

fn encode_error(source: tokenizers::Error) -> TextError {
    TextError::Encode { reason: source.to_string() }
}

/// The same post-processing with offsets left whole. Many byte-level tokenizers cut a leading space out of a
/// token's offsets, after which tokens no longer tile the text and a token of spaces has an empty range.
fn without_trimming(processor: PostProcessorWrapper) -> PostProcessorWrapper {
    match processor {
        PostProcessorWrapper::ByteLevel(step) => PostProcessorWrapper::ByteLevel(step.trim_offsets(false)),
        PostProcessorWrapper::Sequence(steps) => {
            PostProcessorWrapper::Sequence(Sequence::new(steps.into_iter().map(without_trimming).collect()))
        }
        PostProcessorWrapper::Roberta(step) => PostProcessorWrapper::Roberta(step.trim_offsets(false)),
        other => other,
    }
}

/// Whether a vocabulary spells bytes as characters.
fn spells_bytes(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(spells_bytes),
        _ => false,
    }
}
