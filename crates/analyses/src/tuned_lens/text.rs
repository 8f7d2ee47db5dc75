//! The text that lenses are trained on: documents that have nothing to do with a study's prompts.
//!
//! Prompts of one design share so many words that a map fitted to them learns which words end in which answer. The text that
//! is built in (`data/text`) speaks of other things; `text = FILE` puts another in its place.

use super::plan::FEWEST;
use super::settings::Settings;
use super::wrong;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_record::sha256_hex;
use lorascope_text::{Message, Special, TextError, Tokenizer, Wrapping};
use std::path::Path;

/// The files of the built-in text, in their order.
const BUILT_IN: [&str; 9] = [
    include_str!("../../data/text/stories.txt"),
    include_str!("../../data/text/explanations.txt"),
    include_str!("../../data/text/dialogues.txt"),
    include_str!("../../data/text/instructions.txt"),
    include_str!("../../data/text/letters_and_reports.txt"),
    include_str!("../../data/text/essays.txt"),
    include_str!("../../data/text/longer_pieces.txt"),
    include_str!("../../data/text/code_and_numbers.txt"),
    include_str!("../../data/text/languages.txt"),
];

/// The documents of the built-in text, which speaks of anything but games and choices: for training lenses, and for seeing what a
/// fine-tuning does where it should do nothing.
pub fn unrelated_text() -> Vec<String> {
    BUILT_IN.iter().flat_map(|file| split(file)).collect()
}

/// The documents of the text that the settings name.
///
/// # Errors
/// A file that can't be read, is not UTF-8, is empty, has fewer than ten documents, or is not the one that the settings were
/// resolved with.
pub(super) fn documents(settings: &Settings) -> Result<Vec<String>> {
    let Some(path) = &settings.text else {
        return Ok(unrelated_text());
    };
    let text = read(path)?;
    let found = sha256_hex(text.as_bytes());
    if let Some(expected) = settings.text_sha256.as_ref().filter(|e| **e != found) {
        return wrong(format!(
            "text file `{path}` has SHA-256 {found} and not {expected}; give back the file that the run was begun with, or \
             begin another run"
        ));
    }
    let documents = split(&text);
    match documents.len() {
        0 => wrong(format!(
            "text file `{path}` is empty; it must have documents with blank lines between them"
        )),
        n if n < FEWEST => wrong(format!(
            "text file `{path}` has {n} document(s), and training, choosing and judging a lens needs {FEWEST} at least; \
             put a blank line between documents, or add some"
        )),
        _ => Ok(documents),
    }
}

/// The documents as tokens. Where the study's prompts go through a chat template, every second document does too: its first half
/// as the user's message, the rest as the beginning of the answer. The lens is read within answers, and states there are
/// shaped by the template's tokens.
///
/// # Errors
/// As [`documents`]; a document that has no tokens, or that the template refuses.
pub(super) fn tokens(subject: &Subject, settings: &Settings) -> Result<Vec<Vec<u32>>> {
    let has_chats = has_chats(subject);
    let one = |(i, document): (usize, &String)| {
        let found = if has_chats && i % 2 == 1 {
            as_answer(&subject.tokenizer, document)
        } else {
            subject.tokenizer.tokens_prompt(document.as_str(), Wrapping::Raw).map(|t| t.ids)
        };
        found.or_else(|e| wrong(format!("document {} of the text: {e}", i + 1)))
    };
    documents(settings)?.iter().enumerate().map(one).collect()
}

/// Whether documents go through the chat template, too.
pub(super) fn has_chats(subject: &Subject) -> bool {
    subject.prompts.iter().all(|p| p.tokens.used_chat_template)
}

/// A document in the chat template, as the module describes.
fn as_answer(tokenizer: &Tokenizer, document: &str) -> std::result::Result<Vec<u32>, TextError> {
    let (question, answer) = halves(document);
    let rendered = tokenizer.render_chat(&[Message::user(question)])?;
    Ok(tokenizer.encode(&(rendered.text + answer), Special::AsIs)?.ids)
}

/// A document in two, at the first space after its middle.
fn halves(document: &str) -> (&str, &str) {
    let middle = document.len() / 2;
    let cut = document.char_indices().find(|&(at, c)| at >= middle && c.is_whitespace());
    let (question, answer) = document.split_at(cut.map_or(document.len(), |(at, _)| at));
    (question, answer.trim_start())
}

/// SHA-256 of the named file.
pub(super) fn sha256(path: &str) -> Result<String> {
    Ok(sha256_hex(read(path)?.as_bytes()))
}

fn read(path: &str) -> Result<String> {
    let bytes = std::fs::read(Path::new(path));
    let text = bytes.map_err(|e| e.to_string()).and_then(|b| {
        String::from_utf8(b).map_err(|e| format!("not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
    });
    text.or_else(|why| wrong(format!("text file `{path}` can't be read: {why}")))
}

/// What stands between blank lines; lines of spaces are blank.
fn split(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_blank = line.trim().is_empty();
        match documents.last_mut().filter(|_| is_open) {
            _ if is_blank => {}
            Some(document) => {
                document.push('\n');
                document.push_str(line);
            }
            None => documents.push(line.to_owned()),
        }
        is_open = !is_blank;
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Analysis;
    use serde_json::json;

    #[test]
    fn the_built_in_text_is_large_varied_and_about_other_things() {
        let documents = documents(&Settings::default()).expect("it is built in");
        let bytes: usize = documents.iter().map(String::len).sum();
        assert!(documents.len() >= 120, "{} documents", documents.len());
        assert!((80_000..130_000).contains(&bytes), "{bytes} bytes");
        let mut distinct = documents.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), documents.len(), "a document stands twice");
        for word in ["defect", "cooperat", "payoff", "prisoner", "dilemma", "action1", "action2"] {
            let has = documents.iter().find(|d| d.to_lowercase().contains(word));
            assert_eq!(has, None, "a document speaks of `{word}`");
        }
    }

    #[test]
    fn blank_lines_separate_documents() {
        let text = "\u{feff}one\n  two\n\n \n\nthree\r\n\r\nfour\n";
        assert_eq!(split(text), ["one\n  two", "three", "four"]);
        assert!(split(" \n\n").is_empty());
    }

    #[test]
    fn a_document_is_cut_between_words() {
        assert_eq!(halves("one two three four"), ("one two three", "four"));
        assert_eq!(halves("größer\n  als"), ("größer", "als"));
        assert_eq!(halves("word"), ("word", ""));
    }

    #[test]
    fn a_bad_file_is_refused_before_anything_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let refusal = |name: &str, content: Option<&[u8]>| {
            let path = folder.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).expect("a file");
            }
            let given = json!({"text": path.to_str().expect("UTF-8")});
            super::super::TunedLens.settings(&given).expect_err(name).to_string()
        };
        assert!(refusal("missing.txt", None).contains("missing.txt` can't be read: No such file"));
        assert!(refusal("empty.txt", Some(b"\n \n")).contains("empty.txt` is empty"));
        assert!(refusal("few.txt", Some(b"one\n\ntwo")).contains("few.txt` has 2 document(s)"));
        assert!(refusal("latin1.txt", Some(b"caf\xe9")).contains("not UTF-8 from byte 3 on"));
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text.txt");
        let write = |last: &str| std::fs::write(&path, "word\n\n".repeat(12) + last).expect("a file");
        write("end");
        let given = json!({"text": path.to_str().expect("UTF-8")});
        let resolved = super::super::TunedLens.settings(&given).expect("a good file");
        assert_eq!(resolved["text_sha256"].as_str().map(str::len), Some(64));
        assert_eq!(super::super::TunedLens.settings(&resolved).expect("the same file"), resolved);
        write("another end");
        let said = super::super::TunedLens.settings(&resolved).expect_err("another file").to_string();
        assert!(said.contains("give back the file"), "{said}");
    }
}
