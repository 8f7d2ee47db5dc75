//! Which rows of a table a claim comes from, as words that a reader understands and that the report can look up:
//! `model=a or b, class=suppressed, head known`.

use crate::error::Result;
use lorascope_record::{Cell, Table};
use std::fmt;

/// Conditions that all hold, and the column to look at where it is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    conditions: Vec<(String, Condition)>,
    column: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// The cell is one of these.
    OneOf(Vec<String>),
    /// The cell is another.
    Not(String),
    /// The cell is not null.
    Known,
}

const OR: &str = " or ";

impl Selection {
    /// All rows; in one column.
    pub fn column(name: &str) -> Self {
        Self { column: Some(name.to_owned()), ..Self::default() }
    }

    /// Selection where a cell has a value.
    pub fn of(column: &str, value: &str) -> Self {
        Self::default().and(column, value)
    }

    /// Selection where a cell has one of some values.
    pub fn one_of(column: &str, values: &[&str]) -> Self {
        Self::default().and_one_of(column, values)
    }

    /// Selection where a cell has another value.
    pub fn not(column: &str, value: &str) -> Self {
        Self::default().with(column, Condition::Not(value.to_owned()))
    }

    pub fn and(self, column: &str, value: &str) -> Self {
        self.and_one_of(column, &[value])
    }

    pub fn and_one_of(self, column: &str, values: &[&str]) -> Self {
        self.with(column, Condition::OneOf(values.iter().map(|&v| v.to_owned()).collect()))
    }

    /// Selection where a cell is not null.
    pub fn and_known(self, column: &str) -> Self {
        self.with(column, Condition::Known)
    }

    fn with(mut self, column: &str, condition: Condition) -> Self {
        self.conditions.push((column.to_owned(), condition));
        self
    }

    /// What [`fmt::Display`] wrote; `None` for other text.
    fn parse(text: &str) -> Option<Self> {
        let mut rows = Self::default();
        for part in text.split(", ") {
            if let Some(column) = part.strip_prefix("column ") {
                rows.column = Some(column.to_owned());
            } else if let Some((column, values)) = part.split_once('=') {
                rows = rows.and_one_of(column, &values.split(OR).collect::<Vec<_>>());
            } else if let Some((column, value)) = part.split_once(" not ") {
                rows = rows.with(column, Condition::Not(value.to_owned()));
            } else {
                rows = rows.and_known(part.strip_suffix(" known")?);
            }
        }
        Some(rows)
    }

    fn select(&self, table: &Table) -> Result<Vec<usize>> {
        let mut rows: Vec<usize> = (0..table.n_rows()).collect();
        for (column, condition) in &self.conditions {
            let cells = table.cells(column)?;
            rows.retain(|&i| condition.holds(&cells[i]));
        }
        Ok(rows)
    }
}

impl Condition {
    fn holds(&self, cell: &Cell) -> bool {
        match (self, written(cell)) {
            (Self::Known, text) => text.is_some(),
            (Self::OneOf(values), Some(text)) => values.contains(&text),
            (Self::Not(value), Some(text)) => *value != text,
            (Self::OneOf(_) | Self::Not(_), None) => false,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for (column, condition) in &self.conditions {
            parts.push(match condition {
                Condition::OneOf(values) => format!("{column}={}", values.join(OR)),
                Condition::Not(value) => format!("{column} not {value}"),
                Condition::Known => format!("{column} known"),
            });
        }
        parts.extend(self.column.as_ref().map(|column| format!("column {column}")));
        f.write_str(&parts.join(", "))
    }
}

/// A cell as text; `None` for null.
fn written(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.clone()),
        Cell::Int(v) => Some(v.to_string()),
        Cell::UInt(v) => Some(v.to_string()),
        Cell::Float(v) => Some(format!("{v:?}")),
        Cell::Bool(v) => Some(v.to_string()),
    }
}

/// Selection of a table as readers see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The column to look at, where it is one.
    pub column: Option<usize>,
    /// The first rows, cell by cell; empty for null.
    pub rows: Vec<Vec<String>>,
    /// How many there are in all.
    pub n_rows: usize,
}

/// The rows that a claim names as its source, the first `most` of them; `None` where the words name none.
///
/// # Errors
/// Words that name columns which the table does not have.
pub fn claimed_rows(table: &Table, words: &str, most: usize) -> Result<Option<ClaimedRows>> {
    let Some(rows) = Selection::parse(words) else { return Ok(None) };
    let selected = rows.select(table)?;
    let columns: Vec<String> = table.spec().columns.iter().map(|c| c.name.to_owned()).collect();
    let column = rows.column.as_ref().and_then(|name| columns.iter().position(|c| c == name));
    let cells = columns.iter().map(|name| table.cells(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let row = |&i: &usize| cells.iter().map(|c| written(&c[i]).unwrap_or_default()).collect();
    let shown = selected.iter().take(most).map(row).collect();
    Ok(Some(ClaimedRows { columns, column, rows: shown, n_rows: selected.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_meant() {
        let all = [
            Selection::one_of("model", &["a", "b", "c"]).and("set", "smallest"),
            Selection::not("verdict", "ok"),
            Selection::of("model", "a").and_one_of("class", &["suppressed", "inverted"]).and_known("head"),
            Selection::column("error"),
        ];
        for rows in all {
            assert_eq!(Selection::parse(&rows.to_string()), Some(rows));
        }
        assert_eq!(Selection::parse("whatever this is"), None);
    }

    #[test]
    fn rows_are_those_of_which_all_is_true() {
        use crate::conclusions::claim::{CLAIMS, Claim, Question, Verdict};
        let mut table = Table::new(&CLAIMS);
        let claim = |name, value| Claim::new(name, Verdict::Yes, "it is so").value(value, None);
        for claim in [claim("one", Some(1.0)), claim("two", None), claim("two", Some(2.0)).n(7)] {
            table.push(&claim.cells(Question::Targets)).unwrap();
        }
        let of = |rows: Selection| claimed_rows(&table, &rows.to_string(), 10).unwrap().unwrap();
        assert_eq!(of(Selection::of("claim", "two")).n_rows, 2);
        assert_eq!(of(Selection::of("claim", "two").and_known("value")).n_rows, 1);
        assert_eq!(of(Selection::one_of("n", &["7"])).n_rows, 1);
        assert_eq!(of(Selection::not("claim", "two")).rows[0][1], "one");
        assert_eq!(of(Selection::column("value")).column, Some(5));
        assert_eq!(claimed_rows(&table, "claim=two", 1).unwrap().unwrap().rows.len(), 1);
        assert!(claimed_rows(&table, "no_such=1", 1).is_err());
    }
}
