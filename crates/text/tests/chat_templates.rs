//! Chat templates against transformers: every template of `fixtures/chat` with every chat of its `cases.json`, byte for
//! byte, refusals with their messages.
//!
//! `scripts/chat_fixtures.py` makes `cases.json`, also for a folder of other templates, which `LORASCOPE_CHAT_CASES`
//! can name instead.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorascope_text::{Clock, GgufTokenizer, Message, Rendered, TextError, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    now: i64,
    special_tokens: BTreeMap<String, String>,
    chats: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    chat: String,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    /// The rendered chat.
    Text(String),
    /// The message of `raise_exception`.
    Raised(String),
    /// Any other failure; Python's words for it differ.
    Failed(#[allow(dead_code, reason = "shown for debugging only")] String),
}

fn cases_file() -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat/cases.json");
    std::env::var_os("LORASCOPE_CHAT_CASES").map_or_else(own, PathBuf::from)
}

fn read(path: &Path) -> Cases {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A tokenizer of special tokens only, with a template.
fn tokenizer(template: &str, cases: &Cases) -> lorascope_text::Result<Tokenizer> {
    let names = ["bos_token", "eos_token", "unk_token", "pad_token"];
    let meta = GgufTokenizer {
        model: "gpt2".to_owned(),
        tokens: names.iter().map(|name| cases.special_tokens[*name].clone()).collect(),
        token_types: vec![3; 4],
        bos_id: Some(0),
        eos_id: Some(1),
        unk_id: Some(2),
        pad_id: Some(3),
        chat_template: Some(template.to_owned()),
        ..GgufTokenizer::default()
    };
    let mut tokenizer = Tokenizer::from_gguf(&meta)?;
    tokenizer.set_clock(Clock::Fixed(cases.now));
    Ok(tokenizer)
}

fn outcome(template: &str, case: &Case, cases: &Cases) -> lorascope_text::Result<Rendered> {
    tokenizer(template, cases)?.render_chat(&cases.chats[&case.chat])
}

/// What is wrong with a rendering, or nothing.
fn complaint(case: &Case, outcome: &lorascope_text::Result<Rendered>) -> Option<String> {
    match (&case.expected, outcome) {
        (Expected::Text(expected), Ok(rendered)) if rendered.text == *expected => None,
        (Expected::Raised(expected), Err(TextError::TemplateRaised { message })) if message == expected => {
            None
        }
        (Expected::Failed(_), Err(TextError::TemplateFailed { .. } | TextError::TemplateSyntax { .. })) => {
            None
        }
        (Expected::Text(expected), other) => Some(format!("expected {expected:?}\n  got {other:?}")),
        (Expected::Raised(expected), other) => {
            Some(format!("expected a refusal {expected:?}\n  got {other:?}"))
        }
        (Expected::Failed(expected), other) => {
            Some(format!("expected a failure ({expected})\n  got {other:?}"))
        }
    }
}

#[test]
fn every_template_renders_every_chat_as_transformers_does() {
    let path = cases_file();
    let cases = read(&path);
    let folder = path.parent().unwrap();
    let mut complaints = Vec::new();
    for case in &cases.cases {
        let template = std::fs::read_to_string(folder.join(&case.template)).unwrap();
        if let Some(complaint) = complaint(case, &outcome(&template, case, &cases)) {
            complaints.push(format!("{} / {}: {complaint}", case.template, case.chat));
        }
    }
    assert!(!cases.cases.is_empty());
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn contents_are_found_where_they_are() {
    let path = cases_file();
    let cases = read(&path);
    let folder = path.parent().unwrap();
    let (mut found, mut missed) = (0, 0);
    for case in &cases.cases {
        let template = std::fs::read_to_string(folder.join(&case.template)).unwrap();
        let Ok(rendered) = outcome(&template, case, &cases) else { continue };
        for (index, message) in cases.chats[&case.chat].iter().enumerate() {
            let Some(range) = rendered.content_ranges[index].clone() else {
                missed += 1;
                continue;
            };
            found += 1;
            let start = rendered.trimmed_starts[index];
            let content = &message.content[start..start + range.len()];
            assert_eq!(&rendered.text[range.clone()], content, "{} / {}", case.template, case.chat);
            let is_space =
                |character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character);
            assert_eq!(content.trim_matches(is_space), message.content.trim_matches(is_space));
            assert_eq!(rendered.map_span(index, &(start..start + range.len())), Some(range));
        }
    }
    // Not found: what a template drops (unknown roles), rewrites (thoughts) or escapes (JSON).
    assert!(found > 3 * missed, "{found} found, {missed} not");
}
