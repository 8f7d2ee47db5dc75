//! Names to folders: a local path as it is, or a repository of the Hugging Face hub through the hub's own cache.
//!
//! [`resolve`] downloads the few files that lorascope needs into the same cache layout that `huggingface_hub` uses
//! (blobs, snapshots of links, refs), so that both find each other's downloads, and honours the same environment
//! variables ([`HubSettings::from_env`]). Downloads resume where they broke off, and every large file is held against
//! its SHA-256.
//!
//! This crate knows file names, not what is in the files (but for the list of shards in a weights index).

mod cache;
mod client;
mod download;
mod error;
mod needed;
mod resolve;
mod settings;
mod spec;

pub use error::{Error, Result};
pub use needed::RepoKind;
pub use resolve::{Event, Options, resolve};
pub use settings::HubSettings;
pub use spec::RepoSpec;
