//! Tokenizers, chat templates, prompt files.

use crate::{assert_is_told, files, folder};
use lorascope_prompts::PromptSet;
use lorascope_text::{GgufTokenizer, Message, PromptInput, Special, Tokenizer, Wrapping};
use std::time::{Duration, Instant};

/// No rendering may take longer, on however busy a machine; those of real templates take well under a millisecond.
const LONGEST_RENDERING: Duration = Duration::from_secs(120);

/// Texts that find the corners: several scripts, white space, a broken emoji, a special token.
const TEXTS: [&str; 4] = [
    "",
    "Keep or give?\n You",
    "\u{1f469}\u{200d}\u{1f52c} na\u{ef}ve \u{4f60}\u{597d}\t  x",
    "<s>[INST] 12345",
];

/// A chat template, put to a conversation and to a single text.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let tokens = || (0u8..=0x7f).map(|byte| char::from(byte).to_string());
    let meta = GgufTokenizer {
        model: "llama".to_owned(),
        tokens: ["<unk>", "<s>", "</s>"].into_iter().map(str::to_owned).chain(tokens()).collect(),
        token_types: [2, 3, 3].into_iter().chain(std::iter::repeat_n(1, 0x80)).collect(),
        scores: vec![0.0; 0x83],
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        chat_template: Some(source.to_owned()),
        ..GgufTokenizer::default()
    };
    let tokenizer = match Tokenizer::from_gguf(&meta) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert_is_told(&error.to_string()),
    };
    let turn = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let chat = [
        turn("system", "Be brief."),
        turn("user", "Keep or give?"),
        turn("assistant", "Give."),
        turn("user", "Why?"),
    ];
    for input in [PromptInput::Messages(&chat), PromptInput::Text("Keep or give?")] {
        let begun = Instant::now();
        match tokenizer.tokens_prompt(input, Wrapping::ChatTemplate) {
            Ok(prompt) => {
                for range in prompt.content_ranges.iter().flatten() {
                    assert!(
                        prompt.text.get(range.clone()).is_some(),
                        "{range:?} of a text of {}",
                        prompt.text.len()
                    );
                }
            }
            Err(error) => assert_is_told(&error.to_string()),
        }
        assert!(begun.elapsed() < LONGEST_RENDERING, "a rendering took {:?}", begun.elapsed());
    }
}

/// A `tokenizer.json`, and behind a separator a `tokenizer_config.json`, put to some texts.
pub fn tokenizer(data: &[u8]) {
    let (json, config) = files(data);
    let folder = folder(&[("tokenizer.json", json), ("tokenizer_config.json", config.unwrap_or(b"{}"))]);
    let tokenizer = match Tokenizer::from_folder(folder.path()) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert_is_told(&error.to_string()),
    };
    for text in TEXTS {
        match tokenizer.encode(text, Special::AddBos) {
            Ok(encoding) => {
                assert_eq!(encoding.ids.len(), encoding.offsets.len());
                for range in &encoding.offsets {
                    assert!(range.start <= range.end && range.end <= text.len(), "{range:?} of {text:?}");
                }
                for id in encoding.ids {
                    tokenizer.token_text(id);
                }
            }
            Err(error) => assert_is_told(&error.to_string()),
        }
        if let Err(error) = tokenizer.tokens_prompt(text, Wrapping::Auto) {
            assert_is_told(&error.to_string());
        }
    }
    if let Err(error) = tokenizer.decode(&[0, 1, 2]) {
        assert_is_told(&error.to_string());
    }
}

/// A prompt file. What is accepted is written and read again as the same set.
pub fn prompts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match PromptSet::parse(text) {
        Ok(set) => {
            let written = set.to_json();
            assert!(
                PromptSet::parse(&written).is_ok_and(|again| again == set),
                "written and read: {written}"
            );
        }
        Err(error) => assert_is_told(&error.to_string()),
    }
}
