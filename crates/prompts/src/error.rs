//! What can be wrong with a prompt set, and how it is said. Every message names the item, the key
//! and the offending value; nothing here decides whether something *is* wrong (see `check`).

use std::path::PathBuf;

/// Why a prompt set cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file cannot be read or written.
    #[error("prompt file `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is wrong with the content of this file.
    #[error("prompt file `{path}`: {source}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<PromptError>,
    },
    /// The text is longer than any prompt set should be.
    #[error("is larger than {limit} bytes; split it into several prompt files")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes are not UTF-8.
    #[error("is not UTF-8 text (first bad byte at offset {offset}); save it as UTF-8")]
    NotUtf8 {
        /// Byte offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// The text is not JSON.
    #[error("is not valid JSON: {message}{hint}")]
    Syntax {
        /// What the parser said, with line and column.
        message: String,
        /// What to do about it, where that can be guessed; may be empty.
        hint: &'static str,
    },
    /// The outermost JSON value is neither an array of items nor an object that holds one.
    #[error(
        "the outermost value is {found}; expected an array of items, or an object with the key `items` that holds one"
    )]
    Shape {
        /// What was found.
        found: String,
    },
    /// There is not a single item.
    #[error("holds no items; a prompt set needs at least one")]
    Empty,
    /// There are more items than any run could use.
    #[error("holds {found} items, more than the limit of {limit}; split it into several prompt files")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// One item is wrong.
    #[error("items[{index}]{}: key `{key}` {problem}", id_note(id))]
    Item {
        /// Position in the file, counted from 0.
        index: usize,
        /// The item's id, empty where it is not known (yet).
        id: String,
        /// The key that is wrong, e.g. `prompt` or `spans[2].end`.
        key: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Two items have the same id.
    #[error("items[{first}] and items[{second}] have the same id `{id}`; give each item its own")]
    DuplicateId {
        /// The id.
        id: String,
        /// Position of the first of the two.
        first: usize,
        /// Position of the second.
        second: usize,
    },
    /// Two items put exactly the same text to the model.
    #[error(
        "items `{first}` and `{second}` have the same prompt; a repeated prompt is no further evidence, remove one"
    )]
    SamePrompt {
        /// Id of the first of the two.
        first: String,
        /// Id of the second.
        second: String,
    },
    /// An item names no answers and there are no default answers.
    #[error(
        "item `{id}` names no `answer_a` and `answer_b`; add both keys, or give default answers for the set"
    )]
    NoAnswers {
        /// The item's id.
        id: String,
    },
    /// The default answers of a set are unusable.
    #[error("default answers: `{key}` {problem}")]
    DefaultAnswers {
        /// `answer_a` or `answer_b`.
        key: &'static str,
        /// What is wrong with them.
        problem: Problem,
    },
}

fn id_note(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (id `{id}`)") }
}

/// What is wrong with one key of an item. Reads on from "key `…`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The key must be there.
    #[error("is missing")]
    Missing,
    /// The key has a value of another type.
    #[error("is {found}; expected {expected}")]
    Type {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The key occurs twice in one JSON object.
    #[error("occurs twice; JSON readers disagree on which one counts, keep one")]
    Repeated,
    /// The key is given together with another that excludes it.
    #[error("is given together with `{other}`; give one of the two")]
    Excludes {
        /// The other key.
        other: &'static str,
    },
    /// The key needs another one beside it.
    #[error("is given without `{other}`; give both or neither")]
    Alone {
        /// The other key.
        other: &'static str,
    },
    /// The text is empty or white space only.
    #[error("is empty or white space only")]
    Blank,
    /// The text is too long.
    #[error("has {bytes} bytes, more than the limit of {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The list is too long.
    #[error("has {found} entries, more than the limit of {limit}")]
    TooMany {
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A character that no text for a model should hold.
    #[error("holds the control character U+{code:04X} at byte {offset}; remove it")]
    Control {
        /// The character's code point.
        code: u32,
        /// Its byte offset.
        offset: usize,
    },
    /// Both answers are the same.
    #[error("is `{a}` and `answer_b` is `{b}`: the two answers must differ in more than white space")]
    SameAnswers {
        /// Answer A.
        a: String,
        /// Answer B.
        b: String,
    },
    /// A role that no chat template knows.
    #[error("is `{role}`; known roles are {}", crate::item::ROLES.join(", "))]
    Role {
        /// The role.
        role: String,
    },
    /// A key of a message that would be lost.
    #[error("is not supported in a message; only `role` and `content` are")]
    MessageKey,
    /// A span ends before it starts, or has no length.
    #[error(
        "is the range {start}..{end}, which holds no byte; `end` is exclusive and must be larger than `start`"
    )]
    EmptySpan {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// A span reaches past the end of the text.
    #[error("is the range {start}..{end}, but the text has {len} bytes")]
    SpanRange {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Length of the text in bytes.
        len: usize,
    },
    /// A span starts or ends inside a character.
    #[error(
        "is the range {start}..{end}, which cuts a character in two; offsets count UTF-8 bytes, not characters"
    )]
    SpanBoundary {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// The same span is listed twice.
    #[error("repeats the span `{name}` {start}..{end}; list it once")]
    SpanTwice {
        /// Its name.
        name: String,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// A span of a chat does not say which message it is in.
    #[error("is missing: the item has `messages`, so each span must say which one it is in (counted from 0)")]
    SpanNeedsMessage,
    /// A span names a message that is not there.
    #[error("is {message}, but the item has {len} messages (counted from 0; none for a plain `prompt`)")]
    SpanMessage {
        /// The message it names.
        message: usize,
        /// How many messages there are.
        len: usize,
    },
    /// An extra key has a name that the schema uses itself.
    #[error("is one of the schema's own keys and cannot be an extra key")]
    Reserved,
}
