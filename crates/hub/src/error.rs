//! What can go wrong between a repository's name and a folder of its files.

use std::path::PathBuf;
use thiserror::Error;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a name could not be turned into a folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a path nor a hub id.
    #[error(
        "`{spec}` is neither an existing path nor a hub id of the form `org/name` or `org/name@revision`: {why}"
    )]
    BadSpec {
        /// What was given.
        spec: String,
        /// What is wrong with it as a hub id.
        why: &'static str,
    },
    /// The network is forbidden and the cache lacks something.
    #[error(
        "`{repo}` is not complete in the cache `{cache}` ({missing}), and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE \
         forbids downloading it; unset them once, or give a local folder",
        cache = cache.display()
    )]
    Offline {
        /// Repository with revision.
        repo: String,
        /// The cache folder.
        cache: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// The hub wants to know who asks.
    #[error(
        "the hub refuses access to `{repo}` (status {status}{detail}): it is gated, private or misspelt. Ask for access \
         on {page}, then set HF_TOKEN to a token of that account ({token})"
    )]
    Refused {
        /// Repository.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// The hub's own words, if any.
        detail: String,
        /// The repository's page.
        page: String,
        /// Whether a token was sent.
        token: &'static str,
    },
    /// No such repository.
    #[error(
        "there is no local path `{repo}` and no repository of that name on {endpoint} (status 404); check the spelling"
    )]
    NoRepository {
        /// Repository.
        repo: String,
        /// The hub that was asked.
        endpoint: String,
    },
    /// No such branch, tag or commit.
    #[error("repository `{repo}` on {endpoint} has no revision `{revision}` (status 404)")]
    NoRevision {
        /// Repository.
        repo: String,
        /// The hub that was asked.
        endpoint: String,
        /// What was looked for.
        revision: String,
    },
    /// A listed file can't be had.
    #[error("file `{file}` of `{repo}` at `{revision}` is listed but not there (status 404)")]
    NoFile {
        /// Repository.
        repo: String,
        /// Commit.
        revision: String,
        /// What was looked for.
        file: String,
    },
    /// The repository holds nothing that lorascope can read.
    #[error("`{repo}` can't be used: {why}")]
    Unusable {
        /// Repository with revision.
        repo: String,
        /// What is missing, and what to do.
        why: String,
    },
    /// A file name that would leave the cache.
    #[error(
        "`{repo}` lists the file name `{file}`, which is not a plain relative path; nothing was downloaded"
    )]
    UnsafeName {
        /// Repository.
        repo: String,
        /// The name.
        file: String,
    },
    /// The connection failed or broke; trying again may help.
    #[error("{url}: {message}")]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        message: String,
    },
    /// The server has trouble; trying again may help.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// An answer that no hub gives.
    #[error("{url} gave an answer that is not a hub's: {why}")]
    NotAHub {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The downloaded bytes are not the ones that the hub names.
    #[error(
        "the download of `{file}` is damaged: its SHA-256 is `{found}`, the hub says `{expected}`; it was removed, try \
         again"
    )]
    Checksum {
        /// The file.
        file: String,
        /// The hub's checksum.
        expected: String,
        /// That of the bytes.
        found: String,
    },
    /// The cache can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the same request may succeed when repeated.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// An [`Error::Io`] about `path`.
pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}
