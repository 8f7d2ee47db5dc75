//! Everything that can go wrong between a model's tokenizer files and a row of token ids.
//!
//! One variant per way of failing, with the offending value in its fields. Not here: file formats (a GGUF file
//! is read elsewhere) and prompt sets.

use std::path::PathBuf;

/// The result of this crate's fallible functions.
pub type Result<T, E = TextError> = std::result::Result<T, E>;

/// Why a text could not be turned into token ids, or a tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A folder without `tokenizer.json`.
    #[error(
        "no tokenizer: `{}` has no `tokenizer.json`{hint}; save one there with `AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)` of transformers",
        folder.display()
    )]
    NoTokenizer {
        /// The model's folder.
        folder: PathBuf,
        /// What was found instead (`, only ...`), or nothing.
        hint: String,
    },
    /// A file that could not be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file that isn't JSON, or whose top level isn't an object.
    #[error("`{}` is not a valid JSON object: {reason}", path.display())]
    InvalidJson {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// JSON that doesn't describe a tokenizer.
    #[error("`{origin}` does not describe a tokenizer: {reason}")]
    InvalidTokenizer {
        /// The file, or the words `the GGUF metadata`.
        origin: String,
        /// What the tokenizer library says.
        reason: String,
    },
    /// A value of the wrong kind under a known key of a configuration file.
    #[error("`{key}` in `{}` should be {expected}", path.display())]
    InvalidSetting {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was expected there.
        expected: &'static str,
    },
    /// A GGUF tokenizer of a kind that cannot be rebuilt.
    #[error(
        "cannot rebuild a tokenizer of the kind `{model}` from GGUF metadata (known: {known}); put the model's `tokenizer.json` beside the file"
    )]
    UnknownGgufModel {
        /// `tokenizer.ggml.model`.
        model: String,
        /// The kinds that can be rebuilt.
        known: String,
    },
    /// A GGUF byte-level tokenizer that splits text in a way not known here.
    #[error(
        "unknown GGUF pre-tokenizer `{pre}` (known: {known}); put the model's `tokenizer.json` beside the file"
    )]
    UnknownPreTokenizer {
        /// `tokenizer.ggml.pre`.
        pre: String,
        /// The names that are known.
        known: String,
    },
    /// GGUF arrays that contradict one another.
    #[error("GGUF metadata `{key}`: {problem}")]
    InvalidGguf {
        /// The metadata key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// A special token that is configured but has no id.
    #[error("the {role} token `{token}` is not in the vocabulary of `{origin}`")]
    MissingSpecialToken {
        /// `bos` or `eos`.
        role: &'static str,
        /// Its text.
        token: String,
        /// The file that names it.
        origin: String,
    },
    /// The tokenizer library refused a text.
    #[error("cannot tokenise the text: {reason}")]
    Encode {
        /// What the tokenizer library says.
        reason: String,
    },
    /// The tokenizer library refused a list of ids.
    #[error("cannot decode the ids: {reason}")]
    Decode {
        /// What the tokenizer library says.
        reason: String,
    },
    /// An id beyond the vocabulary.
    #[error("token id `{id}` is not in the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of tokens, added ones included.
        vocab_size: usize,
    },
    /// A chat template that does not parse.
    #[error("the chat template has a syntax error{}: {reason}", at_line(*line))]
    TemplateSyntax {
        /// Line of the template, from 1.
        line: Option<usize>,
        /// What is wrong there.
        reason: String,
    },
    /// A chat template that failed while it ran.
    #[error("the chat template failed{}: {reason}", at_line(*line))]
    TemplateFailed {
        /// Line of the template, from 1.
        line: Option<usize>,
        /// What went wrong there.
        reason: String,
    },
    /// A chat template that refused the conversation by `raise_exception`.
    #[error("the chat template refuses these messages: {message}")]
    TemplateRaised {
        /// The template's own words.
        message: String,
    },
    /// A chat template that took too many steps.
    #[error("the chat template did not finish within {steps} steps; does it loop forever?")]
    TemplateTooLong {
        /// The limit, in template instructions.
        steps: u64,
    },
    /// A rendering took too long.
    #[error(
        "the chat template took longer than {seconds} s; templates take milliseconds, so something is wrong with it"
    )]
    TemplateTooSlow {
        /// The limit.
        seconds: u64,
    },
    /// Several named templates and none called `default`.
    #[error("`{}` names the chat templates {names}, but none is called `default`", path.display())]
    NoDefaultTemplate {
        /// The file or folder.
        path: PathBuf,
        /// The names found, in backticks.
        names: String,
    },
    /// A chat was asked for, and the model has no chat template.
    #[error("this model has no chat template; give one plain text per prompt, or wrap nothing (raw)")]
    NoChatTemplate,
    /// A conversation without messages.
    #[error("the conversation has no messages")]
    NoMessages,
    /// A prompt without text, or whose text has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// Several messages, or one that isn't the user's, that should become one raw text.
    #[error("a raw prompt is one text: the conversation has the roles {roles}, so it needs a chat template")]
    NotOneText {
        /// The roles, in backticks.
        roles: String,
    },
    /// More than one BOS at the start.
    #[error(
        "the prompt starts with {count} BOS tokens (`{bos}`), where the model expects one; remove it from the {culprit}"
    )]
    RepeatedBos {
        /// How many BOS tokens the prompt starts with.
        count: usize,
        /// The BOS token.
        bos: String,
        /// Where the surplus one comes from.
        culprit: &'static str,
    },
    /// No BOS at the start although the tokenizer uses one.
    #[error(
        "the prompt does not start with the BOS token `{bos}`: this tokenizer adds one to plain text, but the chat template writes none"
    )]
    MissingBos {
        /// The BOS token.
        bos: String,
    },
}

/// ` (line 3)`, or nothing where the line is not known.
fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}
