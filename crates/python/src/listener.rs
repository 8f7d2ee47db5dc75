//! Progress told to a Python function.

use crate::interrupt::{Raised, asked};
use lorascope_analyses::Progress;
use lorascope_study::Listener;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the function is called within a step.
const EVERY: Duration = Duration::from_millis(100);

/// The step that goes on.
struct Step {
    what: String,
    done: u64,
    total: u64,
    told: Instant,
}

/// Calls `function(what, done, total)` at the beginning and end of each step, and in between; keeps notes.
pub(crate) struct PyListener {
    function: Option<Py<PyAny>>,
    raised: Arc<Raised>,
    step: Mutex<Option<Step>>,
    notes: Mutex<Vec<String>>,
}

impl PyListener {
    /// Tells `function`, where there is one.
    pub fn new(function: Option<Py<PyAny>>, raised: Arc<Raised>) -> Self {
        Self { function, raised, step: Mutex::new(None), notes: Mutex::default() }
    }

    /// What was said on the way.
    pub fn into_notes(self) -> Vec<String> {
        self.notes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> MutexGuard<'_, Option<Step>> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No lock is held here: the function may take its time, and other threads go on.
    fn tell(&self, what: &str, done: u64, total: u64) {
        let Some(function) = self.function.as_ref().filter(|_| !self.raised.is_kept()) else { return };
        if let Err(error) = Python::attach(|py| function.call1(py, (what, done, total))) {
            self.raised.keep(error);
        }
    }
}

impl Progress for PyListener {
    fn begin(&self, what: &str, total: u64) {
        *self.step() = Some(Step { what: what.to_owned(), done: 0, total, told: Instant::now() });
        self.tell(what, 0, total);
    }

    fn at(&self, done: u64) {
        let due = self.step().as_mut().and_then(|step| {
            step.done = done;
            let due = step.told.elapsed() >= EVERY && done < step.total;
            due.then(|| {
                step.told = Instant::now();
                (step.what.clone(), step.total)
            })
        });
        if let Some((what, total)) = due {
            self.tell(&what, done, total);
        }
    }

    fn end(&self) {
        let step = self.step().take();
        if let Some(Step { what, total, .. }) = step {
            self.tell(&what, total, total);
        }
    }

    fn should_stop(&self) -> bool {
        self.raised.is_kept() || asked()
    }
}

impl Listener for PyListener {
    fn note(&self, text: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    fn say(&self, text: &str) {
        self.note(text);
    }
}
