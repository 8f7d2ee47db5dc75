//! Tables for pyarrow, pandas, polars and whatever else reads Arrow's C stream.

use crate::error::plain;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchIterator};
use lorascope_record as record;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::sync::Arc;

/// A table; its memory is shared with whoever reads it as Arrow.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Table {
    spec: &'static record::TableSpec,
    batch: Arc<RecordBatch>,
}

impl Table {
    /// The table in Arrow's layout.
    pub fn new(table: &record::Table) -> PyResult<Self> {
        Ok(Self { spec: table.spec(), batch: Arc::new(table.to_arrow().map_err(plain)?) })
    }
}

#[pymethods]
impl Table {
    /// Its name, as in the run folder.
    #[getter]
    fn name(&self) -> &'static str {
        self.spec.name
    }

    /// What a row is.
    #[getter]
    fn doc(&self) -> &'static str {
        self.spec.doc
    }

    /// Columns: name, type, unit, meaning.
    fn columns(&self) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
        self.spec.columns.iter().map(|c| (c.name, c.kind.value_type().name(), c.unit, c.doc)).collect()
    }

    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    /// Arrow's C stream, in a capsule.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A consumer that asks for other types must be ready to get these (Arrow's PyCapsule interface).
        drop(requested_schema);
        let schema = self.batch.schema();
        let batches = RecordBatchIterator::new([Ok(RecordBatch::clone(&self.batch))], schema);
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
    }
}
