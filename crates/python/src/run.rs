//! Runs with interventions, callbacks and caches.

use crate::arrays::Buffer;
use crate::callback::Callback;
use crate::edits::Intervention;
use crate::error::{plain, raised_or};
use crate::interrupt::Raised;
use crate::shape::Shape;
use crate::sink::{Places, Sink};
use lorascope_engine::{Batch, Hooks, Mat, Model, Visit};
use pyo3::prelude::*;
use std::str::FromStr;
use std::sync::Arc;

/// Logits that are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logits {
    /// At every position.
    All,
    /// At the last.
    Last,
    /// None.
    No,
}

impl FromStr for Logits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Logits::All),
            "last" => Ok(Logits::Last),
            "none" => Ok(Logits::No),
            other => Err(format!("`logits` is `{other}`; it must be all, last or none")),
        }
    }
}

/// What a run is asked for.
pub(crate) struct Asked {
    /// Prompts of equal length, group by group; each group has arrays of its own.
    pub groups: Vec<Vec<Vec<u32>>>,
    /// The model that runs them.
    pub which: usize,
    /// Hook points to be cached.
    pub names: Vec<String>,
    /// Interventions.
    pub interventions: Vec<Intervention>,
    /// Functions at hook points, in the order in which they are called.
    pub functions: Vec<(String, Py<PyAny>)>,
    /// `all`, `last` or `none`.
    pub logits: String,
}

/// For each group, its logits and its cached activations in the order of names.
pub(crate) type Found = Vec<(Option<Buffer>, Vec<Buffer>)>;

/// Carries it out.
pub(crate) fn run(py: Python, model: &Model<f32>, asked: &Asked) -> PyResult<Found> {
    let raised = Arc::new(Raised::new());
    let logits: Logits = asked.logits.parse().map_err(plain)?;
    let sizes = sizes(&asked.groups)?;
    // Rows that prompts share are computed once, unless something is to happen to one of them alone.
    let together = asked.interventions.is_empty() && asked.functions.is_empty();
    let sequences = asked.groups.iter().flatten().enumerate();
    let sequences: Vec<(usize, usize, &[u32])> =
        sequences.map(|(i, tokens)| (asked.which, if together { 0 } else { i }, &tokens[..])).collect();
    let batch = Batch::apart(model.spec(), &sequences).map_err(plain)?;
    let mut edits = Vec::new();
    let first_of = |group: usize| sizes[..group].iter().map(|(n, _)| n).sum::<usize>();
    for one in &asked.interventions {
        let group = one.group_of(sizes.len())?;
        one.edits(model, asked.which, &batch, first_of(group), sizes[group], &mut edits)?;
    }
    let mut visits = functions(py, model, &raised, asked, &batch, &sizes)?;
    let places = Arc::new(Places::new(&batch, sizes.clone()));
    let mut sinks = Vec::new();
    for name in &asked.names {
        let point = name.parse().map_err(plain)?;
        let shape = Shape::of(model, asked.which, point).map_err(plain)?;
        let sink = Arc::new(Sink::new(point, shape, places.clone()));
        visits.extend(sink.visits(point, &batch));
        sinks.push(sink);
    }
    let readout: Vec<Vec<usize>> =
        (0..sizes.len()).map(|group| readout(&batch, first_of(group), sizes[group], logits)).collect();
    let hooks = Hooks { captures: Vec::new(), edits };
    let found = py.detach(|| {
        let flat = readout.concat();
        let run = model.run_visited(&batch, &hooks, &visits, &flat, &|_, _| {})?;
        let mut at = 0;
        let states = readout.iter().map(|rows| {
            let own: Vec<usize> = (at..at + rows.len()).collect();
            at += rows.len();
            run.readout.gather(&own)
        });
        let all = |states: Mat<f32>| match states.rows {
            0 => Ok(None),
            _ => model.all_logits(asked.which, &states).map(Some),
        };
        states.map(all).collect::<lorascope_engine::Result<Vec<_>>>()
    });
    let found = found.map_err(|error| raised_or(&raised, plain(error)))?;
    if let Some(error) = raised.take() {
        return Err(error);
    }
    let d_vocab = model.spec().d_vocab;
    let logits = found.into_iter().zip(&sizes).map(|(mat, &(n, length))| {
        let length = if logits == Logits::Last { 1 } else { length };
        mat.map(|mat| Buffer::new(vec![n, length, d_vocab], mat.data))
    });
    let mut groups: Found = logits.map(|logits| (logits, Vec::new())).collect();
    for sink in sinks {
        for ((_, arrays), (shape, values)) in groups.iter_mut().zip(sink.take()) {
            arrays.push(Buffer::new(shape, values));
        }
    }
    Ok(groups)
}

/// Sequences and length of each group.
pub(crate) fn sizes(groups: &[Vec<Vec<u32>>]) -> PyResult<Vec<(usize, usize)>> {
    let size = |group: &Vec<Vec<u32>>| {
        let length = group.first().map_or(0, Vec::len);
        match group.iter().map(Vec::len).find(|&n| n != length) {
            None if length > 0 => Ok((group.len(), length)),
            None => Err(plain("there is no prompt, or one without tokens")),
            Some(other) => Err(plain(format!(
                "prompts of {length} and of {other} tokens do not fit into one array; use `run_batch`, which gives each prompt its own"
            ))),
        }
    };
    groups.iter().map(size).collect()
}

/// Rows whose final states are wanted, sequence by sequence.
pub(crate) fn readout(
    batch: &Batch,
    first: usize,
    (n, length): (usize, usize),
    logits: Logits,
) -> Vec<usize> {
    let positions = match logits {
        Logits::All => 0..length,
        Logits::Last => length - 1..length,
        Logits::No => 0..0,
    };
    (first..first + n).flat_map(|s| positions.clone().filter_map(move |p| batch.row_of(s, p))).collect()
}

/// The visits of Python functions: each sees all prompts of a group at once, whose rows follow one another.
fn functions(
    py: Python,
    model: &Model<f32>,
    raised: &Arc<Raised>,
    asked: &Asked,
    batch: &Batch,
    sizes: &[(usize, usize)],
) -> PyResult<Vec<Visit<f32>>> {
    let mut visits = Vec::new();
    for (name, function) in &asked.functions {
        let point = name.parse().map_err(plain)?;
        let shape = Shape::of(model, asked.which, point).map_err(plain)?;
        let mut first = 0;
        for &(n, length) in sizes {
            let start = batch.row_of(first, 0).unwrap_or(0);
            let callback = Callback {
                function: function.clone_ref(py),
                shape: shape.clone(),
                batch: n,
                length,
                raised: raised.clone(),
            };
            visits.push(Visit { point, rows: start..start + n * length, visitor: Arc::new(callback) });
            first += n;
        }
    }
    Ok(visits)
}
