//! Python functions at hook points.

use crate::arrays::Buffer;
use crate::interrupt::Raised;
use crate::shape::{Cell, Shape, fill};
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
    /// The place of each row in the array.
    fn cells(&self) -> impl Iterator<Item = Cell> {
        let length = self.length;
        (0..self.batch).flat_map(move |s| (0..length).map(move |p| (s, p, length)))
    }
}

impl Visitor<f32> for Callback {
    fn visit(&self, visit: &Visit<f32>, values: &mut [&mut [f32]]) -> Result<(), String> {
        let shape = self.shape.array(self.batch, self.length);
        let mut array = vec![fill(visit.point); shape.iter().product()];
        for (cell, row) in self.cells().zip(values.iter()) {
            self.shape.scatter(cell, row, &mut array);
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
        for (cell, row) in self.cells().zip(values.iter_mut()) {
            self.shape.gather(cell, &array, row);
        }
        Ok(())
    }
}
