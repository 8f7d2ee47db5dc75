//! What unit tests share: a tiny model of any family with an adapter, on prompts of its own.

use crate::subject::{Meanings, Subject};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Model};
use lorascope_prompts::PromptSet;
use lorascope_text::{Tokenizer, Wrapping};
use serde_json::{Value, json};
use std::path::Path;

/// The families of the tiny models.
pub const FAMILIES: [&str; 7] = ["llama", "gemma2", "gemma3", "gpt2", "mistral", "qwen2", "qwen3"];

/// A word is a token.
fn tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().expect("a folder");
    let mut vocab: serde_json::Map<String, Value> =
        (0..200).map(|i| (format!("w{i}"), json!(i + 3))).collect();
    for (id, word) in ["<unk>", "<eos>", "<bos>"].iter().enumerate() {
        vocab.insert((*word).to_owned(), json!(id));
    }
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    });
    let write =
        |name: &str, value: &Value| std::fs::write(dir.path().join(name), value.to_string()).expect("a file");
    write("tokenizer.json", &tokenizer);
    write("tokenizer_config.json", &json!({"bos_token": "<bos>", "eos_token": "<eos>"}));
    Tokenizer::from_folder(dir.path()).expect("a tokenizer")
}

/// Three prompts of some 24 words, more than the windows of the tiny models, with nested spans.
fn prompts() -> PromptSet {
    let item = |i: usize| {
        let words: Vec<String> =
            (0..24 + i).map(|t| format!("w{}", (7 * t * t + 11 * i * t + 5) % 90)).collect();
        let text = words.join(" ");
        let at = |n: usize| words[..n].iter().map(|w| w.len() + 1).sum::<usize>();
        json!({
            "id": format!("p{i}"), "prompt": text, "answer_a": "w7", "answer_b": "w8", "template": format!("t{i}"),
            "spans": [
                {"name": "outer", "start": at(3), "end": at(9) - 1}, {"name": "inner", "start": at(5), "end": at(7) - 1},
                {"name": "late", "start": at(18), "end": at(22) - 1},
            ],
        })
    };
    let set = json!((0..3).map(item).collect::<Vec<_>>());
    PromptSet::parse(&set.to_string()).expect("prompts")
}

/// A tiny model with its adapter `tuned` on three prompts; `None` (said aloud) without reference data.
pub fn subject(family: &str) -> Option<Subject> {
    subject_on(family, &prompts())
}

/// The same on prompts of words from `w0` to `w199`.
pub fn subject_on(family: &str, prompts: &PromptSet) -> Option<Subject> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tiny").join(family);
    if !dir.is_dir() {
        let required = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
        assert!(!required, "{} is missing, and LORASCOPE_REQUIRE_SHARED=1 demands it", dir.display());
        println!("skipped: reference data not found at {}", dir.display());
        return None;
    }
    let base = Checkpoint::open(&dir.join("model")).expect("a checkpoint");
    let adapters = [("tuned".to_owned(), dir.join("adapter"))];
    let model = Model::load(base, &adapters, DEFAULT_MEMORY).expect("a tiny model");
    let made = Subject::new(model, tokenizer(), prompts, None, Wrapping::Raw, Meanings::default());
    Some(made.expect("a subject"))
}
