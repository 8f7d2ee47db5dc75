//! The registry of analyses, and their way from a loaded model to a result.

use crate::error::{plain, raised_or, told};
use crate::interrupt::Raised;
use crate::listener::PyListener;
use crate::model::{Model, open_models};
use crate::results::Result;
use crate::scale::ClusterHands;
use anyhow::{Context, anyhow};
use lorascope_analyses::{Analysis, Hands, OwnHands};
use lorascope_games::Design;
use lorascope_prompts::PromptSet;
use lorascope_study::machine::{DeviceKind, choose_device, processor};
use lorascope_study::names::parse_size;
use lorascope_study::open::{Asked, read_prompts, today};
use lorascope_study::pipeline::{Found, Plan, find};
use lorascope_study::prepared::Prepared;
use lorascope_study::registry::{PLAY, analyses as every};
use lorascope_study::study_file::{Ready, StudyFile};
use lorascope_text::Wrapping;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every analysis that has a command of its own.
#[pyfunction]
pub(crate) fn analyses(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    every().filter(|a| !a.concludes()).map(|a| described(py, a)).collect()
}

fn described<'py>(py: Python<'py>, analysis: &dyn Analysis) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    found.set_item("name", analysis.name())?;
    found.set_item("title", analysis.title())?;
    found.set_item("question", analysis.question())?;
    found.set_item("by_default", analysis.by_default())?;
    let defaults = analysis.settings(&Value::Null).map_err(plain)?;
    found.set_item("settings", defaults.to_string())?;
    let plays = analysis.name() == PLAY.name();
    // Games come with their own prompts.
    found.set_item("asks", !plays)?;
    let meanings =
        if plays { settings_of(include_str!("../docs/play.md")) } else { meanings(analysis.name()) };
    found.set_item("meanings", meanings)?;
    found.set_item("flags", analysis.flags().iter().map(|f| (f.name, f.help)).collect::<Vec<_>>())?;
    found.set_item("tables", analysis.tables().iter().map(|t| (t.name, t.doc)).collect::<Vec<_>>())?;
    Ok(found)
}

/// What the documentation says of each setting of an analysis; a test of `lorascope-study` makes sure that it lists them all.
fn meanings(analysis: &str) -> Vec<(String, String)> {
    let row = |line: &'static str| {
        // A bar within a cell is written with a backslash; it is not the end of the cell.
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(4, " | ").collect();
        let [name, setting, _default, meaning] = cells[..] else { return None };
        let code = |cell: &'static str| cell.strip_prefix('`')?.strip_suffix('`');
        (code(name)? == analysis).then(|| Some((code(setting)?.to_owned(), meaning.replace("\\|", "|"))))?
    };
    include_str!("../docs/study.md").lines().filter_map(row).collect()
}

/// What a page says of each setting in the table of its chapter `Settings`, whose rows are name, default, meaning.
pub(crate) fn settings_of(page: &'static str) -> Vec<(String, String)> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.splitn(3, " | ").collect();
        let [name, _default, meaning] = cells[..] else { return None };
        Some((name.strip_suffix('`')?.to_owned(), meaning.replace("\\|", "|")))
    };
    let chapter = page.lines().skip_while(|line| *line != "## Settings").skip(1);
    chapter.take_while(|line| !line.starts_with("## ")).filter_map(row).collect()
}

/// Carries out one analysis. Prompts are a file, or JSON, or the analysis's own; settings are JSON.
#[pyfunction]
#[pyo3(signature = (model, name, prompts, is_file, settings, answers, raw, seed, out, progress))]
#[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
pub(crate) fn analyse(
    py: Python,
    model: &Model,
    name: &str,
    prompts: Option<&str>,
    is_file: bool,
    settings: &str,
    answers: Option<(String, String)>,
    raw: bool,
    seed: u64,
    out: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Result> {
    let set = |own: Option<PromptSet>| -> anyhow::Result<PromptSet> {
        match prompts {
            Some(path) if is_file => read_prompts(Path::new(path)),
            Some(json) => Ok(PromptSet::parse(json)?),
            None => own.with_context(|| format!("`{name}` has none of its own")),
        }
    };
    let planned = || -> anyhow::Result<(Plan, Asked)> {
        let found = every().find(|analysis| analysis.name() == name);
        let analysis = found.ok_or_else(|| anyhow!("no analysis is called `{name}`"))?;
        let given: Value = serde_json::from_str(settings).context("settings")?;
        let settings = analysis.settings(&given)?;
        let set = set(analysis.prompts(&settings)?).context("`prompts`")?;
        let plan = Plan {
            command: name.to_owned(),
            title: analysis.title().to_owned(),
            analyses: vec![(analysis, settings)],
            edits: Vec::new(),
            seed,
            nf4: model.nf4,
            threads: rayon::current_num_threads(),
            memory: model.memory,
        };
        let wrapping = if raw { Wrapping::Raw } else { Wrapping::Auto };
        let answers = answers.clone();
        Ok((plan, Asked { set, answers, wrapping, now: Some(today()) }))
    };
    let (plan, asked) = planned().map_err(|error| told(&error))?;
    let raised = Arc::new(Raised::new());
    let listener = PyListener::new(progress, raised.clone());
    let prepared = Prepared::new(&plan, model.opened.clone(), &asked).map_err(|error| told(&error))?;
    result(py, &prepared, out.as_deref(), listener, &raised, &OwnHands)
}

/// Runs a study file, or without one the study of the embedded model. `cluster` is Python's object that carries units out on many
/// machines.
#[pyfunction]
#[pyo3(signature = (path, base, adapters, out, seed, memory, progress, cluster))]
#[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
pub(crate) fn study(
    py: Python,
    path: Option<PathBuf>,
    base: Option<String>,
    adapters: Vec<(String, String)>,
    out: Option<PathBuf>,
    seed: Option<u64>,
    memory: &str,
    progress: Option<Py<PyAny>>,
    cluster: Option<Py<PyAny>>,
) -> PyResult<Result> {
    let ready = || -> anyhow::Result<Ready> {
        let mut study = match &path {
            Some(path) => StudyFile::read(path)?,
            None => StudyFile::without_file(base.is_some())?,
        };
        study.base = base.clone().or(study.base);
        if !adapters.is_empty() {
            (study.adapters, study.checkpoints) = (adapters.clone(), Vec::new());
        }
        study.seed = seed.unwrap_or(study.seed);
        let memory = parse_size(memory).map_err(|why| anyhow!(why)).context("`memory`")?;
        study.ready(rayon::current_num_threads(), memory)
    };
    let mut ready = ready().map_err(|error| told(&error))?;
    let raised = Arc::new(Raised::new());
    let listener = PyListener::new(progress, raised.clone());
    if cluster.is_some() {
        ready = ready.located(&listener).map_err(|error| raised_or(&raised, told(&error)))?;
    }
    let opened = open_models(py, &ready.models, ready.plan.seed, &listener, &raised)?;
    let prepared = Prepared::new(&ready.plan, opened, &ready.asked).map_err(|error| told(&error))?;
    let Some(cluster) = cluster else {
        return result(py, &prepared, out.as_deref(), listener, &raised, &OwnHands);
    };
    let described = || Ok((ready.to_text()?, prepared.identity()?));
    let (text, identity) = described().map_err(|error: anyhow::Error| told(&error))?;
    let inputs: Vec<(&str, &Path, &str)> =
        prepared.inputs().iter().map(|i| (&*i.name, &*i.path, &*i.sha256)).collect();
    cluster.call_method1(py, "start", (text, identity, processor(), inputs))?;
    let hands = ClusterHands { cluster, raised: raised.clone() };
    result(py, &prepared, out.as_deref(), listener, &raised, &hands)
}

fn result(
    py: Python,
    prepared: &Prepared,
    out: Option<&Path>,
    listener: PyListener,
    raised: &Raised,
    hands: &dyn Hands,
) -> PyResult<Result> {
    let found: anyhow::Result<Found> = py.detach(|| find(prepared, out, &listener, hands));
    let found = found.map_err(|error| raised_or(raised, told(&error)))?;
    if let Some(error) = raised.take() {
        return Err(error);
    }
    Result::new(py, found, listener.into_notes())
}

/// Prompts about games as JSON: a ready design (`default`, `crossed`, `fifteen`) with other levels of some factors.
#[pyfunction]
pub(crate) fn game_prompts(design: &str, factors: Vec<(String, String)>) -> PyResult<String> {
    let mut made = match design {
        "default" => Design::default(),
        "crossed" => Design::crossed(),
        "fifteen" => Design::fifteen(),
        _ => return Err(plain(format!("`design` is `{design}`; it must be default, crossed or fifteen"))),
    };
    for (factor, levels) in &factors {
        made.set(factor, levels).map_err(plain)?;
    }
    Ok(made.build().map_err(plain)?.to_json())
}

/// Sets the number of threads of all arithmetic, before anything is computed; gives back how many there are.
#[pyfunction]
#[pyo3(signature = (threads = None))]
pub(crate) fn set_threads(threads: Option<u16>) -> PyResult<usize> {
    lorascope_study::machine::set_threads(threads).map_err(|error| told(&error))
}

/// Chooses who does the large products, before anything is computed; gives back the device's name, `None` for the processor.
#[pyfunction]
pub(crate) fn set_device(device: &str) -> PyResult<Option<String>> {
    let kind = device.parse::<DeviceKind>().map_err(|error| told(&error.into()))?;
    let chosen = choose_device(kind).map_err(|error| told(&error))?;
    Ok(chosen.map(|device| device.name().to_owned()))
}
