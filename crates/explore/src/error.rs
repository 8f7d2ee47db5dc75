//! What can keep a question from being answered, and how HTTP says it.

/// An error of the explorer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A state that is none.
    #[error("the state can't be read: {0}")]
    BadState(String),
    /// A state that names what is not here.
    #[error("{0}")]
    NotHere(String),
    /// What the analyses refuse.
    #[error(transparent)]
    Analysis(lorascope_analyses::Error),
    /// A newer question of the same page, or a page that went away.
    #[error("a newer question of this page took its place")]
    Replaced,
    /// Too many pages ask.
    #[error("{0} questions wait already; ask again in a moment")]
    Full(usize),
    /// A place for results that can't be made.
    #[error("results have no place: {0}")]
    Record(#[from] lorascope_record::Error),
    /// Something of the system.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Reason.
        source: std::io::Error,
    },
    /// The system has no random numbers.
    #[error("no random token can be made: {0}")]
    NoRandom(String),
    /// A study file that can't be written.
    #[error("the state can't be written as a study file: {0}")]
    Export(String),
    /// A bug.
    #[error("the engine failed on this question; please report this")]
    Failed,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<lorascope_analyses::Error> for Error {
    fn from(error: lorascope_analyses::Error) -> Self {
        match error {
            lorascope_analyses::Error::Engine(lorascope_engine::Error::Stopped)
            | lorascope_analyses::Error::Stopped => Self::Replaced,
            error => Self::Analysis(error),
        }
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The HTTP status that says it.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::BadState(_) => 400,
            Self::Replaced => 409,
            Self::NotHere(_) | Self::Analysis(_) | Self::Export(_) => 422,
            Self::Full(_) => 503,
            Self::Record(_) | Self::Io { .. } | Self::NoRandom(_) | Self::Failed => 500,
        }
    }
}
