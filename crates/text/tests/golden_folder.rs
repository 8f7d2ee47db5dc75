//! The tokenizer and chat template of SmolLM2 as a folder, against ids that transformers made.
//!
//! Needs the reference values beside the repository (`../shared/golden`); says so and checks nothing without them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use lorascope_text::{Message, Special, Tokenizer, Wrapping};
use serde_json::Value;
use support::{golden_json, shared};

fn tokenizer() -> Option<Tokenizer> {
    Some(Tokenizer::from_folder(&shared()?.join("golden")).unwrap())
}

/// The prompts by id.
fn prompt<'a>(prompts: &'a Value, id: &str) -> &'a str {
    let prompt = prompts.as_array().unwrap().iter().find(|prompt| prompt["id"] == id).unwrap();
    prompt["prompt"].as_str().unwrap()
}

#[test]
fn prompts_have_the_reference_ids() {
    let Some(shared) = shared() else { return };
    let tokenizer = Tokenizer::from_folder(&shared.join("golden")).unwrap();
    let prompts = golden_json(&shared, "prompts.json");
    let results = golden_json(&shared, "smollm2.json");
    let results = results["decide"].as_array().unwrap();
    assert_eq!(results.len(), 25);
    for result in results {
        let expected: Vec<u32> = serde_json::from_value(result["ids"].clone()).unwrap();
        let text = prompt(&prompts, result["prompt"].as_str().unwrap());
        let tokens = tokenizer.tokens_prompt(text, Wrapping::Auto).unwrap();
        assert!(tokens.used_chat_template);
        assert_eq!(tokens.ids, expected, "{}", result["prompt"]);
        let range = tokens.content_ranges[0].clone().unwrap();
        assert_eq!(&tokens.text[range], text);
    }
}

#[test]
fn offsets_tile_the_text_and_ids_decode_to_it() {
    let Some(tokenizer) = tokenizer() else { return };
    let text = "  Two  players,\n\teach: naïve 日本 👩‍👩‍👧 12 345 !";
    let encoding = tokenizer.encode(text, Special::AsIs).unwrap();
    assert_eq!(tokenizer.decode(&encoding.ids).unwrap(), text);
    let mut at = 0;
    for (id, range) in encoding.ids.iter().zip(&encoding.offsets) {
        assert!(range.start <= at && range.end >= at && range.end > range.start, "{id} {range:?}");
        assert!(text.get(range.clone()).is_some());
        at = range.end;
    }
    assert_eq!(at, text.len());
}

#[test]
fn tokens_read_as_text() {
    let Some(tokenizer) = tokenizer() else { return };
    let encoding = tokenizer.encode("<|im_start|>user\n you 👩", Special::AsIs).unwrap();
    let pieces: Vec<String> = encoding.ids.iter().map(|id| tokenizer.token_text(*id)).collect();
    assert_eq!(&pieces[..4], ["<|im_start|>", "user", "\n", " you"]);
    assert!(pieces[4..].iter().any(|piece| piece.starts_with("<0x") || piece.contains('<')), "{pieces:?}");
    assert_eq!(tokenizer.token_text(4_000_000), "<id 4000000>");
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(1), Some(2)));
    assert!(!tokenizer.adds_bos());
}

#[test]
fn a_bos_at_every_turn_is_no_fault_and_two_at_the_start_are() {
    let Some(tokenizer) = tokenizer() else { return };
    let chat = [
        Message { role: "system".to_owned(), content: "Be brief.".to_owned() },
        Message::user("Hello"),
        Message { role: "assistant".to_owned(), content: "Hi".to_owned() },
        Message::user("user"),
    ];
    let tokens = tokenizer.tokens_prompt(&chat[..], Wrapping::Auto).unwrap();
    assert_eq!(tokens.ids.iter().filter(|id| **id == 1).count(), 5);
    let found: Vec<&str> =
        tokens.content_ranges.iter().map(|range| &tokens.text[range.clone().unwrap()]).collect();
    assert_eq!(found, ["Be brief.", "Hello", "Hi", "user"]);
    let error = tokenizer.tokens_prompt("<|im_start|><|im_start|>a", Wrapping::Raw).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the prompt starts with 2 BOS tokens (`<|im_start|>`), where the model expects one; remove it from the text"
    );
}
