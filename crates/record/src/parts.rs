//! Finished units of work, kept so that a run which is killed goes on where it stopped.
//!
//! A part is bytes under a name, in `.parts/`. Its file begins with a line that holds a checksum over the
//! run's identity, the part's name and the bytes. A part whose checksum is wrong is deleted and
//! computed again: parts are derived data, and computing one anew gives the same bytes. How many were
//! discarded is counted, so that a failing disk does not go unnoticed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use crate::hash::sha256_hex;

/// First word of a part's file, and the version of its form.
const MAGIC: &str = "lorascope-part-1";

/// The folder of parts of one run.
#[derive(Debug)]
pub(crate) struct Parts {
    folder: PathBuf,
    identity: String,
}

/// What was found under a part's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Whole(Vec<u8>),
    Damaged,
}

impl Parts {
    pub(crate) fn new(folder: PathBuf, identity: String) -> Self {
        Self { folder, identity }
    }

    pub(crate) fn load(&self, name: &str) -> Result<Found> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(Error::io("read", &path, source)),
        };
        let header_end = self.header(name, &[]).len();
        let (header, contents) = bytes.split_at(header_end.min(bytes.len()));
        if header == self.header(name, contents).as_bytes() {
            return Ok(Found::Whole(contents.to_vec()));
        }
        fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        Ok(Found::Damaged)
    }

    pub(crate) fn save(&self, name: &str, contents: &[u8]) -> Result<()> {
        let mut bytes = self.header(name, contents).into_bytes();
        bytes.extend_from_slice(contents);
        write_atomic(&self.path(name), &bytes)
    }

    /// Number of parts there, damaged or not.
    pub(crate) fn count(&self) -> Result<usize> {
        let entries = fs::read_dir(&self.folder).map_err(|source| Error::io("list", &self.folder, source))?;
        Ok(entries.count())
    }

    /// Deletes the folder and all parts in it.
    pub(crate) fn remove_all(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.folder, source))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names hold slashes and anything else; their hash is the file name.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(&sha256_hex(name.as_bytes())[..32])
    }

    /// `MAGIC CHECKSUM\n`, always of one length.
    fn header(&self, name: &str, contents: &[u8]) -> String {
        let contents = sha256_hex(contents);
        let all = format!("{}\n{}\n{}", self.identity, sha256_hex(name.as_bytes()), contents);
        format!("{MAGIC} {}\n", sha256_hex(all.as_bytes()))
    }
}
