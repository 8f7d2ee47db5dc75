//! The tokenizer: a byte-level BPE learnt from the model's own texts, digits by themselves, with a chat template in Gemma's form.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerImpl,
};

/// Tokens that are no text, in the order of their ids.
pub const SPECIAL: [&str; 5] = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"];

/// One turn of the user's, then the model's.
const CHAT: &str = "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else \
message['role'] %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

type Backend =
    TokenizerImpl<ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// `tokenizer.json`, learnt from texts.
pub fn learn(texts: &[String], size: usize) -> Result<String> {
    let wrong = |e: tokenizers::Error| anyhow!("tokenizer: {e}");
    let mut backend: Backend = TokenizerImpl::new(BPE::default().into());
    let bytes = ByteLevel::new(false, true, true);
    backend.with_pre_tokenizer(Some(Sequence::new(vec![Digits::new(true).into(), bytes.into()])));
    backend.with_decoder(Some(bytes));
    let special: Vec<AddedToken> = SPECIAL.iter().map(|t| AddedToken::from(*t, true)).collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = tokenizers::models::TrainerWrapper::BpeTrainer(trainer);
    backend.train(&mut trainer, texts.iter()).map_err(wrong)?;
    let bos = TemplateProcessing::builder()
        .try_single("<bos> $A")
        .map_err(|e| anyhow!("tokenizer: {e}"))?
        .special_tokens(vec![("<bos>", 2)])
        .build()?;
    backend.with_post_processor(Some(bos));
    backend.to_string(false).map_err(wrong)
}

/// `tokenizer_config.json`.
pub fn config() -> Value {
    json!({
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": true, "add_eos_token": false,
        "chat_template": CHAT, "clean_up_tokenization_spaces": false, "tokenizer_class": "PreTrainedTokenizerFast",
    })
}
