//! The explorer: a local web server that puts the next question to a live engine.
//!
//! A question is a [`State`]: a prompt, two answers, edits of the models. Its answer is what the analyses themselves give for a subject
//! of that one prompt under these edits: their tables, their sentences, their figures as data. So the explorer computes nothing of
//! its own, and its numbers are those of the command line.
//!
//! The way a question takes: [`server`] checks who asks, [`queue`] lets one question at a time to the engine and drops those that a
//! page has replaced, [`Explorer`] answers. Nothing that a request says touches the file system.
//!
//! This crate knows the analyses and the report; it does not know the command line, games, or where models come from.

mod error;
mod explorer;
mod guard;
mod page;
mod queue;
mod server;
mod source;
mod state;

pub use error::{Error, Result};
pub use explorer::Explorer;
pub use server::{Limits, Options, Running, start};
pub use source::{Export, Source};
pub use state::{Asked, State, Turn};
