//! Rows of one table, stored by column and checked as they come in.
//!
//! What a column refuses (wrong type, null, not-a-number) is refused at [`Table::push`], where the
//! caller still knows the row, and not when the file is written.

use std::cmp::Ordering;

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::schema::{ColumnKind, ColumnSpec, TableSpec, ValueType};

/// Values of one column, one entry a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
}

/// A value that its column has accepted.
enum Accepted {
    Text(Option<String>),
    Int(Option<i64>),
    Float(Option<f64>),
    Bool(Option<bool>),
}

/// A table: its specification and `n_rows` rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    spec: &'static TableSpec,
    columns: Vec<Column>,
    n_rows: usize,
}

impl Table {
    /// An empty table.
    pub fn new(spec: &'static TableSpec) -> Self {
        let columns = spec.columns.iter().map(|column| Column::empty(column.kind)).collect();
        Self { spec, columns, n_rows: 0 }
    }

    /// What the table is declared to hold.
    pub fn spec(&self) -> &'static TableSpec {
        self.spec
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Adds one row, or nothing.
    ///
    /// # Errors
    /// [`Error::RowLength`], [`Error::CellType`], [`Error::UnexpectedNull`]; [`Error::NotFinite`] for NaN
    /// in a column that may not be null (elsewhere NaN is null) and for an infinite number in any.
    pub fn push(&mut self, row: &[Cell]) -> Result<()> {
        let (given, expected) = (row.len(), self.columns.len());
        if given != expected {
            return Err(Error::RowLength { table: self.spec.name, expected, given });
        }
        let accept = |(column, cell)| self.accept(column, cell, row);
        let accepted = self.spec.columns.iter().zip(row).map(accept).collect::<Result<Vec<_>>>()?;
        for (column, value) in self.columns.iter_mut().zip(accepted) {
            column.push(value);
        }
        self.n_rows += 1;
        Ok(())
    }

    /// Adds all rows of `other`, in order.
    ///
    /// # Errors
    /// [`Error::SpecMismatch`] if the two are not the same table.
    pub fn append(&mut self, other: Self) -> Result<()> {
        if self.spec != other.spec {
            return Err(Error::SpecMismatch { to: self.spec.name, from: other.spec.name });
        }
        self.n_rows += other.n_rows;
        for (mine, theirs) in self.columns.iter_mut().zip(other.columns) {
            mine.extend(theirs);
        }
        Ok(())
    }

    /// Sorts the rows by the key columns ([`TableSpec::key_columns`]) in their order, null first;
    /// rows of equal keys keep their order.
    pub fn sort_by_keys(&mut self) {
        let keys = &self.columns[..self.spec.key_columns().len()];
        let by_keys = |&a: &usize, &b: &usize| {
            keys.iter().map(|key| key.compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..self.n_rows).collect();
        order.sort_by(by_keys);
        for column in &mut self.columns {
            column.reorder(&order);
        }
    }

    /// The key columns of row `row` as messages show them: `model=base, prompt_id=CC_1`.
    pub fn row_key(&self, row: usize) -> String {
        let keys = self.spec.key_columns().iter().zip(&self.columns);
        let texts: Vec<_> =
            keys.map(|(spec, column)| format!("{}={}", spec.name, column.text(row))).collect();
        texts.join(", ")
    }

    /// Texts of a column without nulls, one a row.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`]; [`Error::UnexpectedNull`] if a row is null.
    pub fn texts(&self, column: &str) -> Result<Vec<&str>> {
        let values = self.texts_or_null(column)?;
        self.all_defined(column, values.iter().map(Option::as_deref))
    }

    /// Integers of a column without nulls, one a row.
    ///
    /// # Errors
    /// As [`Table::texts`].
    pub fn ints(&self, column: &str) -> Result<Vec<i64>> {
        self.all_defined(column, self.ints_or_null(column)?.iter().copied())
    }

    /// Floats of a column without nulls, one a row.
    ///
    /// # Errors
    /// As [`Table::texts`].
    pub fn floats(&self, column: &str) -> Result<Vec<f64>> {
        self.all_defined(column, self.floats_or_null(column)?.iter().copied())
    }

    /// Booleans of a column without nulls, one a row.
    ///
    /// # Errors
    /// As [`Table::texts`].
    pub fn bools(&self, column: &str) -> Result<Vec<bool>> {
        self.all_defined(column, self.bools_or_null(column)?.iter().copied())
    }

    /// Texts of a column, `None` where null.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`].
    pub fn texts_or_null(&self, column: &str) -> Result<&[Option<String>]> {
        match self.column(column) {
            Some(Column::Text(values)) => Ok(values),
            _ => Err(self.no_such(column, ValueType::Text)),
        }
    }

    /// Integers of a column, `None` where null.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`].
    pub fn ints_or_null(&self, column: &str) -> Result<&[Option<i64>]> {
        match self.column(column) {
            Some(Column::Int(values)) => Ok(values),
            _ => Err(self.no_such(column, ValueType::Int)),
        }
    }

    /// Floats of a column, `None` where null.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`].
    pub fn floats_or_null(&self, column: &str) -> Result<&[Option<f64>]> {
        match self.column(column) {
            Some(Column::Float(values)) => Ok(values),
            _ => Err(self.no_such(column, ValueType::Float)),
        }
    }

    /// Booleans of a column, `None` where null.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`].
    pub fn bools_or_null(&self, column: &str) -> Result<&[Option<bool>]> {
        match self.column(column) {
            Some(Column::Bool(values)) => Ok(values),
            _ => Err(self.no_such(column, ValueType::Bool)),
        }
    }

    /// A column of any type as cells, row by row.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`].
    pub fn cells(&self, column: &str) -> Result<Vec<Cell>> {
        let found = self.column(column).ok_or_else(|| self.no_such(column, ValueType::Text))?;
        Ok((0..self.n_rows()).map(|row| found.cell(row)).collect())
    }

    /// Columns with their specifications, in order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&'static ColumnSpec, &Column)> {
        self.spec.columns.iter().zip(&self.columns)
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns().find(|(spec, _)| spec.name == name).map(|(_, column)| column)
    }

    fn no_such(&self, column: &str, wanted: ValueType) -> Error {
        let name = |c: &ColumnSpec| format!("{} ({})", c.name, c.kind.value_type().name());
        let columns: Vec<_> = self.spec.columns.iter().map(name).collect();
        let columns = columns.join(", ");
        Error::NoSuchColumn {
            table: self.spec.name,
            column: column.to_owned(),
            wanted: wanted.name(),
            columns,
        }
    }

    fn all_defined<T>(&self, column: &str, values: impl Iterator<Item = Option<T>>) -> Result<Vec<T>> {
        let name = self.spec.columns.iter().map(|c| c.name).find(|&name| name == column).unwrap_or_default();
        let defined = |(row, value): (usize, Option<T>)| {
            value.ok_or_else(|| Error::UnexpectedNull {
                table: self.spec.name,
                column: name,
                row: self.row_key(row),
            })
        };
        values.enumerate().map(defined).collect()
    }

    fn accept(&self, column: &'static ColumnSpec, cell: &Cell, row: &[Cell]) -> Result<Accepted> {
        let (table, name) = (self.spec.name, column.name);
        let row = || pushed_row_key(self.spec, row);
        let null = || match column.kind.may_be_null() {
            true => Ok(Accepted::null(column.kind)),
            false => Err(Error::UnexpectedNull { table, column: name, row: row() }),
        };
        let mismatch = || Error::CellType {
            table,
            column: name,
            row: row(),
            expected: column.kind.value_type().name(),
            given: cell.describe(),
        };
        match (column.kind.value_type(), cell) {
            (_, Cell::Null) => null(),
            (ValueType::Float, Cell::Float(v)) if v.is_nan() && column.kind.may_be_null() => null(),
            (ValueType::Float, &Cell::Float(value)) if !value.is_finite() => {
                Err(Error::NotFinite { table, column: name, row: row(), value })
            }
            (ValueType::Float, &Cell::Float(value)) => Ok(Accepted::Float(Some(value))),
            (ValueType::Text, Cell::Text(text)) => Ok(Accepted::Text(Some(text.clone()))),
            (ValueType::Int, &Cell::Int(value)) => Ok(Accepted::Int(Some(value))),
            (ValueType::Int, &Cell::UInt(value)) => {
                i64::try_from(value).map(|v| Accepted::Int(Some(v))).map_err(|_| mismatch())
            }
            (ValueType::Bool, &Cell::Bool(value)) => Ok(Accepted::Bool(Some(value))),
            _ => Err(mismatch()),
        }
    }
}

/// Key columns of a row that is not in the table yet.
fn pushed_row_key(spec: &TableSpec, row: &[Cell]) -> String {
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        other => other.describe().rsplit(' ').next().unwrap_or_default().to_owned(),
    };
    let keys = spec.key_columns().iter().zip(row);
    keys.map(|(column, cell)| format!("{}={}", column.name, text(cell))).collect::<Vec<_>>().join(", ")
}

impl Accepted {
    fn null(kind: ColumnKind) -> Self {
        match kind.value_type() {
            ValueType::Text => Self::Text(None),
            ValueType::Int => Self::Int(None),
            ValueType::Float => Self::Float(None),
            ValueType::Bool => Self::Bool(None),
        }
    }
}

impl Column {
    fn empty(kind: ColumnKind) -> Self {
        match kind.value_type() {
            ValueType::Text => Self::Text(Vec::new()),
            ValueType::Int => Self::Int(Vec::new()),
            ValueType::Float => Self::Float(Vec::new()),
            ValueType::Bool => Self::Bool(Vec::new()),
        }
    }

    fn push(&mut self, value: Accepted) {
        match (self, value) {
            (Self::Text(values), Accepted::Text(value)) => values.push(value),
            (Self::Int(values), Accepted::Int(value)) => values.push(value),
            (Self::Float(values), Accepted::Float(value)) => values.push(value),
            (Self::Bool(values), Accepted::Bool(value)) => values.push(value),
            _ => unreachable!("a value is accepted by the kind of its own column"),
        }
    }

    fn extend(&mut self, other: Self) {
        match (self, other) {
            (Self::Text(mine), Self::Text(theirs)) => mine.extend(theirs),
            (Self::Int(mine), Self::Int(theirs)) => mine.extend(theirs),
            (Self::Float(mine), Self::Float(theirs)) => mine.extend(theirs),
            (Self::Bool(mine), Self::Bool(theirs)) => mine.extend(theirs),
            _ => unreachable!("columns of equal specifications have equal types"),
        }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Text(values) => values[a].cmp(&values[b]),
            Self::Int(values) => values[a].cmp(&values[b]),
            Self::Bool(values) => values[a].cmp(&values[b]),
            Self::Float(values) => match (values[a], values[b]) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            },
        }
    }

    fn reorder(&mut self, order: &[usize]) {
        fn permuted<T: Default>(values: &mut [T], order: &[usize]) -> Vec<T> {
            order.iter().map(|&row| std::mem::take(&mut values[row])).collect()
        }
        match self {
            Self::Text(values) => *values = permuted(values, order),
            Self::Int(values) => *values = permuted(values, order),
            Self::Float(values) => *values = permuted(values, order),
            Self::Bool(values) => *values = permuted(values, order),
        }
    }

    fn cell(&self, row: usize) -> Cell {
        match self {
            Self::Text(values) => values[row].clone().into(),
            Self::Int(values) => values[row].into(),
            Self::Float(values) => values[row].into(),
            Self::Bool(values) => values[row].into(),
        }
    }

    /// Row `row` as CSV and messages show it; null is empty. Floats are in the shortest form that reads
    /// back to the same bits.
    pub(crate) fn text(&self, row: usize) -> String {
        match self {
            Self::Text(values) => values[row].clone().unwrap_or_default(),
            Self::Int(values) => values[row].map(|v| v.to_string()).unwrap_or_default(),
            Self::Float(values) => values[row].map(|v| format!("{v:?}")).unwrap_or_default(),
            Self::Bool(values) => values[row].map(|v| v.to_string()).unwrap_or_default(),
        }
    }
}
