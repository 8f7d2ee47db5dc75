//! Which run is this? A run's identity is what its results depend on: the lorascope version, the
//! command, the seed, the resolved settings and the contents of its inputs. Threads, paths and the
//! command line's wording are recorded but are not part of it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::hash::{sha256_file, sha256_hex};

/// One file that the results depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// What it is to the run, unique in it: `base/model.safetensors`, `prompts`, ….
    pub name: String,
    /// Where it was; not part of the identity.
    pub path: PathBuf,
    /// SHA-256 of its contents, hex.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    /// The file as it was when it was hashed.
    #[serde(skip)]
    seen: Seen,
}

/// What a file system tells of a file without reading it; nothing for one that this process has not read. No part of what the
/// file is: equal whatever it is.
#[derive(Debug, Clone, Copy, Default)]
struct Seen(Option<(FileId, u64, SystemTime)>);

/// Device and number of a file, by which one that took another's name is told from one that was written to.
type FileId = (u64, u64);

impl PartialEq for Seen {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Seen {}

impl Seen {
    /// Nothing where the file system does not tell.
    fn of(path: &Path) -> Self {
        let told = std::fs::metadata(path).and_then(|m| Ok((file_id(&m), m.len(), m.modified()?)));
        Self(told.ok())
    }

    /// Whether the file was written to since. One that was replaced by another of its name was not: whoever has it open still reads
    /// the first.
    fn is_written_to(self, path: &Path) -> bool {
        match (self.0, Self::of(path).0) {
            (Some((id, ..)), Some((now, ..))) if id != now => false,
            (Some(before), Some(now)) => before != now,
            _ => false,
        }
    }
}

#[cfg(unix)]
fn file_id(metadata: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn file_id(_metadata: &std::fs::Metadata) -> FileId {
    (0, 0)
}

impl InputFile {
    /// Reads and hashes the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn read(name: impl Into<String>, path: &Path) -> Result<Self> {
        // Before it is read, so that what happens meanwhile is noticed.
        let seen = Seen::of(path);
        let (sha256, bytes) = sha256_file(path)?;
        // Whoever opens the run later may stand in another folder.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { name: name.into(), path, sha256, bytes, seen })
    }

    /// Refuses to go on where the file was written to since it was hashed: weights are read while a run goes on, and its results would
    /// be of two files.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match self.seen.is_written_to(&self.path) {
            true => Err(Error::InputChanged { name: self.name.clone(), path: self.path.clone() }),
            false => Ok(()),
        }
    }
}

/// What a run is about to do, as [`crate::RunFolder::open`] needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunKey {
    /// The verb: `decide`, `lens`, `study`. Identity.
    pub command: String,
    /// Fully resolved settings, defaults included; no thread count and no paths. Identity.
    pub settings: Value,
    /// Seed of everything random. Identity.
    pub seed: u64,
    /// Files read. Their names and hashes are identity, their paths are not.
    pub inputs: Vec<InputFile>,
    /// The command line as given. Recorded only.
    pub command_line: Vec<String>,
    /// Threads used. Recorded only: results don't depend on it.
    pub threads: usize,
}

impl RunKey {
    /// SHA-256 over everything that the run's results depend on, as in its manifest.
    ///
    /// # Errors
    /// [`Error::DuplicateInput`].
    pub fn identity(&self) -> Result<String> {
        Ok(Identity::of(self)?.sha256())
    }
}

/// The part of a manifest that makes a run what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) version: String,
    pub(crate) command: String,
    pub(crate) seed: u64,
    pub(crate) settings: Value,
    pub(crate) inputs: Vec<InputFile>,
}

impl Identity {
    /// Identity of `key` under this version of lorascope; inputs in order of name.
    pub(crate) fn of(key: &RunKey) -> Result<Self> {
        let mut inputs = key.inputs.clone();
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = inputs.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::DuplicateInput { name: pair[0].name.clone() });
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: key.command.clone(),
            seed: key.seed,
            settings: key.settings.clone(),
            inputs,
        })
    }

    /// SHA-256 over everything that results depend on.
    pub(crate) fn sha256(&self) -> String {
        let inputs: Vec<_> = self.inputs.iter().map(|input| (&input.name, &input.sha256)).collect();
        let parts =
            serde_json::json!([self.version, self.command, self.seed, in_key_order(&self.settings), inputs]);
        sha256_hex(parts.to_string().as_bytes())
    }

    /// One line `  what: there -> now` for each difference; empty for the same run.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut compare = |what: &str, there: String, now: String| {
            if there != now {
                changes.push(format!("  {what}: `{there}` -> `{now}`"));
            }
        };
        compare("lorascope version", self.version.clone(), now.version.clone());
        compare("command", self.command.clone(), now.command.clone());
        compare("seed", self.seed.to_string(), now.seed.to_string());
        compare_settings("settings", &self.settings, &now.settings, &mut compare);
        let described = |inputs: &[InputFile], name: &str| {
            let found = inputs.iter().find(|input| input.name == name);
            found.map_or("absent".to_owned(), |i| format!("{} bytes, sha256 {}", i.bytes, i.sha256))
        };
        let mut names: Vec<_> = self.inputs.iter().chain(&now.inputs).map(|input| &input.name).collect();
        names.sort();
        names.dedup();
        for name in names {
            compare(&format!("input {name}"), described(&self.inputs, name), described(&now.inputs, name));
        }
        changes
    }
}

/// Compares two settings down to the values that differ, each named by its dotted path.
fn compare_settings(at: &str, there: &Value, now: &Value, compare: &mut impl FnMut(&str, String, String)) {
    let shown = |value: Option<&Value>| value.map_or("absent".to_owned(), |v| in_key_order(v).to_string());
    let (Value::Object(there), Value::Object(now)) = (there, now) else {
        return compare(at, shown(Some(there)), shown(Some(now)));
    };
    let mut keys: Vec<_> = there.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let at = format!("{at}.{key}");
        match (there.get(key), now.get(key)) {
            (Some(there), Some(now)) => compare_settings(&at, there, now, compare),
            (there, now) => compare(&at, shown(there), shown(now)),
        }
    }
}

/// The value with every object's keys sorted, so that the order in which settings were assembled is no
/// part of the identity (serde_json keeps insertion order when any crate of the build asks for it).
pub(crate) fn in_key_order(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), in_key_order(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(in_key_order).collect()),
        other => other.clone(),
    }
}
