//! Declaration of a table: its columns, their types, units and meaning.
//!
//! It is const-constructible data, so that an analysis declares its tables once and the documentation
//! of the columns is generated from the same place. It is not rows; those are in [`crate::Table`].

use std::fmt::Write;

/// Type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// UTF-8 text.
    Text,
    /// Signed 64-bit integer.
    Int,
    /// 64-bit float, always finite.
    Float,
    /// True or false.
    Bool,
}

impl ValueType {
    /// Name as it stands in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
        }
    }
}

/// What a column holds, and whether a row may leave it undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text, in every row.
    Text,
    /// Integer, in every row.
    Int,
    /// Finite float, in every row.
    Float,
    /// Boolean, in every row.
    Bool,
    /// Text, or null.
    TextOrNull,
    /// Integer, or null.
    IntOrNull,
    /// Finite float, or null where the quantity is undefined; NaN is stored as null.
    FloatOrNull,
    /// Boolean, or null.
    BoolOrNull,
}

impl ColumnKind {
    /// Type of the values.
    pub const fn value_type(self) -> ValueType {
        match self {
            Self::Text | Self::TextOrNull => ValueType::Text,
            Self::Int | Self::IntOrNull => ValueType::Int,
            Self::Float | Self::FloatOrNull => ValueType::Float,
            Self::Bool | Self::BoolOrNull => ValueType::Bool,
        }
    }

    /// Whether a row may hold null here.
    pub const fn may_be_null(self) -> bool {
        matches!(self, Self::TextOrNull | Self::IntOrNull | Self::FloatOrNull | Self::BoolOrNull)
    }
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Name, `snake_case`, unique in its table.
    pub name: &'static str,
    /// Type and nullability.
    pub kind: ColumnKind,
    /// Unit (`nat`, `token`, …); empty where there is none.
    pub unit: &'static str,
    /// What the number means, in a sentence.
    pub doc: &'static str,
}

/// One table: a file name, a sentence and its columns, identifying columns first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSpec {
    /// Name; also the file name without extension.
    pub name: &'static str,
    /// What one row is.
    pub doc: &'static str,
    /// Columns in order.
    pub columns: &'static [ColumnSpec],
}

impl TableSpec {
    /// The key columns: those before the first float. They name a row in messages and order a sorted
    /// table, which is why identifying columns come first.
    pub fn key_columns(&self) -> &'static [ColumnSpec] {
        let is_float = |column: &ColumnSpec| column.kind.value_type() == ValueType::Float;
        let n_keys = self.columns.iter().position(is_float).unwrap_or(self.columns.len());
        &self.columns[..n_keys]
    }

    /// The table's documentation as Markdown: a heading, its sentence, and one line a column.
    pub fn markdown(&self) -> String {
        let mut text = format!("### `{}`\n\n{}\n\n", self.name, self.doc);
        text.push_str("| column | type | unit | meaning |\n|---|---|---|---|\n");
        for column in self.columns {
            let null = if column.kind.may_be_null() { " or null" } else { "" };
            let kind = column.kind.value_type().name();
            // Writing into a String can't fail.
            let _ = writeln!(
                text,
                "| `{}` | {kind}{null} | {} | {} |",
                column.name,
                one_cell(column.unit),
                one_cell(column.doc)
            );
        }
        text
    }

    /// What is wrong with the declaration itself; empty if nothing. For tests over all declared tables.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_snake_case(self.name) {
            problems.push(format!("table name `{}` isn't snake_case", self.name));
        }
        if self.doc.is_empty() {
            problems.push(format!("table `{}` says nothing about itself", self.name));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if !is_snake_case(column.name) {
                problems.push(format!("column name `{}` isn't snake_case", column.name));
            }
            if column.doc.is_empty() {
                problems.push(format!("column `{}` says nothing about itself", column.name));
            }
            if self.columns[..i].iter().any(|earlier| earlier.name == column.name) {
                problems.push(format!("two columns are called `{}`", column.name));
            }
        }
        problems
    }
}

fn is_snake_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Text for one cell of a Markdown table, where a bar or a line break would end the cell.
fn one_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
