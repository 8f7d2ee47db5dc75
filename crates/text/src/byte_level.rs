//! Byte-level BPE from GGUF arrays (`tokenizer.ggml.model` = `gpt2`): GPT-2, Llama-3, Qwen, SmolLM, Tekken.
//!
//! Such a vocabulary spells every byte as a printable character; the file carries tokens, their types and the
//! merges in order, and the name of the splitting rule (see the `pretokenizer` module).

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::BPE;

use crate::alphabet::Alphabet;
use crate::error::Result;
use crate::gguf::{GgufTokenizer, TokenType, library_error, merge_pairs, vocabulary};
use crate::pretokenizer::PreTokenizer;

/// The tokenizer without its special tokens and without BOS or EOS.
pub(crate) fn build(meta: &GgufTokenizer, rule: &PreTokenizer) -> Result<tokenizers::Tokenizer> {
    let alphabet = Alphabet::new();
    let tokens =
        meta.tokens.iter().enumerate().map(|(id, token)| respell(meta.token_type(id), token, &alphabet));
    let vocab = vocabulary(tokens)?;
    let merges = merge_pairs(&meta.merges, &vocab)?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(rule.takes_whole_pieces())
        .build()
        .map_err(library_error)?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_normalizer(rule.normalizer()).map_err(library_error)?;
    tokenizer.with_pre_tokenizer(Some(rule.build().map_err(library_error)?));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, false, true)));
    Ok(tokenizer)
}

/// An ordinary token as the byte alphabet spells it. Some files store a few of them as plain text; left so, they
/// could never match. Control and user-defined tokens are matched as text before any byte is spelled, so they stay.
fn respell(token_type: TokenType, token: &str, alphabet: &Alphabet) -> String {
    let is_text = matches!(token_type, TokenType::Control | TokenType::UserDefined);
    if is_text || alphabet.bytes_of(token).is_some() { token.to_owned() } else { alphabet.spell(token) }
}
