//! SentencePiece tokenizers rebuilt from GGUF arrays: against the tokenizers that transformers builds from the same
//! arrays, and against SentencePiece itself.
//!
//! `scripts/sentencepiece_fixtures.py` made the fixtures: two small models, one in Llama's manner, one in Gemma's.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::PathBuf;

use lorascope_text::{GgufTokenizer, Special, TextError, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Arrays {
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    bos_id: u32,
    eos_id: u32,
    unk_id: u32,
    pad_id: Option<u32>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentencepiece").join(name)
}

fn metadata(name: &str) -> GgufTokenizer {
    let file = std::fs::read(fixture(&format!("{name}.gguf.json"))).unwrap();
    let arrays: Arrays = serde_json::from_slice(&file).unwrap();
    GgufTokenizer {
        model: "llama".to_owned(),
        tokens: arrays.tokens,
        scores: arrays.scores,
        token_types: arrays.token_types,
        bos_id: Some(arrays.bos_id),
        eos_id: Some(arrays.eos_id),
        unk_id: Some(arrays.unk_id),
        pad_id: arrays.pad_id,
        ..GgufTokenizer::default()
    }
}

fn assert_as_transformers(name: &str) {
    let meta = metadata(name);
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    let reference = tokenizers::Tokenizer::from_file(fixture(&format!("{name}.tokenizer.json"))).unwrap();
    for line in support::mixed_lines(7, 10_000) {
        let encoding = tokenizer.encode(&line, Special::AsIs).unwrap();
        let expected = reference.encode(line.as_str(), false).unwrap();
        assert_eq!(encoding.ids, expected.get_ids(), "{line:?}");
        let offsets: Vec<_> = encoding.offsets.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(offsets, expected.get_offsets(), "{line:?}");
        assert_eq!(tokenizer.decode(&encoding.ids).unwrap(), reference.decode(&encoding.ids, false).unwrap());
        let with_bos = tokenizer.encode(&line, Special::AddBos).unwrap();
        assert_eq!(with_bos.ids[0], meta.bos_id.unwrap());
        assert_eq!(with_bos.ids[1..], encoding.ids);
        assert_eq!(with_bos.offsets[0], 0..0);
    }
}

fn assert_as_sentencepiece(name: &str) {
    let tokenizer = Tokenizer::from_gguf(&metadata(name)).unwrap();
    let file = std::fs::read(fixture(&format!("{name}.ids.json"))).unwrap();
    let lines: Vec<Line> = serde_json::from_slice(&file).unwrap();
    assert!(lines.len() > 10);
    for line in lines {
        let encoding = tokenizer.encode(&line.text, Special::AsIs).unwrap();
        assert_eq!(encoding.ids, line.ids, "{:?}", line.text);
    }
}

#[test]
fn llama_like_ids_are_those_of_transformers() {
    assert_as_transformers("llama");
}

#[test]
fn gemma_like_ids_are_those_of_transformers() {
    assert_as_transformers("gemma");
}

#[test]
fn llama_like_ids_are_those_of_sentencepiece() {
    assert_as_sentencepiece("llama");
}

#[test]
fn gemma_like_ids_are_those_of_sentencepiece() {
    assert_as_sentencepiece("gemma");
}

#[test]
fn the_space_before_the_text_can_be_switched_off() {
    let meta = GgufTokenizer { add_space_prefix: Some(false), ..metadata("llama") };
    let bare = Tokenizer::from_gguf(&meta).unwrap();
    let prefixed = Tokenizer::from_gguf(&metadata("llama")).unwrap();
    let pieces = |tokenizer: &Tokenizer, text: &str| {
        let ids = tokenizer.encode(text, Special::AsIs).unwrap().ids;
        ids.iter().map(|id| tokenizer.token_text(*id)).collect::<Vec<_>>()
    };
    assert_eq!(pieces(&prefixed, "the"), [" the"]);
    assert_eq!(pieces(&bare, " the"), [" the"]);
    assert_ne!(pieces(&bare, "the"), [" the"]);
}

#[test]
fn without_scores_there_is_no_order_of_merges() {
    let meta = GgufTokenizer { scores: Vec::new(), ..metadata("llama") };
    let error = Tokenizer::from_gguf(&meta).unwrap_err();
    assert_eq!(
        error.to_string(),
        "GGUF metadata `tokenizer.ggml.scores`: absent, and there are no merges either"
    );
    let mut meta = metadata("llama");
    meta.scores[300] = f32::NAN;
    assert!(matches!(Tokenizer::from_gguf(&meta), Err(TextError::InvalidGguf { .. })));
}
