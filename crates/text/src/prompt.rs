//! Prompts: one text or a conversation, as token ids ready for the model.
//!
//! This is where a chat template meets the tokenizer: the template writes special tokens itself, so the rendered
//! text is encoded without adding any, and a prompt is checked to start with the BOS that the model expects, once.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Result, TextError};
use crate::spans;
use crate::tokenizer::{Encoding, Special, Tokenizer};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of the user's.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// What a prompt is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptInput<'a> {
    /// One text; a chat template gets it as one message of the user's.
    Text(&'a str),
    /// A conversation.
    Messages(&'a [Message]),
}

impl<'a> From<&'a str> for PromptInput<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [Message]> for PromptInput<'a> {
    fn from(messages: &'a [Message]) -> Self {
        Self::Messages(messages)
    }
}

/// Whether a prompt goes through the chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrapping {
    /// Through the template where the model has one, else as raw text.
    #[default]
    Auto,
    /// Through the template; an error where the model has none.
    ChatTemplate,
    /// As raw text, after the BOS if the tokenizer adds one; a conversation only if it is one user's message.
    Raw,
}

/// A conversation as the model reads it, up to where its answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text, special tokens written out.
    pub text: String,
    /// For each message the bytes of `text` that hold its content; none where the template dropped, repeated or
    /// altered it in another way than by trimming its ends.
    pub content_ranges: Vec<Option<Range<usize>>>,
    /// For each message how many bytes of its content's start the template trimmed; 0 where it wasn't found.
    pub trimmed_starts: Vec<usize>,
}

/// A prompt as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// The text that was encoded: the rendered chat, or the raw text.
    pub text: String,
    /// Token ids, from the first to the last before the answer.
    pub ids: Vec<u32>,
    /// For each token the bytes of `text` it stands for (see [`Encoding::offsets`]).
    pub offsets: Vec<Range<usize>>,
    /// As [`Rendered::content_ranges`]; a raw text is one message.
    pub content_ranges: Vec<Option<Range<usize>>>,
    /// As [`Rendered::trimmed_starts`].
    pub trimmed_starts: Vec<usize>,
    /// Whether the chat template was applied.
    pub used_chat_template: bool,
}

/// Maps bytes of a message's content into the text it was put in; nothing where the content wasn't found there,
/// or the bytes aren't all in it (trimmed away, or beyond its end).
fn map_span(place: Option<&Range<usize>>, trimmed_start: usize, span: &Range<usize>) -> Option<Range<usize>> {
    let place = place?;
    let start = span.start.checked_sub(trimmed_start)? + place.start;
    let end = span.end.checked_sub(trimmed_start)? + place.start;
    (start <= end && end <= place.end).then_some(start..end)
}

impl Rendered {
    /// Where bytes of a message's content lie in the text; nothing if any of them isn't there.
    pub fn map_span(&self, message: usize, span: &Range<usize>) -> Option<Range<usize>> {
        let place = self.content_ranges.get(message)?.as_ref();
        map_span(place, *self.trimmed_starts.get(message)?, span)
    }
}

impl PromptTokens {
    /// Where bytes of a message's content lie in the text; nothing if any of them isn't there.
    pub fn map_span(&self, message: usize, span: &Range<usize>) -> Option<Range<usize>> {
        let place = self.content_ranges.get(message)?.as_ref();
        map_span(place, *self.trimmed_starts.get(message)?, span)
    }

    /// The tokens that stand for any of the given bytes of the text; an empty range for no bytes.
    pub fn tokens_of(&self, bytes: &Range<usize>) -> Range<usize> {
        let overlaps = |token: &Range<usize>| token.start < bytes.end && bytes.start < token.end;
        let Some(first) = self.offsets.iter().position(overlaps) else { return 0..0 };
        let last = self.offsets.iter().rposition(overlaps).unwrap_or(first);
        first..last + 1
    }
}

impl Tokenizer {
    /// Renders a conversation with the model's chat template, up to where the model's answer begins.
    ///
    /// # Errors
    /// No template, no messages, or a failure of the template.
    pub fn render_chat(&self, messages: &[Message]) -> Result<Rendered> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        if messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        let text = template.render(messages, &self.special_tokens)?;
        // The second rendering only serves to find the texts; a template that refuses the marks leaves them unfound.
        let marked = spans::marked(messages, &text)
            .and_then(|marked| template.render(&marked, &self.special_tokens).ok());
        let places = match marked {
            Some(marked) => spans::locate(messages, &text, &marked),
            None => vec![None; messages.len()],
        };
        let trimmed_starts =
            places.iter().map(|place| place.as_ref().map_or(0, |place| place.trimmed_start)).collect();
        let content_ranges = places.into_iter().map(|place| place.map(|place| place.range)).collect();
        Ok(Rendered { text, content_ranges, trimmed_starts })
    }

    /// Jinja source of the chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(|template| template.source())
    }

    /// Whether rendering a chat depends on the date (see [`Tokenizer::set_clock`]).
    pub fn chat_depends_on_date(&self) -> bool {
        self.template.as_ref().is_some_and(|template| template.reads_clock())
    }

    /// Sets the moment that the chat template takes for now, so that the same conversation gives the same prompt on
    /// any day.
    pub fn set_clock(&mut self, clock: Clock) {
        if let Some(template) = &mut self.template {
            template.set_clock(clock);
        }
    }

    /// The token ids of a prompt, ready for the model: wrapped as asked, special tokens neither missing nor doubled.
    ///
    /// For a tokenizer that puts a BOS before plain text, the prompt must start with exactly one. For the others a
    /// template may write one at the start or none, and more than one is an error. Only the start is looked at:
    /// a chat may use the same token further on (SmolLM2 begins every turn with its BOS `<|im_start|>`).
    ///
    /// # Errors
    /// An empty prompt, a failure of the template, a BOS missing or doubled.
    pub fn tokens_prompt<'a>(
        &self,
        input: impl Into<PromptInput<'a>>,
        wrapping: Wrapping,
    ) -> Result<PromptTokens> {
        let input = input.into();
        let is_chat = match wrapping {
            Wrapping::Auto => self.has_chat_template(),
            Wrapping::ChatTemplate => true,
            Wrapping::Raw => false,
        };
        let prompt = match (is_chat, input) {
            (_, PromptInput::Text("")) => return Err(TextError::EmptyPrompt),
            (true, PromptInput::Text(text)) => self.chat_tokens(&[Message::user(text)])?,
            (true, PromptInput::Messages(messages)) => self.chat_tokens(messages)?,
            (false, PromptInput::Text(text)) => self.raw_tokens(text)?,
            (false, PromptInput::Messages(messages)) => self.raw_tokens(single_text(messages)?)?,
        };
        if prompt.ids.is_empty() {
            return Err(TextError::EmptyPrompt);
        }
        self.check_bos(&prompt)?;
        Ok(prompt)
    }

    fn chat_tokens(&self, messages: &[Message]) -> Result<PromptTokens> {
        let Rendered { text, content_ranges, trimmed_starts } = self.render_chat(messages)?;
        let Encoding { ids, offsets } = self.encode(&text, Special::AsIs)?;
        Ok(PromptTokens { text, ids, offsets, content_ranges, trimmed_starts, used_chat_template: true })
    }

    fn raw_tokens(&self, text: &str) -> Result<PromptTokens> {
        let Encoding { ids, offsets } = self.encode_raw_prompt(text)?;
        Ok(PromptTokens {
            text: text.to_owned(),
            ids,
            offsets,
            content_ranges: vec![Some(0..text.len())],
            trimmed_starts: vec![0],
            used_chat_template: false,
        })
    }

    fn check_bos(&self, prompt: &PromptTokens) -> Result<()> {
        let Some(bos_id) = self.bos_id() else { return Ok(()) };
        let count = prompt.ids.iter().take_while(|id| **id == bos_id).count();
        let bos = || self.token_text(bos_id);
        match count {
            0 if self.adds_bos() && prompt.used_chat_template => Err(TextError::MissingBos { bos: bos() }),
            0 | 1 => Ok(()),
            _ => {
                let culprit = if prompt.used_chat_template { "chat template or the message" } else { "text" };
                Err(TextError::RepeatedBos { count, bos: bos(), culprit })
            }
        }
    }
}

/// The text of a conversation that is one message of the user's.
fn single_text(messages: &[Message]) -> Result<&str> {
    match messages {
        [] => Err(TextError::NoMessages),
        [message] if message.role == "user" && message.content.is_empty() => Err(TextError::EmptyPrompt),
        [message] if message.role == "user" => Ok(&message.content),
        _ => {
            let roles = messages.iter().map(|message| format!("`{}`", message.role));
            Err(TextError::NotOneText { roles: roles.collect::<Vec<_>>().join(", ") })
        }
    }
}
