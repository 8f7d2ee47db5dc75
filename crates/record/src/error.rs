//! What can be wrong with a table or a run folder.

use std::path::{Path, PathBuf};

/// An error of this crate; every variant names the table, file or folder it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row has more or fewer cells than the table has columns.
    #[error("table `{table}`: a row of {given} cells for {expected} columns")]
    RowLength {
        /// Table name.
        table: &'static str,
        /// Number of columns.
        expected: usize,
        /// Number of cells given.
        given: usize,
    },
    /// A cell's type is not its column's.
    #[error("table `{table}`, column `{column}`, row {row}: `{given}` given, {expected} expected")]
    CellType {
        /// Table name.
        table: &'static str,
        /// Column name.
        column: &'static str,
        /// The row, named by its key columns.
        row: String,
        /// Type that the column holds.
        expected: &'static str,
        /// The cell given.
        given: String,
    },
    /// NaN where the column may not be null, or an infinite number.
    #[error(
        "table `{table}`, column `{column}`, row {row}: `{value}` is not a measurement; \
         find where it arose, or let the column be null where the quantity is undefined"
    )]
    NotFinite {
        /// Table name.
        table: &'static str,
        /// Column name.
        column: &'static str,
        /// The row, named by its key columns.
        row: String,
        /// The value as printed.
        value: f64,
    },
    /// Null in a column that may not be null.
    #[error("table `{table}`, column `{column}`, row {row}: null, but this column may not be null")]
    UnexpectedNull {
        /// Table name.
        table: &'static str,
        /// Column name.
        column: &'static str,
        /// The row, named by its key columns.
        row: String,
    },
    /// A column that the table does not have, or not with this type.
    #[error("table `{table}` has no {wanted} column `{column}`; its columns are: {columns}")]
    NoSuchColumn {
        /// Table name.
        table: &'static str,
        /// Column that was asked for.
        column: String,
        /// Type that was asked for.
        wanted: &'static str,
        /// `name (type)` of every column.
        columns: String,
    },
    /// Two tables of different specifications were to be joined.
    #[error("rows of table `{from}` can't be appended to table `{to}`: their columns differ")]
    SpecMismatch {
        /// Table that should grow.
        to: &'static str,
        /// Table whose rows were given.
        from: &'static str,
    },
    /// A folder that should hold a finished run.
    #[error("{}: no finished run lies there; give the folder that a run wrote, and let the run come to its end", dir.display())]
    NotFinished {
        /// The folder.
        dir: PathBuf,
    },
    /// Parquet bytes don't hold the table that they should.
    #[error("table `{table}`: {problem}")]
    WrongParquet {
        /// Table that was expected.
        table: &'static str,
        /// What differs.
        problem: String,
    },
    /// The Parquet library refused.
    #[error("table `{table}` as Parquet: {source}")]
    Parquet {
        /// Table name.
        table: &'static str,
        /// The library's error.
        source: parquet::errors::ParquetError,
    },
    /// The Arrow library refused.
    #[error("table `{table}` as Arrow columns: {source}")]
    Arrow {
        /// Table name.
        table: &'static str,
        /// The library's error.
        source: arrow_schema::ArrowError,
    },
    /// The CSV library refused.
    #[error("table `{table}` as CSV: {source}")]
    Csv {
        /// Table name.
        table: &'static str,
        /// The library's error.
        source: csv::Error,
    },
    /// No room for a file; nothing of it was left behind.
    #[error(
        "no space left for {path}: nothing was left half-written; \
         free some space and run the same command again, it goes on where it stopped"
    )]
    DiskFull {
        /// File that was to be written.
        path: PathBuf,
    },
    /// Another failure of the file system.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The folder belongs to a run with other settings, inputs or version.
    #[error(
        "{dir} holds another run; what differs (there -> now):\n{}\n\
         give another output folder, or remove this one",
        changes.join("\n")
    )]
    AnotherRun {
        /// The run folder.
        dir: PathBuf,
        /// One line for each difference.
        changes: Vec<String>,
    },
    /// Another process works in the folder.
    #[error("{dir} is in use by another run; wait until it ends, or give another output folder")]
    InUse {
        /// The run folder.
        dir: PathBuf,
    },
    /// The folder holds files but no manifest.
    #[error("{dir} isn't a run folder: it holds `{found}` but no manifest.json; give a new or empty folder")]
    NotARunFolder {
        /// The folder given.
        dir: PathBuf,
        /// One of the things found there.
        found: String,
    },
    /// A file where the folder should be.
    #[error("{dir} is a file; give a folder for the results")]
    NotAFolder {
        /// The path given.
        dir: PathBuf,
    },
    /// A manifest that can't be read.
    #[error(
        "{path} can't be read as a run's manifest: {problem}; give another output folder, or remove this one"
    )]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A name that can't become a file of the run folder.
    #[error("`{name}` can't be the name of a file in a run folder: {problem}")]
    BadName {
        /// The name given.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An input was written to while the run went on.
    #[error(
        "input {name} ({}) was written to while the run read it; nothing computed since is kept. \
         Put the file back as it was and run the same command again, or give another output folder for the new file",
        path.display()
    )]
    InputChanged {
        /// What it is to the run.
        name: String,
        /// Where it lies.
        path: PathBuf,
    },
    /// Two inputs of one run have the same name.
    #[error("two inputs of this run are called `{name}`; each needs a name of its own")]
    DuplicateInput {
        /// The name given twice.
        name: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error of a file operation; a full disk or quota becomes [`Error::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull { path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}
