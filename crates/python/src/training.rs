//! Training from Python.

use crate::error::{raised_or, told};
use crate::interrupt::{Raised, asked};
use crate::listener::PyListener;
use crate::results::Result;
use anyhow::{Context, anyhow};
use lorascope_analyses::Progress;
use lorascope_engine::Stop;
use lorascope_study::names::parse_size;
use lorascope_study::open::{open_base, today};
use lorascope_study::pipeline::Found;
use lorascope_study::training::{Ended, Job, train as carry_out};
use lorascope_train::{Pool, Settings, Step, Watch};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

/// The settings with their defaults, as JSON, and what the documentation says of each.
#[pyfunction]
pub(crate) fn training_settings() -> PyResult<(String, Vec<(String, String)>)> {
    let json = serde_json::to_string(&Settings::default()).context("settings of `train`");
    let page = include_str!("../docs/train.md");
    Ok((json.map_err(|error| told(&error))?, crate::analyses::settings_of(page)))
}

/// Tells how far it is and asks whether to stop, between steps.
struct Live<'a>(&'a PyListener);

impl Watch for Live<'_> {
    fn step(&self, done: usize, _: &Step) {
        self.0.at(done as u64);
    }
    fn should_stop(&self) -> bool {
        self.0.should_stop()
    }
}

/// Trains an adapter into a run folder, or goes on there. Settings are JSON.
#[pyfunction]
#[pyo3(signature = (base, settings, raw, nf4, seed, memory, out, progress))]
#[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
pub(crate) fn train(
    py: Python,
    base: &str,
    settings: &str,
    raw: bool,
    nf4: Option<&str>,
    seed: u64,
    memory: &str,
    out: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<Result> {
    let raised = Arc::new(Raised::new());
    let listener = PyListener::new(progress, raised.clone());
    let work = || -> anyhow::Result<Option<Found>> {
        let settings: Settings = serde_json::from_str(settings).context("settings of `train`")?;
        settings.check()?;
        let pool = Pool::new(&settings)?;
        let nf4 = nf4.map(str::parse).transpose().map_err(|why: String| anyhow!(why))?;
        let memory = parse_size(memory).map_err(|why| anyhow!(why)).context("`memory`")?;
        let opened = open_base(base, nf4, &listener)?;
        let now = Some(today()).filter(|_| !raw && opened.tokenizer.chat_depends_on_date());
        let job = Job {
            base,
            settings: &settings,
            pool: &pool,
            raw,
            now,
            nf4,
            seed,
            memory,
            threads: rayon::current_num_threads(),
            listener: &listener,
            watch: &Live(&listener),
            stop: Some(Stop(Arc::new(asked))),
        };
        Ok(match carry_out(&job, opened, &out)? {
            Ended::Before(found) | Ended::Now { found, .. } => Some(found),
            // Whoever stopped it has raised something.
            Ended::Stopped(_) => None,
        })
    };
    let found = py.detach(work).map_err(|error| raised_or(&raised, told(&error)))?;
    match (raised.take(), found) {
        (None, Some(found)) => Result::new(py, found, listener.into_notes()),
        (Some(error), _) => Err(error),
        (None, None) => Err(told(&anyhow!("the training was stopped"))),
    }
}
