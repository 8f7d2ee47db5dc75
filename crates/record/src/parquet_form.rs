//! A table as Arrow, and as Parquet and back.
//!
//! Meaning and unit of a column stand in its field's metadata (`doc`, `unit`), the table's name and
//! sentence in the schema's. The bytes hold no time and no library version, so equal rows give equal
//! bytes. It is not a reader of foreign Parquet: [`Table::from_parquet`] takes what was written here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::schema::{TableSpec, ValueType};
use crate::table::{Column, Table};

impl Table {
    /// The table in Arrow's own layout, with the meanings of table and columns as metadata.
    ///
    /// # Errors
    /// [`Error::Arrow`] if the library refuses.
    pub fn to_arrow(&self) -> Result<RecordBatch> {
        let arrays = self.columns().map(|(_, column)| to_arrow(column)).collect();
        RecordBatch::try_new(Arc::new(arrow_schema_of(self.spec())), arrays)
            .map_err(|source| Error::Arrow { table: self.spec().name, source })
    }

    /// The table as Parquet bytes (Snappy); equal rows give equal bytes.
    ///
    /// # Errors
    /// [`Error::Arrow`] or [`Error::Parquet`] if a library refuses.
    pub fn to_parquet(&self) -> Result<Vec<u8>> {
        let table = self.spec().name;
        let refused = |source| Error::Parquet { table, source };
        let batch = self.to_arrow()?;
        let properties = WriterProperties::builder()
            .set_created_by("lorascope".to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(refused)?;
        writer.write(&batch).map_err(refused)?;
        writer.close().map_err(refused)?;
        Ok(bytes)
    }

    /// The table that [`Table::to_parquet`] wrote; every value is checked as by [`Table::push`].
    ///
    /// # Errors
    /// [`Error::WrongParquet`] if names or types differ from `spec`, and the errors of both libraries.
    pub fn from_parquet(spec: &'static TableSpec, bytes: &[u8]) -> Result<Self> {
        let refused = |source| Error::Parquet { table: spec.name, source };
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(refused)?;
        check_schema(spec, reader.schema())?;
        let mut table = Self::new(spec);
        for batch in reader.build().map_err(refused)? {
            let batch = batch.map_err(|source| Error::Arrow { table: spec.name, source })?;
            for row in 0..batch.num_rows() {
                let cells: Vec<_> =
                    batch.columns().iter().map(|column| cell_at(column.as_ref(), row)).collect();
                table.push(&cells)?;
            }
        }
        Ok(table)
    }
}

fn arrow_schema_of(spec: &TableSpec) -> Schema {
    let field = |column: &crate::ColumnSpec| {
        let meaning = HashMap::from([
            ("doc".to_owned(), column.doc.to_owned()),
            ("unit".to_owned(), column.unit.to_owned()),
        ]);
        Field::new(column.name, arrow_type(column.kind.value_type()), column.kind.may_be_null())
            .with_metadata(meaning)
    };
    let fields: Vec<_> = spec.columns.iter().map(field).collect();
    let meaning =
        HashMap::from([("table".to_owned(), spec.name.to_owned()), ("doc".to_owned(), spec.doc.to_owned())]);
    Schema::new_with_metadata(fields, meaning)
}

fn arrow_type(kind: ValueType) -> DataType {
    match kind {
        ValueType::Text => DataType::Utf8,
        ValueType::Int => DataType::Int64,
        ValueType::Float => DataType::Float64,
        ValueType::Bool => DataType::Boolean,
    }
}

fn to_arrow(column: &Column) -> ArrayRef {
    match column {
        Column::Text(values) => Arc::new(StringArray::from_iter(values)),
        Column::Int(values) => Arc::new(Int64Array::from_iter(values)),
        Column::Float(values) => Arc::new(Float64Array::from_iter(values)),
        Column::Bool(values) => Arc::new(BooleanArray::from_iter(values)),
    }
}

fn check_schema(spec: &'static TableSpec, found: &Schema) -> Result<()> {
    let expected = arrow_schema_of(spec);
    let names_and_types = |schema: &Schema| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    };
    let (expected, found) = (names_and_types(&expected), names_and_types(found));
    if expected == found {
        return Ok(());
    }
    let problem = format!("columns are {found:?}, expected {expected:?}");
    Err(Error::WrongParquet { table: spec.name, problem })
}

/// Value of one row; `check_schema` has made sure that the types are among these four.
fn cell_at(column: &dyn Array, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Null;
    }
    let any = column.as_any();
    if let Some(values) = any.downcast_ref::<StringArray>() {
        Cell::from(values.value(row))
    } else if let Some(values) = any.downcast_ref::<Int64Array>() {
        Cell::from(values.value(row))
    } else if let Some(values) = any.downcast_ref::<Float64Array>() {
        Cell::from(values.value(row))
    } else if let Some(values) = any.downcast_ref::<BooleanArray>() {
        Cell::from(values.value(row))
    } else {
        unreachable!("the schema was compared with the table's before")
    }
}
