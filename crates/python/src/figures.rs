//! Figures that show themselves in notebooks.

use crate::error::plain;
use lorascope_report as report;
use pyo3::prelude::*;
use std::borrow::Cow;

/// A figure of a report.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Figure(pub report::Figure);

impl Figure {
    fn file(&self, ending: &str) -> PyResult<Vec<u8>> {
        let svg = || report::render_svg(&self.0, &report::Theme::default()).map_err(plain);
        match ending {
            "svg" => Ok(svg()?.into_bytes()),
            "png" => report::render_png(&svg()?).map_err(plain),
            "pdf" => report::render_pdf(&svg()?, &self.0.title).map_err(plain),
            "csv" => report::figure_csv(&self.0).map(String::into_bytes).map_err(plain),
            _ => Err(plain(format!("a figure can be svg, png, pdf or csv, not `{ending}`"))),
        }
    }
}

#[pymethods]
impl Figure {
    /// Its name, as in the run folder.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Its title.
    #[getter]
    fn title(&self) -> &str {
        &self.0.title
    }

    /// What it shows and how to read it.
    #[getter]
    fn caption(&self) -> &str {
        &self.0.caption
    }

    /// The figure as a file: `svg`, `png`, `pdf`, or its numbers as `csv`.
    fn render(&self, py: Python, format: &str) -> PyResult<Cow<'static, [u8]>> {
        py.detach(|| self.file(format)).map(Cow::Owned)
    }

    fn _repr_svg_(&self, py: Python) -> PyResult<String> {
        let svg = py.detach(|| report::render_svg(&self.0, &report::Theme::default()));
        svg.map_err(plain)
    }
}
