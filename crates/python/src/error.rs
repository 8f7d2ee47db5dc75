//! Errors as Python exceptions.

use crate::interrupt::Raised;
use pyo3::exceptions::PyException;
use pyo3::{PyErr, create_exception};

create_exception!(
    lorascope,
    Error,
    PyException,
    "What lorascope refuses or can't do: what is wrong, where, and what to do."
);

/// An error of the engine, or of an analysis, in words.
pub(crate) fn plain(error: impl std::fmt::Display) -> PyErr {
    Error::new_err(error.to_string())
}

/// An error with its causes.
pub(crate) fn told(error: &anyhow::Error) -> PyErr {
    Error::new_err(lorascope_study::told(error))
}

/// What Python raised meanwhile, if it did; else the error.
pub(crate) fn raised_or(raised: &Raised, error: PyErr) -> PyErr {
    raised.take().unwrap_or(error)
}
