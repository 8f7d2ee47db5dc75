//! `manifest.json`: what a run folder holds and where it came from.
//!
//! Everything outside `sessions` depends on the run's identity and results alone, so two runs of one
//! identity differ in that section only (and in the paths of inputs that were moved).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::identity::{Identity, InputFile, in_key_order};

/// Version of the manifest's form; raised when a reader would have to change.
pub const SCHEMA_VERSION: u32 = 1;

/// The commit that the program was built from, if the build named it.
const GIT_COMMIT: Option<&str> = option_env!("LORASCOPE_GIT_COMMIT");

/// Contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema_version: u32,
    /// Version of lorascope.
    pub lorascope_version: String,
    /// Commit that it was built from; null if the build did not name it.
    pub git_commit: Option<String>,
    /// The verb.
    pub command: String,
    /// SHA-256 over version, command, seed, settings, and names and hashes of inputs.
    pub identity: String,
    /// Seed.
    pub seed: u64,
    /// Resolved settings, keys sorted.
    pub settings: Value,
    /// Files read, by name.
    pub inputs: Vec<InputFile>,
    /// Analyses that are done, in order of name.
    pub analyses: Vec<String>,
    /// Tables by name.
    pub tables: BTreeMap<String, TableEntry>,
    /// Other files, by path relative to the folder, `/` between parts.
    pub files: BTreeMap<String, FileEntry>,
    /// Whether the run came to its end.
    pub finished: bool,
    /// When and how the run was worked on; the section that is not deterministic.
    pub sessions: Vec<Session>,
}

/// One table of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEntry {
    /// Number of rows.
    pub rows: usize,
    /// Column names in order.
    pub columns: Vec<String>,
    /// The CSV file.
    pub csv: FileEntry,
    /// The Parquet file.
    pub parquet: FileEntry,
}

/// Size and hash of a file of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256, hex.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// One process's work on the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Start, UTC.
    pub started: String,
    /// End, UTC; null for a session that was cut off or has not ended.
    pub finished: Option<String>,
    /// The command line as given.
    pub command_line: Vec<String>,
    /// Threads used.
    pub threads: usize,
    /// What each analysis that ended in this session took, in the order in which they ended.
    #[serde(default)]
    pub costs: Vec<Cost>,
}

/// What an analysis took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Name of the analysis.
    pub analysis: String,
    /// Seconds from its beginning to its end, in this session.
    pub seconds: f64,
    /// Processor time of all threads in seconds; null where the system does not tell.
    pub processor_seconds: Option<f64>,
    /// The most memory that the program held meanwhile, in bytes; null where the system does not tell.
    pub peak_bytes: Option<u64>,
}

impl Manifest {
    /// The manifest of a run that has done nothing yet.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            identity: identity.sha256(),
            lorascope_version: identity.version,
            git_commit: GIT_COMMIT.map(str::to_owned),
            command: identity.command,
            seed: identity.seed,
            settings: in_key_order(&identity.settings),
            inputs: identity.inputs,
            analyses: Vec::new(),
            tables: BTreeMap::new(),
            files: BTreeMap::new(),
            finished: false,
            sessions: Vec::new(),
        }
    }

    /// The identity that the run folder has.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            version: self.lorascope_version.clone(),
            command: self.command.clone(),
            seed: self.seed,
            settings: self.settings.clone(),
            inputs: self.inputs.clone(),
        }
    }

    /// Reads `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read, [`Error::BadManifest`] if it is none or one of another version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match lorascope_bounded::read(path, lorascope_bounded::SETTINGS) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("read", path, source)),
        };
        let bad = |problem: String| Error::BadManifest { path: path.to_owned(), problem };
        // The version comes first: a newer form must be named as such, not as an unknown field.
        let value: Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let version = value.get("schema_version").and_then(Value::as_u64);
        if version != Some(u64::from(SCHEMA_VERSION)) {
            let found = version.map_or("none".to_owned(), |v| v.to_string());
            return Err(bad(format!("its schema_version is `{found}`, this program reads {SCHEMA_VERSION}")));
        }
        serde_json::from_value(value).map(Some).map_err(|error| bad(error.to_string()))
    }

    /// The manifest as text; equal manifests give equal bytes.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Error::BadManifest {
            path: PathBuf::from("manifest.json"),
            problem: error.to_string(),
        })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Path relative to the folder, and entry, of every file that the run has written.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = (String, &FileEntry)> {
        let tables = self.tables.iter().flat_map(|(name, table)| {
            [(format!("tables/{name}.csv"), &table.csv), (format!("tables/{name}.parquet"), &table.parquet)]
        });
        tables.chain(self.files.iter().map(|(path, entry)| (path.clone(), entry)))
    }
}
