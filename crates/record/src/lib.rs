//! What a run leaves behind: long-form tables, and a folder that knows which run it belongs to.
//!
//! It is: the declaration of tables ([`TableSpec`]), their rows ([`Table`]), their CSV and Parquet
//! forms, and the run folder ([`RunFolder`]) with its manifest, its lock and its resumable parts.
//! It is not: statistics, figures or pages; it knows no model and no analysis.
//!
//! ```
//! use lorascope_record::{ColumnKind, ColumnSpec, Table, TableSpec, row};
//!
//! const DECISIONS: TableSpec = TableSpec {
//!     name: "decisions",
//!     doc: "One row per model and prompt.",
//!     columns: &[
//!         ColumnSpec { name: "model", kind: ColumnKind::Text, unit: "", doc: "Model name." },
//!         ColumnSpec { name: "delta", kind: ColumnKind::Float, unit: "nat", doc: "logp(B) - logp(A)." },
//!     ],
//! };
//!
//! let mut table = Table::new(&DECISIONS);
//! table.push(&row!["base", 0.25])?;
//! assert_eq!(table.floats("delta")?, [0.25]);
//! # Ok::<(), lorascope_record::Error>(())
//! ```

mod atomic;
mod cell;
mod clock;
mod csv_form;
mod error;
mod hash;
mod identity;
mod manifest;
mod parquet_form;
mod parts;
mod run;
mod schema;
mod table;

pub use atomic::write_atomic;
pub use cell::Cell;
pub use error::{Error, Result};
pub use hash::{sha256_file, sha256_hex};
pub use identity::{InputFile, RunKey};
pub use manifest::{Cost, FileEntry, Manifest, SCHEMA_VERSION, Session, TableEntry};
pub use run::{Opened, RunFolder};
pub use schema::{ColumnKind, ColumnSpec, TableSpec, ValueType};
pub use table::Table;
