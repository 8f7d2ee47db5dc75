//! SentencePiece BPE from GGUF arrays (`tokenizer.ggml.model` = `llama`): Llama-2, Mistral, Gemma.
//!
//! Such a vocabulary spells a space as `▁`, falls back to byte tokens `<0x00>` for characters it lacks, and lists
//! no merges: they are derived from the tokens' scores as transformers derives them (`generate_merges`), so that
//! the ids agree with its tokenizers. SentencePiece itself merges by score alone; the two differ in ties only.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as NormalizerSequence;
use tokenizers::{DecoderWrapper, NormalizerWrapper};

use crate::error::{Result, TextError};
use crate::gguf::{GgufTokenizer, library_error, merge_pairs, vocabulary};

/// How a vocabulary treats spaces, and in which order it merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// A space of its own before the text; merges by score.
    Prefixed,
    /// No such space; merges by score.
    Bare,
    /// Gemma: no such space, runs of spaces are tokens, and merges follow the order of the tokens because the
    /// scores don't.
    Gemma,
}

impl Spelling {
    fn of(meta: &GgufTokenizer) -> Self {
        // The file doesn't name the tokenizer's family; this token is in every Gemma vocabulary and in no other.
        if meta.tokens.iter().any(|token| token == "<start_of_turn>") {
            Self::Gemma
        } else if meta.add_space_prefix.unwrap_or(true) {
            Self::Prefixed
        } else {
            Self::Bare
        }
    }
}

/// The tokenizer without its special tokens and without BOS or EOS.
pub(crate) fn build(meta: &GgufTokenizer) -> Result<tokenizers::Tokenizer> {
    let spelling = Spelling::of(meta);
    let tokens = meta.tokens.iter().map(|token| respell(spelling, token)).collect::<Vec<_>>();
    let vocab = vocabulary(tokens.iter().cloned())?;
    let merges = if meta.merges.is_empty() {
        derive_merges(&tokens, &priorities(meta, spelling)?, &vocab)
    } else {
        merge_pairs(&meta.merges, &vocab)?
    };
    let mut model = BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = meta.token_at(meta.unk_id, "tokenizer.ggml.unknown_token_id")? {
        model = model.unk_token(unknown.to_owned());
    }
    let mut tokenizer = tokenizers::Tokenizer::new(model.build().map_err(library_error)?);
    set_steps(&mut tokenizer, spelling).map_err(library_error)?;
    Ok(tokenizer)
}

/// Gemma's files store a token of several spaces as such; text reaches the model with `▁` for each.
fn respell(spelling: Spelling, token: &str) -> String {
    let is_spaces = token.contains(' ') && token.chars().all(char::is_whitespace);
    if spelling == Spelling::Gemma && is_spaces {
        "▁".repeat(token.chars().count())
    } else {
        token.to_owned()
    }
}

/// What orders the merges: higher first.
fn priorities(meta: &GgufTokenizer, spelling: Spelling) -> Result<Vec<f64>> {
    if spelling == Spelling::Gemma {
        return Ok((0..meta.tokens.len()).map(|id| -(id as f64)).collect());
    }
    if meta.scores.is_empty() {
        return Err(TextError::InvalidGguf {
            key: "tokenizer.ggml.scores",
            problem: "absent, and there are no merges either".to_owned(),
        });
    }
    if let Some(id) = meta.scores.iter().position(|score| score.is_nan()) {
        return Err(TextError::InvalidGguf {
            key: "tokenizer.ggml.scores",
            problem: format!("the score of token `{id}` is not a number"),
        });
    }
    // Adding zero turns -0 into 0: the order below would tell them apart.
    Ok(meta.scores.iter().map(|score| f64::from(*score) + 0.0).collect())
}

/// One way to put a token together.
struct Candidate<'a> {
    left: &'a str,
    right: &'a str,
    priority: f64,
    /// Lengths of left and right in characters.
    lengths: (usize, usize),
}

/// Every split of every token into two tokens, best first: by priority of the whole, then the longer left, then
/// the longer right part; what is equal then stays in the order of the whole's id and the parts' ids.
fn derive_merges(tokens: &[String], priorities: &[f64], vocab: &Vocab) -> Merges {
    let mut candidates = Vec::new();
    for (token, priority) in tokens.iter().zip(priorities) {
        let mut ways = splits(token, vocab);
        ways.sort_by_key(|(_, _, ids)| *ids);
        candidates.extend(ways.into_iter().map(|(left, right, _)| Candidate {
            left,
            right,
            priority: *priority,
            lengths: (left.chars().count(), right.chars().count()),
        }));
    }
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(b.lengths.cmp(&a.lengths)));
    candidates.into_iter().map(|way| (way.left.to_owned(), way.right.to_owned())).collect()
}

/// A token's splits into two tokens, with the two ids.
fn splits<'a>(token: &'a str, vocab: &Vocab) -> Vec<(&'a str, &'a str, (u32, u32))> {
    let inner = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
    inner.filter_map(|(left, right)| Some((left, right, (*vocab.get(left)?, *vocab.get(right)?)))).collect()
}

/// The steps around the model: spaces spelled before it, and back after it.
///
/// The space before the text is put there as SentencePiece does and as the published `tokenizer.json` files of
/// Llama-2 and Mistral do it: always, and again after every special token. (transformers 5 reads GGUF files with
/// its newer rule, which adds none to a text that starts with a space, nor after a special token.)
fn set_steps(tokenizer: &mut tokenizers::Tokenizer, spelling: Spelling) -> tokenizers::Result<()> {
    let mut before: Vec<NormalizerWrapper> = Vec::new();
    let mut after: Vec<DecoderWrapper> =
        vec![Replace::new("▁", " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if spelling == Spelling::Prefixed {
        before.push(Prepend::new("▁".to_owned()).into());
        after.push(Strip::new(' ', 1, 0).into());
    }
    before.push(Replace::new(" ", "▁")?.into());
    tokenizer.with_normalizer(Some(NormalizerSequence::new(before)))?;
    tokenizer.with_decoder(Some(DecoderSequence::new(after)));
    Ok(())
}
