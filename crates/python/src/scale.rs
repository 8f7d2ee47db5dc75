//! Studies on many machines: what the Python side, which knows Ray, needs of the engine. See `python/lorascope/scale.py`.

use crate::error::{plain, told};
use crate::interrupt::Raised;
use lorascope_analyses::{Context, Error, Hands, Work, WorkUnit, missing};
use lorascope_record::RunFolder;
use lorascope_study::machine::processor;
use lorascope_study::node::{Node as StudyNode, take_in};
use lorascope_study::study_file::Ready;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Parts as Python hands them over.
type Given = Vec<(String, Py<PyBytes>)>;

/// Hands units to a Python object, whose method `carry_out(analysis, units, folder)` gives, in any order, how many units are
/// finished and their parts.
pub(crate) struct ClusterHands {
    pub cluster: Py<PyAny>,
    pub raised: Arc<Raised>,
}

impl ClusterHands {
    fn gather(&self, py: Python, context: &Context, units: &[WorkUnit]) -> PyResult<()> {
        let folder = context.run.dir();
        let found = self.cluster.bind(py).call_method1("carry_out", (context.analysis, units, folder))?;
        let mut done = 0;
        for parts in found.try_iter()? {
            let (n, parts): (u64, Given) = parts?.extract()?;
            for (name, bytes) in parts {
                take_in(context.run, &name, bytes.as_bytes(py)).map_err(plain)?;
            }
            done += n;
            py.detach(|| context.progress.at(done));
            // Who was told may have had enough; what is finished is kept.
            if self.raised.is_kept() {
                break;
            }
        }
        Ok(())
    }
}

impl Hands for ClusterHands {
    fn carry_out(
        &self,
        context: &Context,
        units: &[WorkUnit],
        _work: &mut Work,
    ) -> lorascope_analyses::Result<()> {
        let left = |units: &[WorkUnit]| -> lorascope_analyses::Result<Vec<WorkUnit>> {
            Ok(missing(context, units)?.into_iter().map(|i| units[i].clone()).collect())
        };
        let units = left(units)?;
        if units.is_empty() {
            return Ok(());
        }
        if context.progress.should_stop() {
            return Err(Error::Stopped);
        }
        context.progress.begin(&format!("{} on all nodes", context.analysis), units.len() as u64);
        let gathered = Python::attach(|py| self.gather(py, context, &units));
        context.progress.end();
        if let Err(error) = gathered {
            self.raised.keep(error);
        }
        if self.raised.is_kept() {
            return Err(Error::Stopped);
        }
        match left(&units)?.first().and_then(|unit| unit.first()) {
            None => Ok(()),
            Some(name) => Err(Error::Elsewhere(format!("no node gave the part `{name}`"))),
        }
    }

    fn are_many(&self) -> bool {
        true
    }
}

/// A machine's part in a study.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Node(Mutex<StudyNode>);

#[pymethods]
impl Node {
    /// Opens the study of a text, with a run folder of its own; `fetch(name)` gives finished parts, or `None`.
    #[new]
    fn new(py: Python, study: &str, place: PathBuf, fetch: Py<PyAny>) -> PyResult<Self> {
        let fetch = move |name: &str| {
            Python::attach(|py| -> PyResult<Option<Vec<u8>>> {
                let found: Option<Py<PyBytes>> = fetch.call1(py, (name,))?.extract(py)?;
                Ok(found.map(|bytes| bytes.as_bytes(py).to_vec()))
            })
            .map_err(|error| error.to_string())
        };
        let open = || {
            let ready = Ready::from_text(study, rayon::current_num_threads())?;
            StudyNode::open(&ready, &place, Box::new(fetch))
        };
        let node = py.detach(open).map_err(|error| told(&error))?;
        Ok(Self(Mutex::new(node)))
    }

    /// The run's identity as this machine has its inputs, and its arithmetic.
    fn identity(&self) -> PyResult<(String, String)> {
        let node = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((node.identity().map_err(|error| told(&error))?, processor()))
    }

    /// Carries out units of one step of an analysis: their parts.
    fn carry_out<'py>(
        &self,
        py: Python<'py>,
        analysis: &str,
        units: Vec<WorkUnit>,
    ) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
        let found = py.detach(|| {
            let mut node = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            node.carry_out(analysis, &units)
        });
        let found = found.map_err(|error| told(&error))?;
        Ok(found.into_iter().map(|(name, bytes)| (name, PyBytes::new(py, &bytes))).collect())
    }
}

/// A finished part of the run of this identity in a folder where another process works; `None` where there is none.
#[pyfunction]
pub(crate) fn part_of<'py>(
    py: Python<'py>,
    folder: PathBuf,
    identity: &str,
    name: &str,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let found = py.detach(|| RunFolder::part_of(Path::new(&folder), identity, name)).map_err(plain)?;
    Ok(found.map(|bytes| PyBytes::new(py, &bytes)))
}

/// Whether a model's path is on this machine.
#[pyfunction]
pub(crate) fn is_here(path: &str) -> bool {
    lorascope_study::is_here(path)
}
