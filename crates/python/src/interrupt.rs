//! What Python raises while the engine works: ctrl-C, and exceptions of functions that are called meanwhile.

use pyo3::{PyErr, Python};
use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often Python is asked for signals; each time may have to wait for the thread that holds the interpreter.
const EVERY: Duration = Duration::from_millis(50);

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What a signal raised; it belongs to the thread that the signal came to, whatever other threads run meanwhile.
    static SIGNALLED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Whether a signal says that the work is to end. Only Python's main thread receives signals.
pub(crate) fn asked() -> bool {
    if LAST.get().is_some_and(|last| last.elapsed() < EVERY) {
        return false;
    }
    LAST.set(Some(Instant::now()));
    match Python::attach(|py| py.check_signals()) {
        Ok(()) => false,
        Err(error) => {
            SIGNALLED.replace(Some(error));
            true
        }
    }
}

/// What was raised during one call into the engine, until somebody raises it.
pub(crate) struct Raised(Mutex<Option<PyErr>>);

impl Raised {
    /// A call begins, on this thread.
    pub fn new() -> Self {
        SIGNALLED.replace(None);
        Self(Mutex::new(None))
    }

    /// A function raised something. Of several the first counts.
    pub fn keep(&self, error: PyErr) {
        self.locked().get_or_insert(error);
    }

    /// Whether a function raised something.
    pub fn is_kept(&self) -> bool {
        self.locked().is_some()
    }

    /// What was raised; asked on the thread of the call, at its end.
    pub fn take(&self) -> Option<PyErr> {
        self.locked().take().or_else(|| SIGNALLED.take())
    }

    fn locked(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
