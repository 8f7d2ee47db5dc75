//! The checks that every prompt set passes before anything uses it.

use std::collections::{HashMap, HashSet};

use crate::error::{Problem, PromptError};
use crate::item::{Content, Item, Message, ROLES, Span};
use crate::json::ITEM_KEYS;
use crate::set::{MAX_ITEMS, MAX_MESSAGES, MAX_NAME_BYTES, MAX_SPANS, MAX_TEXT_BYTES};

/// A problem and the key that it is about.
type Found = (String, Problem);

/// Checks a set as a whole and each of its items.
pub(crate) fn check_set(items: &[Item]) -> Result<(), PromptError> {
    if items.is_empty() {
        return Err(PromptError::Empty);
    }
    if items.len() > MAX_ITEMS {
        return Err(PromptError::TooMany { found: items.len(), limit: MAX_ITEMS });
    }
    for (index, item) in items.iter().enumerate() {
        check_item(item).map_err(|(key, problem)| item.problem(index, key, problem))?;
    }
    check_distinct(items)
}

fn check_distinct(items: &[Item]) -> Result<(), PromptError> {
    let mut ids = HashMap::new();
    let mut prompts = HashMap::new();
    for (second, item) in items.iter().enumerate() {
        if let Some(first) = ids.insert(item.id.as_str(), second) {
            return Err(PromptError::DuplicateId { id: item.id.clone(), first, second });
        }
        if let Some(first) = prompts.insert(item.content.turns(), item.id.as_str()) {
            return Err(PromptError::SamePrompt { first: first.to_owned(), second: item.id.clone() });
        }
    }
    Ok(())
}

fn check_item(item: &Item) -> Result<(), Found> {
    check_name(&item.id).map_err(|p| ("id".to_owned(), p))?;
    check_content(&item.content)?;
    match (&item.answer_a, &item.answer_b) {
        (Some(a), Some(b)) => check_answers(a, b).map_err(|(key, p)| (key.to_owned(), p))?,
        (Some(_), None) => return Err(("answer_a".into(), Problem::Alone { other: "answer_b" })),
        (None, Some(_)) => return Err(("answer_b".into(), Problem::Alone { other: "answer_a" })),
        (None, None) => {}
    }
    for (key, value) in
        [("scenario", &item.scenario), ("variant", &item.variant), ("template", &item.template)]
    {
        if let Some(value) = value {
            check_name(value).map_err(|p| (key.to_owned(), p))?;
        }
    }
    check_spans(item)?;
    match item.rest.keys().find(|k| ITEM_KEYS.contains(&k.as_str())) {
        Some(key) => Err((key.clone(), Problem::Reserved)),
        None => Ok(()),
    }
}

/// Checks that two answers can be told apart: neither blank, no control characters other than line
/// breaks and tabs, and different in more than surrounding white space (each answer is scored with
/// and without a leading space, so `A` and ` A` are one).
///
/// # Errors
/// The key (`answer_a` or `answer_b`) and what is wrong with it.
pub fn check_answers(a: &str, b: &str) -> Result<(), (&'static str, Problem)> {
    check_text(a).map_err(|p| ("answer_a", p))?;
    check_text(b).map_err(|p| ("answer_b", p))?;
    if a.trim() == b.trim() {
        return Err(("answer_a", Problem::SameAnswers { a: a.to_owned(), b: b.to_owned() }));
    }
    Ok(())
}

fn check_content(content: &Content) -> Result<(), Found> {
    match content {
        Content::Text(text) => check_text(text).map_err(|p| ("prompt".into(), p)),
        Content::Messages(messages) if messages.is_empty() => Err((
            "messages".into(),
            Problem::Type { expected: "at least one message", found: "empty".into() },
        )),
        Content::Messages(messages) if messages.len() > MAX_MESSAGES => {
            Err(("messages".into(), Problem::TooMany { found: messages.len(), limit: MAX_MESSAGES }))
        }
        Content::Messages(messages) => {
            let total = messages.iter().map(|m| m.content.len()).sum();
            check_length(total).map_err(|p| ("messages".to_owned(), p))?;
            messages.iter().enumerate().try_for_each(|(at, m)| check_message(at, m))
        }
    }
}

fn check_message(at: usize, message: &Message) -> Result<(), Found> {
    if !ROLES.contains(&message.role.as_str()) {
        return Err((format!("messages[{at}].role"), Problem::Role { role: message.role.clone() }));
    }
    let key = || format!("messages[{at}].content");
    // An empty system message is how a template's own default system prompt is switched off.
    if message.content.is_empty() && message.role == "system" {
        return Ok(());
    }
    check_text(&message.content).map_err(|p| (key(), p))
}

fn check_spans(item: &Item) -> Result<(), Found> {
    if item.spans.len() > MAX_SPANS {
        let problem = Problem::TooMany { found: item.spans.len(), limit: MAX_SPANS };
        return Err(("spans".into(), problem));
    }
    let mut seen = HashSet::new();
    for (at, span) in item.spans.iter().enumerate() {
        check_name(&span.name).map_err(|p| (format!("spans[{at}].name"), p))?;
        check_span(item, span).map_err(|(key, p)| (format!("spans[{at}]{key}"), p))?;
        if !seen.insert((&span.name, span.message, span.start, span.end)) {
            let problem = Problem::SpanTwice { name: span.name.clone(), start: span.start, end: span.end };
            return Err((format!("spans[{at}]"), problem));
        }
        if let Some(key) = span.rest.keys().find(|k| crate::json::SPAN_KEYS.contains(&k.as_str())) {
            return Err((format!("spans[{at}].{key}"), Problem::Reserved));
        }
    }
    Ok(())
}

fn check_span(item: &Item, span: &Span) -> Result<(), (&'static str, Problem)> {
    let messages = match &item.content {
        Content::Text(_) => 0,
        Content::Messages(messages) => messages.len(),
    };
    let text = match (item.text_of(span), span.message) {
        (Some(text), _) => text,
        (None, None) => return Err((".message", Problem::SpanNeedsMessage)),
        (None, Some(message)) => return Err((".message", Problem::SpanMessage { message, len: messages })),
    };
    let (start, end) = (span.start, span.end);
    if start >= end {
        return Err(("", Problem::EmptySpan { start, end }));
    }
    if end > text.len() {
        return Err(("", Problem::SpanRange { start, end, len: text.len() }));
    }
    if !text.is_char_boundary(start) || !text.is_char_boundary(end) {
        return Err(("", Problem::SpanBoundary { start, end }));
    }
    Ok(())
}

/// Ids, names and labels: short, one line.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.trim().is_empty() {
        return Err(Problem::Blank);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Problem::TooLong { bytes: name.len(), limit: MAX_NAME_BYTES });
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((offset, c)) => Err(Problem::Control { code: c as u32, offset }),
        None => Ok(()),
    }
}

/// Text for the model: not blank, not endless, and no control characters but line breaks and tabs.
fn check_text(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::Blank);
    }
    check_length(text.len())?;
    let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        Some((offset, c)) => Err(Problem::Control { code: c as u32, offset }),
        None => Ok(()),
    }
}

fn check_length(bytes: usize) -> Result<(), Problem> {
    if bytes > MAX_TEXT_BYTES {
        return Err(Problem::TooLong { bytes, limit: MAX_TEXT_BYTES });
    }
    Ok(())
}
