//! Special tokens at the ends of a text: what is put before and after plain text, as `add_bos_token` and
//! `add_eos_token` say. What a chat template writes is not decided here.

use std::collections::BTreeMap;

use tokenizers::PostProcessorWrapper;
use tokenizers::processors::template::{SpecialToken, Template, TemplateProcessing, Tokens};

use crate::error::{Result, TextError};

/// Which special tokens plain text gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextEnds {
    /// BOS before it.
    pub bos: bool,
    /// EOS after it.
    pub eos: bool,
}

/// The step that puts BOS before a text and EOS behind it. `special_tokens` maps `bos_token` and `eos_token` to
/// their texts; as in transformers, a flag without its token does nothing.
pub(crate) fn post_processor(
    ends: TextEnds,
    special_tokens: &BTreeMap<String, String>,
    backend: &tokenizers::Tokenizer,
    origin: &str,
) -> Result<PostProcessorWrapper> {
    let find = |role: &'static str| -> Result<Option<SpecialToken>> {
        let Some(token) = special_tokens.get(&format!("{role}_token")) else { return Ok(None) };
        let id = backend.token_to_id(token).ok_or_else(|| TextError::MissingSpecialToken {
            role,
            token: token.clone(),
            origin: origin.to_owned(),
        })?;
        let named = SpecialToken::new(role.to_owned(), vec![id], vec![token.clone()]);
        named.map(Some).map_err(|error| invalid(origin, error.to_string()))
    };
    let before = if ends.bos { find("bos")? } else { None };
    let after = if ends.eos { find("eos")? } else { None };

    let pieces = [before.as_ref().map(|_| "bos:0"), Some("$A:0"), after.as_ref().map(|_| "eos:0")];
    let pieces = pieces.into_iter().flatten().collect::<Vec<_>>();
    let tokens = before.into_iter().chain(after).collect::<Vec<_>>();
    let template = Template::try_from(pieces).map_err(|error| invalid(origin, error))?;
    let processing = TemplateProcessing::builder()
        .single(template)
        .special_tokens(Tokens::from(tokens))
        .build()
        .map_err(|error| invalid(origin, error.to_string()))?;
    Ok(PostProcessorWrapper::Template(processing))
}

fn invalid(origin: &str, reason: String) -> TextError {
    TextError::InvalidTokenizer { origin: origin.to_owned(), reason }
}
