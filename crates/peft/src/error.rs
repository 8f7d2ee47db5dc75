//! Everything that can be wrong with an adapter folder, each with the tensor or key it is about.

use std::path::PathBuf;
use thiserror::Error;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A [`Problem`] and the folder that has it.
#[derive(Debug, Error)]
#[error("adapter `{folder}`: {problem}", folder = folder.display())]
pub struct Error {
    /// The adapter's folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Box<Problem>,
}

/// What is wrong with an adapter.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The path is no folder.
    #[error("is not a folder; give the folder that holds `adapter_config.json`")]
    NotAFolder,
    /// A file that every adapter has is absent.
    #[error("has no `{file}`; {hint}")]
    MissingFile {
        /// Name of the absent file.
        file: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Only a pickle holds the weights, and reading a pickle runs code.
    #[error(
        "has its weights only in `{file}`, a pickle, which can run code when read; convert it with PEFT: \
         `PeftModel.from_pretrained(base, folder).save_pretrained(folder, safe_serialization=True)`"
    )]
    PickleOnly {
        /// The pickle's name.
        file: String,
    },
    /// A file can't be read.
    #[error("`{file}` can't be read: {source}")]
    Io {
        /// Name of the file.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The weights file is broken, or has a tensor of a type that can't be read.
    #[error(transparent)]
    Weights(#[from] lorascope_checkpoint::Error),
    /// `adapter_config.json` isn't a JSON object, or a key has a value of the wrong type.
    #[error("`adapter_config.json` is invalid: {message}")]
    Config {
        /// Which key, what was expected, line and column.
        message: String,
    },
    /// A PEFT method other than LoRA.
    #[error("`peft_type` is `{peft_type}`; only `LORA` adapters can be read")]
    PeftType {
        /// The value found.
        peft_type: String,
    },
    /// A known key asks for a computation that lorascope doesn't do.
    #[error("`{key}` is set to `{value}`, which is not supported: {why}")]
    Unsupported {
        /// The key of `adapter_config.json`.
        key: &'static str,
        /// Its value as JSON.
        value: String,
        /// What the key changes, and what to do.
        why: &'static str,
    },
    /// A key that this version doesn't know has a value that may change the computation.
    #[error(
        "`adapter_config.json` sets the unknown key `{key}` to `{value}`; it may change what the adapter computes, \
         so the adapter is refused (null, false and empty values are accepted)"
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
    },
    /// A key's value is of the right type but makes no sense.
    #[error("`{key}` is `{value}`: {why}")]
    BadValue {
        /// The key of `adapter_config.json`.
        key: String,
        /// Its value.
        value: String,
        /// Why it can't be.
        why: &'static str,
    },
    /// A pattern isn't a regular expression, or takes too long to match.
    #[error("`{key}` holds the pattern `{pattern}`, which can't be used: {message}")]
    BadPattern {
        /// The key of `adapter_config.json`.
        key: String,
        /// The pattern as written.
        pattern: String,
        /// The expression engine's message.
        message: String,
    },
    /// The configuration selects no module of this base.
    #[error("{selection} selects no module of the base model{hint}")]
    NothingTargeted {
        /// The keys and values that select.
        selection: String,
        /// Which base the adapter names.
        hint: String,
    },
    /// The configuration selects a module that can't carry a low-rank update.
    #[error("`target_modules` selects `{path}`, {what}; LoRA adapts linear maps and embeddings only")]
    NotAdaptable {
        /// The module's path.
        path: String,
        /// What the module is.
        what: &'static str,
    },
    /// One module is both adapted and replaced.
    #[error("module `{path}` is selected by both `target_modules` and `modules_to_save`; it can be only one")]
    AdaptedAndSaved {
        /// The module's path.
        path: String,
    },
    /// A tensor's name fits no form that PEFT writes.
    #[error("tensor `{tensor}` has a name that no LoRA adapter uses; it can't be placed")]
    UnknownName {
        /// The tensor's name in the file.
        tensor: String,
    },
    /// A tensor belongs to a module that the base lacks.
    #[error(
        "tensor `{tensor}` belongs to module `{path}`, which the base model does not have \
         ({count} of the adapter's {total} tensors have no place){hint}"
    )]
    UnknownModule {
        /// The first such tensor.
        tensor: String,
        /// The module's path.
        path: String,
        /// How many tensors have no module.
        count: usize,
        /// How many tensors the file has.
        total: usize,
        /// Which base the adapter names.
        hint: String,
    },
    /// A tensor that the configuration gives no role.
    #[error("surplus tensor `{tensor}`: {why}")]
    Surplus {
        /// The tensor's name in the file.
        tensor: String,
        /// Why it has no role.
        why: &'static str,
    },
    /// Two names in the file mean the same tensor.
    #[error("tensors `{first}` and `{second}` are the same parameter of `{path}`")]
    Duplicate {
        /// One name.
        first: String,
        /// The other.
        second: String,
        /// The module.
        path: String,
    },
    /// A tensor that the configuration demands is absent.
    #[error("tensor `{tensor}` is missing ({count} missing in all): {why}{hint}")]
    Missing {
        /// The name that PEFT would have given it.
        tensor: String,
        /// How many tensors are absent.
        count: usize,
        /// Why it is needed.
        why: String,
        /// Which base the adapter names.
        hint: String,
    },
    /// A tensor's shape disagrees with the configuration or with the base.
    #[error("tensor `{tensor}` has shape {found:?}, expected {expected:?}: {why}{hint}")]
    Shape {
        /// The tensor's name in the file.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: Vec<usize>,
        /// Where the expectation comes from.
        why: String,
        /// Which base the adapter names.
        hint: String,
    },
    /// A tensor holds a value that isn't a finite number.
    #[error(
        "tensor `{tensor}` holds `{value}` at index {index:?}; the file is damaged, or training diverged"
    )]
    NonFinite {
        /// The tensor's name in the file.
        tensor: String,
        /// Index of the first such value.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// The tied copies of one tensor differ.
    #[error("tensors `{first}` and `{second}` differ, though `ensure_weight_tying` makes them one")]
    TiedDiffer {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
}
