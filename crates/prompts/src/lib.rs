//! Prompt sets: what is asked, which two answers are compared, and which stretches of the text have
//! a name. This crate holds the schema, its JSON form and its checks.
//!
//! It knows nothing about games, tokens, chat templates or models: any two answers and any prompts
//! are welcome. The file format is described in `docs/prompts.md`.
//!
//! ```
//! let set = lorascope_prompts::PromptSet::parse(
//!     r#"[{"id": 1, "prompt": "Is water wet? Yes or No.", "answer_a": "Yes", "answer_b": "No"}]"#,
//! )?;
//! assert_eq!(set.items[0].id, "1");
//! assert_eq!(set.items[0].answers_for(None)?, ("Yes", "No"));
//! # Ok::<(), lorascope_prompts::PromptError>(())
//! ```

mod check;
mod error;
mod item;
mod json;
mod read;
mod set;

pub use check::check_answers;
pub use error::{Problem, PromptError};
pub use item::{Content, Item, Message, ROLES, Span};
pub use set::{
    MAX_FILE_BYTES, MAX_ITEMS, MAX_MESSAGES, MAX_NAME_BYTES, MAX_SPANS, MAX_TEXT_BYTES, PromptSet,
};
