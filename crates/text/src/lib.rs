//! lorascope-text: text to token ids as a model reads it, and chats to text.
//!
//! What it is: tokenizers from a model's folder or from GGUF metadata, with byte offsets; the model's own chat
//! template, rendered as transformers 5 renders it; and prompts that combine the two without losing or doubling a
//! BOS. What it is not: a reader of GGUF files (the caller fills [`GgufTokenizer`]), a downloader, a trainer of
//! vocabularies, or a place for what prompts mean.
//!
//! A prompt's way through it:
//!
//! ```text
//! messages --chat template--> text --pre-tokenizer, merges--> ids, byte offsets
//!     spans in a message --content ranges--> spans in the text --offsets--> tokens
//! ```

mod alphabet;
mod byte_level;
mod clock;
mod error;
mod folder;
mod gguf;
mod pretokenizer;
mod prompt;
mod python;
mod sentencepiece;
mod spans;
mod special;
mod template;
mod tokenizer;

pub use clock::Clock;
pub use error::{Result, TextError};
pub use gguf::GgufTokenizer;
pub use pretokenizer::PreTokenizer;
pub use prompt::{Message, PromptInput, PromptTokens, Rendered, Wrapping};
pub use tokenizer::{Encoding, Special, Tokenizer};
