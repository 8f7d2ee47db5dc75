//! A tokenizer rebuilt from the metadata of a GGUF file.
//!
//! [`GgufTokenizer`] holds the metadata as plain values, so that this crate need not know how GGUF files are
//! read. [`Tokenizer::from_gguf`] checks them, builds the vocabulary and its splitting rule (`byte_level`,
//! `sentencepiece`), and adds what both kinds share: special tokens, BOS and EOS, the chat template.

use std::collections::BTreeMap;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use crate::error::{Result, TextError};
use crate::pretokenizer::PreTokenizer;
use crate::tokenizer::Tokenizer;
use crate::{byte_level, sentencepiece, special};

/// Longest token in bytes. Real ones have at most some hundred, and what is made of a token grows with the square of its length.
const MAX_TOKEN_BYTES: usize = 4096;

/// How errors name the source of the tokenizer.
pub(crate) const ORIGIN: &str = "the GGUF metadata";

/// The tokenizer part of a GGUF file's metadata. Field by field:
///
/// | field | metadata key |
/// |---|---|
/// | `model` | `tokenizer.ggml.model` |
/// | `pre` | `tokenizer.ggml.pre` |
/// | `tokens` | `tokenizer.ggml.tokens` |
/// | `token_types` | `tokenizer.ggml.token_type` (empty where absent: every token is ordinary) |
/// | `scores` | `tokenizer.ggml.scores` (empty where absent) |
/// | `merges` | `tokenizer.ggml.merges` (empty where absent) |
/// | `bos_id` | `tokenizer.ggml.bos_token_id` |
/// | `eos_id` | `tokenizer.ggml.eos_token_id` |
/// | `unk_id` | `tokenizer.ggml.unknown_token_id` |
/// | `pad_id` | `tokenizer.ggml.padding_token_id` |
/// | `add_bos` | `tokenizer.ggml.add_bos_token` |
/// | `add_eos` | `tokenizer.ggml.add_eos_token` |
/// | `add_space_prefix` | `tokenizer.ggml.add_space_prefix` |
/// | `chat_template` | `tokenizer.chat_template` |
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE); anything else is refused by name.
    pub model: String,
    /// The byte-level kind's splitting rule.
    pub pre: Option<String>,
    /// Every token's text; a token's place is its id.
    pub tokens: Vec<String>,
    /// Every token's type: 1 ordinary, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Every token's score; orders the merges of the SentencePiece kind.
    pub scores: Vec<f32>,
    /// Merges in order of preference, each two tokens with a space between.
    pub merges: Vec<String>,
    /// Start of a text.
    pub bos_id: Option<u32>,
    /// End of a text.
    pub eos_id: Option<u32>,
    /// What stands for text outside the vocabulary.
    pub unk_id: Option<u32>,
    /// Filler.
    pub pad_id: Option<u32>,
    /// Whether plain text gets a BOS; by kind where absent.
    pub add_bos: Option<bool>,
    /// Whether plain text gets an EOS; no where absent.
    pub add_eos: Option<bool>,
    /// SentencePiece kind: whether text starts with a space of its own; yes where absent (Gemma: never).
    pub add_space_prefix: Option<bool>,
    /// Jinja source.
    pub chat_template: Option<String>,
}

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// Ordinary, unused, byte: part of the model, matched by merging.
    Model,
    /// A special token, or the unknown one: matched as written.
    Control,
    /// Not special, but matched as written too.
    UserDefined,
}

/// The kinds of tokenizer that can be rebuilt.
#[derive(Debug, Clone, Copy)]
enum Kind {
    ByteLevel(PreTokenizer),
    SentencePiece,
}

impl Tokenizer {
    /// Rebuilds a tokenizer from GGUF metadata, splitting as `tokenizer.ggml.pre` says.
    ///
    /// # Errors
    /// A kind or splitting rule that isn't known, arrays that contradict one another, a chat template that
    /// doesn't parse.
    pub fn from_gguf(meta: &GgufTokenizer) -> Result<Self> {
        let kind = match meta.model.as_str() {
            "gpt2" => Kind::ByteLevel(PreTokenizer::of_gguf(meta.pre.as_deref())?),
            "llama" => Kind::SentencePiece,
            other => return Err(unknown_model(other)),
        };
        build(meta, kind)
    }

    /// As [`Tokenizer::from_gguf`] for a byte-level tokenizer, with another splitting rule than the file's.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`]; also for a tokenizer that isn't byte-level.
    pub fn from_gguf_split_by(meta: &GgufTokenizer, rule: PreTokenizer) -> Result<Self> {
        match meta.model.as_str() {
            "gpt2" => build(meta, Kind::ByteLevel(rule)),
            other => Err(unknown_model(other)),
        }
    }
}

fn unknown_model(model: &str) -> TextError {
    TextError::UnknownGgufModel { model: model.to_owned(), known: "`gpt2`, `llama`".to_owned() }
}

fn build(meta: &GgufTokenizer, kind: Kind) -> Result<Tokenizer> {
    check_arrays(meta)?;
    let (mut backend, adds_bos) = match kind {
        Kind::ByteLevel(rule) => (byte_level::build(meta, &rule)?, rule.adds_bos()),
        Kind::SentencePiece => (sentencepiece::build(meta)?, true),
    };
    let added = added_tokens(meta, &backend);
    backend.add_tokens(added).map_err(library_error)?;
    let special_tokens = special_tokens(meta)?;
    let ends = special::TextEnds {
        bos: meta.add_bos.unwrap_or(adds_bos && meta.bos_id.is_some()),
        eos: meta.add_eos.unwrap_or(false),
    };
    let step = special::post_processor(ends, &special_tokens, &backend, ORIGIN)?;
    backend.with_post_processor(Some(step));
    Tokenizer::assemble(backend, special_tokens, meta.chat_template.as_deref())
}

impl GgufTokenizer {
    /// The type of a token.
    pub(crate) fn token_type(&self, id: usize) -> TokenType {
        match self.token_types.get(id) {
            // The unknown token is written in no text; where it is, it means itself.
            Some(2 | 3) => TokenType::Control,
            Some(4) => TokenType::UserDefined,
            _ => TokenType::Model,
        }
    }

    /// The text of a token, where an id is given; `key` names it in the error for an id out of range.
    pub(crate) fn token_at(&self, id: Option<u32>, key: &'static str) -> Result<Option<&str>> {
        let Some(id) = id else { return Ok(None) };
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        token.map(|token| Some(token.as_str())).ok_or_else(|| TextError::InvalidGguf {
            key,
            problem: format!("id `{id}` is beyond the {} tokens", self.tokens.len()),
        })
    }
}

fn check_arrays(meta: &GgufTokenizer) -> Result<()> {
    let count = meta.tokens.len();
    if count == 0 {
        return Err(TextError::InvalidGguf {
            key: "tokenizer.ggml.tokens",
            problem: "there are no tokens".to_owned(),
        });
    }
    if let Some(id) = meta.tokens.iter().position(|token| token.len() > MAX_TOKEN_BYTES) {
        return Err(TextError::InvalidGguf {
            key: "tokenizer.ggml.tokens",
            problem: format!("token `{id}` has {} bytes, more than {MAX_TOKEN_BYTES}", meta.tokens[id].len()),
        });
    }
    let lengths =
        [("tokenizer.ggml.token_type", meta.token_types.len()), ("tokenizer.ggml.scores", meta.scores.len())];
    match lengths.into_iter().find(|(_, length)| *length != 0 && *length != count) {
        Some((key, length)) => {
            Err(TextError::InvalidGguf { key, problem: format!("has {length} entries for {count} tokens") })
        }
        None => Ok(()),
    }
}

/// Control and user-defined tokens, to be matched as written before anything else happens to a text. A token that the
/// vocabulary spells otherwise (Gemma's runs of spaces) is left to the merges; added, it would get a new id.
fn added_tokens(meta: &GgufTokenizer, backend: &tokenizers::Tokenizer) -> Vec<AddedToken> {
    let added = |(id, token): (usize, &String)| {
        let special = match meta.token_type(id) {
            TokenType::Control => true,
            TokenType::UserDefined => false,
            TokenType::Model => return None,
        };
        let has_own_id = backend.token_to_id(token).is_some_and(|known| usize::try_from(known) == Ok(id));
        has_own_id.then(|| AddedToken::from(token.clone(), special).normalized(false))
    };
    meta.tokens.iter().enumerate().filter_map(added).collect()
}

/// `bos_token`, `eos_token` and so on, as chat templates name them.
fn special_tokens(meta: &GgufTokenizer) -> Result<BTreeMap<String, String>> {
    let named = [
        ("bos_token", meta.bos_id, "tokenizer.ggml.bos_token_id"),
        ("eos_token", meta.eos_id, "tokenizer.ggml.eos_token_id"),
        ("unk_token", meta.unk_id, "tokenizer.ggml.unknown_token_id"),
        ("pad_token", meta.pad_id, "tokenizer.ggml.padding_token_id"),
    ];
    let mut found = BTreeMap::new();
    for (name, id, key) in named {
        if let Some(token) = meta.token_at(id, key)? {
            found.insert(name.to_owned(), token.to_owned());
        }
    }
    Ok(found)
}

/// Tokens to ids; a token that occurs twice could not be told apart.
pub(crate) fn vocabulary(tokens: impl Iterator<Item = String>) -> Result<Vocab> {
    let mut vocab = Vocab::new();
    for (id, token) in (0u32..).zip(tokens) {
        if let Some(first) = vocab.get(&token) {
            let problem = format!("`{token}` has two ids, `{first}` and `{id}`");
            return Err(TextError::InvalidGguf { key: "tokenizer.ggml.tokens", problem });
        }
        vocab.insert(token, id);
    }
    Ok(vocab)
}

/// Merges as pairs, each checked to join two tokens into a third.
pub(crate) fn merge_pairs(merges: &[String], vocab: &Vocab) -> Result<Merges> {
    let invalid = |merge: &str| TextError::InvalidGguf {
        key: "tokenizer.ggml.merges",
        problem: format!("`{merge}` does not join two tokens into a third"),
    };
    let pair = |merge: &String| {
        let (left, right) = merge.split_once(' ').ok_or_else(|| invalid(merge))?;
        let known = [left.to_owned(), right.to_owned(), format!("{left}{right}")];
        if known.iter().any(|token| !vocab.contains_key(token)) {
            return Err(invalid(merge));
        }
        let [left, right, _] = known;
        Ok((left, right))
    };
    merges.iter().map(pair).collect()
}

/// What the tokenizer library says about the metadata.
pub(crate) fn library_error(source: tokenizers::Error) -> TextError {
    TextError::InvalidTokenizer { origin: ORIGIN.to_owned(), reason: source.to_string() }
}
