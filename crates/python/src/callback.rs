//! Python functions at hook points.

use crate::arrays::Buffer;
use crate::interrupt::Raised;
use crate::shape::{Shape, fill};
use lorascope_engine::{Visit, Visitor};
use pyo3::prelude::*;
use std::sync::Arc;

/// Hands the values of all sequences of a group to a Python function and takes back what it left.
///
/// The function gets a copy, which it may keep: nothing that it does later reaches the engine.
pub(crate) struct Callback {
    /// `function(buffer, name)`, which changes the buffer in place.
    pub function: Py<PyAny>,
    /// Shape of the point.
    pub shape: Shape,
    /// Sequences.
    pub batch: usize,
    /// Their length.
    pub length: usize,
    /// Takes what the function raises.
    pub raised: Arc<Raised>,
}

impl Callback {
    /// For each row its position and the places of its parts in the array.
    fn rows(&self) -> impl Iterator<Item = Vec<(usize, usize)>> + '_ {
        let (batch, length) = (self.batch, self.length);
        (0..batch).flat_map(move |s| (0..length).map(move |p| self.shape.parts(s, p, length)))
    }
}

impl Visitor<f32> for Callback {
    fn visit(&self, visit: &Visit<f32>, values: &mut [&mut [f32]]) -> Result<(), String> {
        let shape = self.shape.array(self.batch, self.length);
        let mut array = vec![fill(visit.point); shape.iter().product()];
        for (parts, row) in self.rows().zip(values.iter()) {
            let mut rest = &row[..];
            for (at, n) in parts {
                let (part, others) = rest.split_at(n);
                array[at..at + n].copy_from_slice(part);
                rest = others;
            }
        }
        let called = Python::attach(|py| -> PyResult<Py<Buffer>> {
            let buffer = Py::new(py, Buffer::new(shape, array))?;
            self.function.call1(py, (&buffer, visit.point.to_string()))?;
            Ok(buffer)
        });
        let buffer = called.map_err(|error| {
            self.raised.keep(error);
            "the function raised an exception".to_owned()
        })?;
        let array = buffer.get().values();
        for (parts, row) in self.rows().zip(values.iter_mut()) {
            let mut rest = &mut row[..];
            for (at, n) in parts {
                let (part, others) = std::mem::take(&mut rest).split_at_mut(n);
                part.copy_from_slice(&array[at..at + n]);
                rest = others;
            }
        }
        Ok(())
    }
}
