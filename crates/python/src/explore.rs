//! The explorer, started from Python.

use crate::error::{plain, raised_or, told};
use crate::interrupt::Raised;
use crate::listener::PyListener;
use crate::model::named;
use anyhow::Context;
use lorascope_explore::{Options, Running, start};
use lorascope_prompts::PromptSet;
use lorascope_study::explore::Explored;
use lorascope_study::names::parse_size;
use lorascope_study::open::read_prompts;
use lorascope_text::Wrapping;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A server that runs until it is told to stop, or nobody holds it.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Explorer {
    running: Mutex<Option<Running>>,
    url: String,
    is_local: bool,
}

#[pymethods]
impl Explorer {
    /// What to open in a browser; holds the token.
    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    /// Whether this machine alone can reach it.
    #[getter]
    fn is_local(&self) -> bool {
        self.is_local
    }

    /// Ends the server; where it has ended, nothing happens.
    fn stop(&self, py: Python) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(running));
    }
}

/// Starts the explorer on the models and prompts of a run folder, or on named ones. Prompts are a file, or JSON, or fifteen of games.
#[pyfunction]
#[pyo3(signature = (run, base, adapters, checkpoints, controls, nf4, prompts, is_file, answers, raw, memory, host, port, progress))]
#[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
pub(crate) fn explore(
    py: Python,
    run: Option<PathBuf>,
    base: Option<String>,
    adapters: Vec<(String, String)>,
    checkpoints: Vec<(String, PathBuf)>,
    controls: Vec<String>,
    nf4: Option<String>,
    prompts: Option<&str>,
    is_file: bool,
    answers: Option<(String, String)>,
    raw: bool,
    memory: &str,
    host: String,
    port: u16,
    progress: Option<Py<PyAny>>,
) -> PyResult<Explorer> {
    let raised = Arc::new(Raised::new());
    let listener = PyListener::new(progress, raised.clone());
    let explored = || -> anyhow::Result<Explored> {
        if let Some(folder) = run {
            let memory = parse_size(memory).map_err(anyhow::Error::msg).context("`memory`")?;
            return Explored::of_run(&folder, memory);
        }
        let base = base.context("name a run folder, or a base")?;
        let models = named(base, adapters, checkpoints, &controls, nf4.as_deref(), memory)?;
        let set = match prompts {
            Some(path) if is_file => Some(read_prompts(Path::new(path))?),
            Some(json) => Some(PromptSet::parse(json).context("`prompts`")?),
            None => None,
        };
        let wrapping = if raw { Wrapping::Raw } else { Wrapping::Auto };
        Explored::named(models, set, answers, wrapping)
    };
    let explorer = py.detach(|| explored()?.open(&listener));
    let explorer = explorer.map_err(|error| raised_or(&raised, told(&error)))?;
    if let Some(error) = raised.take() {
        return Err(error);
    }
    // Ctrl-C is Python's; notebooks show the page where they are.
    let options = Options { host, port, framed: true, ..Options::default() };
    let running = py.detach(|| start(explorer, &options)).map_err(plain)?;
    let (url, is_local) = (running.url().to_owned(), running.address().ip().is_loopback());
    Ok(Explorer { running: Mutex::new(Some(running)), url, is_local })
}
