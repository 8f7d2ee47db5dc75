//! What an analysis or a study found.

use crate::error::plain;
use crate::figures::Figure;
use crate::tables::Table;
use lorascope_report::{Page, Section, SummaryTable, render_html};
use lorascope_study::pipeline::Found;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Tables, sections of the report, figures.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Result {
    tables: Vec<Py<Table>>,
    page: Page,
    notes: Vec<String>,
}

impl Result {
    pub fn new(py: Python, found: Found, notes: Vec<String>) -> PyResult<Self> {
        let tables = found.tables.iter().map(|table| Py::new(py, Table::new(table)?));
        Ok(Self { tables: tables.collect::<PyResult<_>>()?, page: found.page, notes })
    }
}

#[pymethods]
impl Result {
    /// All tables.
    fn tables(&self, py: Python) -> Vec<Py<Table>> {
        self.tables.iter().map(|table| table.clone_ref(py)).collect()
    }

    /// Sections of the report, in order.
    fn sections<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.page.sections.iter().map(|section| of_section(py, section)).collect()
    }

    /// What a reader must know before anything else.
    fn warnings(&self) -> Vec<String> {
        self.page.warnings.clone()
    }

    /// What a study says of its questions: question, claim, models, verdict, statement, value.
    fn verdicts(&self) -> Vec<(&str, &str, &str, &str, &str, &str)> {
        let verdict = |v: &lorascope_report::Verdict| v.verdict.name();
        let of = self.page.verdicts.iter();
        of.map(|v| (&*v.question, &*v.claim, &*v.about, verdict(v), &*v.statement, &*v.value)).collect()
    }

    /// What was said on the way: which folder, how long each analysis took.
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The whole report as one HTML page.
    fn html(&self, py: Python) -> PyResult<String> {
        py.detach(|| render_html(&self.page)).map_err(plain)
    }
}

fn of_section<'py>(py: Python<'py>, section: &Section) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    found.set_item("id", &section.id)?;
    found.set_item("title", &section.title)?;
    found.set_item("question", &section.question)?;
    found.set_item("paragraphs", &section.paragraphs)?;
    found.set_item("notes", &section.notes)?;
    let figures = section.figures.iter().map(|figure| Py::new(py, Figure(figure.clone())));
    found.set_item("figures", PyList::new(py, figures.collect::<PyResult<Vec<_>>>()?)?)?;
    let table = |table: &SummaryTable| {
        let columns: Vec<(String, String, bool)> =
            table.columns.iter().map(|c| (c.name.clone(), c.doc.clone(), c.numeric)).collect();
        (table.title.clone(), columns, table.rows.clone())
    };
    found.set_item("tables", section.tables.iter().map(table).collect::<Vec<_>>())?;
    Ok(found)
}
