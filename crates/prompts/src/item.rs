//! One prompt: its text or chat, its two answers, its named spans. Plain data; the checks are in
//! `check`, the JSON form in `json` and `read`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::check::check_answers;
use crate::error::{Problem, PromptError};

/// Roles that a message may have. Whether a model's chat template takes each of them is for the
/// template to say.
pub const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks, one of [`ROLES`].
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What is put to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Key `prompt`: one text. With a chat template it is the only, user, message.
    Text(String),
    /// Key `messages`: a chat.
    Messages(Vec<Message>),
}

impl Content {
    /// The content as turns `(role, text)`; a plain text is one turn of the user.
    pub fn turns(&self) -> Vec<(&str, &str)> {
        match self {
            Content::Text(text) => vec![("user", text)],
            Content::Messages(messages) => {
                messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect()
            }
        }
    }
}

/// A named stretch of a prompt, in UTF-8 bytes. The same name may occur more than once in an item:
/// the parts together are then what the name stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What the stretch is, e.g. `answer_format`.
    pub name: String,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Which message the offsets are in, counted from 0. `None` for a plain text.
    pub message: Option<usize>,
    /// Other keys of a foreign file, kept as they are.
    pub rest: BTreeMap<String, Value>,
}

impl Span {
    /// A span of a plain text.
    pub fn new(name: impl Into<String>, start: usize, end: usize) -> Self {
        Span { name: name.into(), start, end, message: None, rest: BTreeMap::new() }
    }

    /// The same span, in message number `message` (counted from 0) of a chat.
    pub fn in_message(mut self, message: usize) -> Self {
        self.message = Some(message);
        self
    }
}

/// One item of a prompt set.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Unique within the set; the `prompt_id` of every table.
    pub id: String,
    /// What is put to the model.
    pub content: Content,
    /// Answer A. `delta` is logp(B) − logp(A).
    pub answer_a: Option<String>,
    /// Answer B.
    pub answer_b: Option<String>,
    /// Named stretches of the text.
    pub spans: Vec<Span>,
    /// What figures and tables group by.
    pub scenario: Option<String>,
    /// Which variant of the scenario this is.
    pub variant: Option<String>,
    /// Cluster key for statistics: prompts made from the same template share it.
    pub template: Option<String>,
    /// Every other key, kept as it is.
    pub rest: BTreeMap<String, Value>,
}

impl Item {
    /// An item with nothing but an id and its content.
    pub fn new(id: impl Into<String>, content: Content) -> Self {
        Item {
            id: id.into(),
            content,
            answer_a: None,
            answer_b: None,
            spans: Vec::new(),
            scenario: None,
            variant: None,
            template: None,
            rest: BTreeMap::new(),
        }
    }

    /// The two answers (A, B) to compare on this item: its own where it names them, else `default`.
    ///
    /// # Errors
    /// Only one of the two is named, neither is named and there is no default, or the pair that
    /// counts is unusable (blank, equal up to white space, control characters).
    pub fn answers_for<'a>(
        &'a self,
        default: Option<(&'a str, &'a str)>,
    ) -> Result<(&'a str, &'a str), PromptError> {
        match (self.answer_a.as_deref(), self.answer_b.as_deref(), default) {
            (Some(a), Some(b), _) => {
                check_answers(a, b).map_err(|(key, problem)| self.problem(0, key, problem))?;
                Ok((a, b))
            }
            (None, None, Some((a, b))) => {
                check_answers(a, b).map_err(|(key, problem)| PromptError::DefaultAnswers { key, problem })?;
                Ok((a, b))
            }
            (None, None, None) => Err(PromptError::NoAnswers { id: self.id.clone() }),
            (Some(_), None, _) => Err(self.problem(0, "answer_a", Problem::Alone { other: "answer_b" })),
            (None, Some(_), _) => Err(self.problem(0, "answer_b", Problem::Alone { other: "answer_a" })),
        }
    }

    /// The key that items are clustered by in statistics: `template`, or the item's own id where
    /// it names none (each such item is its own cluster).
    pub fn cluster(&self) -> &str {
        self.template.as_deref().unwrap_or(&self.id)
    }

    /// The text that a span lies in, `None` where the span's message is not there.
    pub fn text_of(&self, span: &Span) -> Option<&str> {
        match (&self.content, span.message) {
            (Content::Text(text), None) => Some(text),
            (Content::Messages(messages), Some(at)) => messages.get(at).map(|m| m.content.as_str()),
            _ => None,
        }
    }

    /// The text that a span covers, `None` where its range does not fit.
    pub fn span_text(&self, span: &Span) -> Option<&str> {
        self.text_of(span)?.get(span.start..span.end)
    }

    /// All spans of this name, in the order in which they are listed.
    pub fn spans_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |s| s.name == name)
    }

    pub(crate) fn problem(&self, index: usize, key: impl Into<String>, problem: Problem) -> PromptError {
        PromptError::Item { index, id: self.id.clone(), key: key.into(), problem }
    }
}
