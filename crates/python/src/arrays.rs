//! Numbers for NumPy without a copy.
//!
//! The buffer protocol is not part of Python's stable interface before 3.11, so a [`Buffer`] describes its memory by NumPy's
//! `__array_interface__`: `numpy.asarray(buffer)` is a view that keeps the buffer alive. That takes no other library and no
//! `unsafe` here. From such an array NumPy gives DLPack, by which torch and others see the same memory.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block of 32-bit floats with a shape. `numpy.asarray(buffer)` is a view of it.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Buffer {
    shape: Vec<usize>,
    /// Never grows or shrinks, so that its memory stays where it is.
    values: Mutex<Vec<f32>>,
}

impl Buffer {
    /// Takes the numbers over.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values: Mutex::new(values) }
    }

    /// The numbers as they are now.
    pub fn values(&self) -> MutexGuard<'_, Vec<f32>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Buffer {
    /// NumPy's description of the memory.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let address = self.values().as_mut_ptr().expose_provenance();
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", if cfg!(target_endian = "big") { ">f4" } else { "<f4" })?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item("data", (address, false))?;
        Ok(interface)
    }
}
