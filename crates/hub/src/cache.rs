//! One repository's folder in the cache, laid out as `huggingface_hub` lays it out:
//! `blobs/ETAG` holds the bytes, `snapshots/COMMIT/FILE` links to them, `refs/REVISION` holds a commit.

use crate::error::{Result, io};
use crate::spec::{RepoSpec, is_commit};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The folder of one repository.
pub(crate) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, spec: &RepoSpec) -> Self {
        let folder = format!("models--{}--{}", spec.org, spec.name);
        Self { locks: cache.join(".locks").join(&folder), root: cache.join(folder) }
    }

    /// The commit that `revision` meant when it was last looked up.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        make_parent(&path)?;
        let temporary = beside(&path);
        fs::write(&temporary, commit).map_err(io(&temporary))?;
        fs::rename(&temporary, &path).map_err(io(&path))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Where an unfinished download of a blob lies.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Waits until no other process downloads this blob; released when the file is dropped.
    pub(crate) fn lock(&self, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file = File::create(&path).map_err(io(&path))?;
        file.lock().map_err(io(&path))?;
        Ok(file)
    }

    /// Makes `file` of the snapshot stand for the blob.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        make_parent(&path)?;
        let temporary = beside(&path);
        let to_blobs = "../".repeat(2 + file.matches('/').count());
        place(&self.blob(etag), Path::new(&format!("{to_blobs}blobs/{etag}")), &temporary)?;
        fs::rename(&temporary, &path).map_err(io(&path))
    }
}

#[cfg(unix)]
fn place(_blob: &Path, relative: &Path, link: &Path) -> Result<()> {
    let _ = fs::remove_file(link);
    std::os::unix::fs::symlink(relative, link).map_err(io(link))
}

/// Links need a privilege on other systems; the hub's own library copies there too.
#[cfg(not(unix))]
fn place(blob: &Path, _relative: &Path, link: &Path) -> Result<()> {
    fs::copy(blob, link).map(drop).map_err(io(link))
}

/// A name in the same folder that no other process uses, to be renamed into `path`.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

pub(crate) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(io(parent)),
        None => Ok(()),
    }
}
