//! The set as a whole: reading, writing, limits.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::check::check_set;
use crate::error::PromptError;
use crate::item::Item;
use crate::json::pretty;
use crate::read::set_from_text;

/// Largest prompt file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 256 << 20;
/// Most items of a set.
pub const MAX_ITEMS: usize = 1_000_000;
/// Longest prompt, or longest chat, in bytes. (Whether it fits a model's context is for the model
/// to say.)
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// Longest id, scenario, variant, template or span name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Most messages of one chat.
pub const MAX_MESSAGES: usize = 1000;
/// Most spans of one item.
pub const MAX_SPANS: usize = 10_000;

/// A list of prompts, pairwise distinct once validated.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptSet {
    /// The prompts, in the order of every table.
    pub items: Vec<Item>,
    /// The other keys of a file that is an object `{"items": […], …}`; empty for a plain array.
    pub meta: Map<String, Value>,
}

impl PromptSet {
    /// A set of these items, without further keys. Not validated.
    pub fn new(items: Vec<Item>) -> Self {
        PromptSet { items, meta: Map::new() }
    }

    /// Reads and validates a JSON file.
    ///
    /// # Errors
    /// The file cannot be read, or what [`PromptSet::parse`] says of its content.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PromptError> {
        let path = path.as_ref();
        let io = |source| PromptError::Io { path: path.to_owned(), source };
        let inside = |e| PromptError::InFile { path: path.to_owned(), source: Box::new(e) };
        let mut bytes = Vec::new();
        // One byte more than allowed is enough to know; a pipe or a device has no length to ask for.
        let limit = MAX_FILE_BYTES as u64 + 1;
        File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(inside(PromptError::TooLarge { limit: MAX_FILE_BYTES }));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| inside(PromptError::NotUtf8 { offset: e.valid_up_to() }))?;
        Self::parse(text).map_err(inside)
    }

    /// Reads a set from JSON text and validates it.
    ///
    /// # Errors
    /// Not JSON, not a prompt set, or not valid.
    pub fn parse(text: &str) -> Result<Self, PromptError> {
        let set = set_from_text(text)?;
        set.validate()?;
        Ok(set)
    }

    /// Checks that the set can be used: not empty, unique ids, pairwise distinct prompts (a plain
    /// `prompt` equals a chat of that one user message), no blank text or control characters, known
    /// roles, answers usable, spans inside their text and on character boundaries, limits kept.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), PromptError> {
        if self.meta.contains_key("items") {
            return Err(PromptError::Shape { found: "an object whose extra keys hold `items` again".into() });
        }
        check_set(&self.items)
    }

    /// The set as JSON text: an array of items, or an object with `items` where there are other
    /// keys. The same set always gives the same bytes.
    pub fn to_json(&self) -> String {
        pretty(self)
    }

    /// Writes the set to a file, through a temporary file beside it, so that a run that is killed
    /// never leaves half a file under this name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PromptError> {
        let path = path.as_ref();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let io = |source| PromptError::Io { path: path.to_owned(), source };
        fs::write(&part, self.to_json()).map_err(io)?;
        fs::rename(&part, path).map_err(io)
    }
}
