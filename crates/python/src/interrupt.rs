//! Ctrl-C while the engine works.

use pyo3::{PyErr, Python};
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often Python is asked for signals; each time may have to wait for the thread that holds the interpreter.
const EVERY: Duration = Duration::from_millis(50);

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Asks Python whether something was raised, and keeps it until somebody raises it.
#[derive(Default)]
pub(crate) struct Interrupt(Mutex<Option<PyErr>>);

impl Interrupt {
    /// Whether the work is to end. Only Python's main thread receives signals.
    pub fn asked(&self) -> bool {
        if LAST.get().is_some_and(|last| last.elapsed() < EVERY) {
            return false;
        }
        LAST.set(Some(Instant::now()));
        match Python::attach(|py| py.check_signals()) {
            Ok(()) => false,
            Err(error) => {
                self.keep(error);
                true
            }
        }
    }

    /// Something was raised by code that is called meanwhile.
    pub fn keep(&self, error: PyErr) {
        self.locked().get_or_insert(error);
    }

    /// Whether something waits to be raised.
    pub fn is_kept(&self) -> bool {
        self.locked().is_some()
    }

    /// What waits to be raised.
    pub fn take(&self) -> Option<PyErr> {
        self.locked().take()
    }

    fn locked(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
