//! Gradients of a scalar of the logits, as arrays.

use crate::arrays::Buffer;
use crate::edits::Intervention;
use crate::error::{plain, raised_or, told};
use crate::interrupt::Raised;
use crate::run::{Logits, readout, sizes};
use crate::shape::{Shape, fill};
use anyhow::{Result, bail};
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mat, Model, Run, States, Wanted};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// What is asked for.
pub(crate) struct Asked {
    /// Prompts of equal length.
    pub prompts: Vec<Vec<u32>>,
    /// The model that runs them.
    pub which: usize,
    /// Hook points.
    pub names: Vec<String>,
    /// Interventions.
    pub interventions: Vec<Intervention>,
    /// `all` or `last`.
    pub logits: String,
    /// Takes the logits; gives the derivative of a scalar by them, as 32-bit floats in the machine's byte order.
    pub loss: Py<PyAny>,
    /// Bytes for tapes.
    pub memory: usize,
}

/// Logits, then values and gradients at each hook point.
pub(crate) type Found = (Buffer, Vec<Buffer>, Vec<Buffer>);

/// Runs there and back.
pub(crate) fn gradients(py: Python, model: &Model<f32>, asked: &Asked) -> PyResult<Found> {
    let raised = Raised::new();
    let logits: Logits = asked.logits.parse().map_err(plain)?;
    let size = sizes(std::slice::from_ref(&asked.prompts))?[0];
    // Each prompt has rows of its own: the gradient of a row that prompts share would be the sum of theirs.
    let sequences = asked.prompts.iter().enumerate();
    let sequences: Vec<(usize, usize, &[u32])> =
        sequences.map(|(i, tokens)| (asked.which, i, &tokens[..])).collect();
    let batch = Batch::apart(model.spec(), &sequences).map_err(plain)?;
    let mut edits = Vec::new();
    for one in &asked.interventions {
        one.edits(model, asked.which, &batch, 0, size, &mut edits)?;
    }
    let mut places = Vec::new();
    for name in &asked.names {
        let point: HookPoint = name.parse().map_err(plain)?;
        places.push((point, Shape::of(model, asked.which, point).map_err(plain)?));
    }
    let rows: Vec<usize> = readout(&batch, 0, size, Logits::All);
    let captures = || places.iter().map(|&(point, _)| Capture { point, rows: rows.clone() }).collect();
    let hooks = Hooks { captures: captures(), edits };
    let wanted = Wanted { captures: captures(), ..Wanted::default() };
    let read = readout(&batch, 0, size, logits);
    let shape = vec![size.0, read.len() / size.0, model.spec().d_vocab];
    let mut values = None;
    let loss = |run: &Run<f32>| -> Result<Mat<f32>> {
        let all = model.all_logits(asked.which, &run.readout)?;
        values = Some(all.data.clone());
        let derivative = called(&asked.loss, Buffer::new(shape.clone(), all.data))?;
        through_output(model, asked.which, &run.readout, &derivative)
    };
    let done = py.detach(|| model.gradients(&batch, &hooks, &read, &wanted, asked.memory, loss));
    let (run, found) = done.map_err(|error| {
        raised_or(&raised, error.downcast::<PyErr>().unwrap_or_else(|other| told(&other)))
    })?;
    let arrays = |captured: &[Vec<Vec<f32>>], empty: fn(HookPoint) -> f32| {
        let one = |((point, shape), values): (&(HookPoint, Shape), &Vec<Vec<f32>>)| {
            array(shape, size, values, empty(*point))
        };
        places.iter().zip(captured).map(one).collect()
    };
    let logits = Buffer::new(shape.clone(), values.unwrap_or_default());
    Ok((logits, arrays(&run.captures, fill), arrays(&found.captures, |_| 0.0)))
}

/// What the function says of the logits.
fn called(loss: &Py<PyAny>, logits: Buffer) -> Result<Vec<f32>> {
    let n = logits.values().len();
    let bytes = Python::attach(|py| -> PyResult<PyBackedBytes> {
        loss.call1(py, (logits,))?.extract(py).map_err(PyErr::from)
    })?;
    let derivative: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect();
    if derivative.len() != n {
        bail!("the derivative has {} numbers for {n} logits", derivative.len());
    }
    Ok(derivative)
}

/// From derivatives by logits to derivatives by the states that were read; most logits of most losses count nothing.
fn through_output(
    model: &Model<f32>,
    which: usize,
    readout: &Mat<f32>,
    derivative: &[f32],
) -> Result<Mat<f32>> {
    let counts = |row: &[f32]| -> (Vec<u32>, Vec<f64>) {
        let counted = (0u32..).zip(row).filter(|(_, d)| **d != 0.0);
        counted.map(|(token, d)| (token, f64::from(*d))).unzip()
    };
    let (tokens, weights) = derivative.chunks(model.spec().d_vocab).map(counts).unzip();
    let states = States { model: which, normalized: readout.clone(), tokens, reference: Vec::new(), top: 0 };
    let weights: Vec<Vec<f64>> = weights;
    Ok(model.logits_backward(&states, &weights)?)
}

/// The values of all rows of a point as an array.
fn array(shape: &Shape, (n, length): (usize, usize), rows: &[Vec<f32>], empty: f32) -> Buffer {
    let dims = shape.array(n, length);
    let mut values = vec![empty; dims.iter().product()];
    for (i, row) in rows.iter().enumerate() {
        shape.scatter((i / length, i % length, length), row, &mut values);
    }
    Buffer::new(dims, values)
}
