//! What can be wrong with a file of weights.

/// An error of this crate; every variant names the file or tensor it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that the model needs is not in the checkpoint.
    #[error("tensor `{name}` is missing from {path}")]
    TensorMissing {
        /// Name that was asked for.
        name: String,
        /// The checkpoint that was searched.
        path: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
