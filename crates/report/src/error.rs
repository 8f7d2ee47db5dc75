//! What can be wrong with a figure or a page.

/// An error of this crate; every variant names the figure or section it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two lists that belong together have different lengths.
    #[error("figure `{figure}`, {place}: {given} values for {expected} {of}")]
    LengthMismatch {
        /// Figure name.
        figure: String,
        /// Panel and series.
        place: String,
        /// What is counted.
        of: &'static str,
        /// Length wanted.
        expected: usize,
        /// Length found.
        given: usize,
    },
    /// A number that no axis can show.
    #[error(
        "figure `{figure}`, {place}: `{value}` can't be drawn; leave the value out (null) where it is undefined"
    )]
    NotDrawable {
        /// Figure name.
        figure: String,
        /// Panel and series.
        place: String,
        /// The value.
        value: f64,
    },
    /// A graph whose names don't fit together.
    #[error("figure `{figure}`, panel `{panel}`: {problem}")]
    Graph {
        /// Figure name.
        figure: String,
        /// Panel title.
        panel: String,
        /// What is wrong, with the names.
        problem: String,
    },
    /// Values of single prompts that don't belong to the figure's cells.
    #[error(
        "figure `{figure}`: its values by prompt have another shape than its cells; make them with `ByPrompt::new`"
    )]
    BadSlices {
        /// Figure name.
        figure: String,
    },
    /// A figure without panels, or a panel without anything in it.
    #[error("figure `{figure}` has nothing to show: {problem}")]
    Empty {
        /// Figure name.
        figure: String,
        /// What is missing.
        problem: String,
    },
    /// A figure or section name that can't be a file name or an HTML id, or that appears twice.
    #[error("`{name}` can't name a figure or section: {problem}")]
    BadName {
        /// The name given.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A summary table whose row has another number of cells than there are columns.
    #[error("summary table `{table}`, row {row}: {given} cells for {expected} columns")]
    RowLength {
        /// Title of the table.
        table: String,
        /// Row, counted from 0.
        row: usize,
        /// Number of columns.
        expected: usize,
        /// Number of cells.
        given: usize,
    },
    /// The SVG could not be read as a drawing.
    #[error("this SVG can't be rasterised: {problem}")]
    Raster {
        /// What the library said.
        problem: String,
    },
    /// The data for the page's script could not be written.
    #[error("the page's data can't be written: {source}")]
    Data {
        /// The library's error.
        source: serde_json::Error,
    },
    /// The page template failed.
    #[error("the page can't be written: {source}")]
    Template {
        /// The template engine's error.
        source: askama::Error,
    },
    /// The figure's numbers could not be written as CSV.
    #[error("figure `{figure}` as CSV: {source}")]
    Csv {
        /// Figure name.
        figure: String,
        /// The library's error.
        source: csv::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
