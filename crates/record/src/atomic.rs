//! Files that are either whole or not there.
//!
//! A file is written under a temporary name in its own folder, flushed to the disk, and renamed. A
//! process that dies in between leaves at most a temporary file, which the next run removes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Beginning of every temporary file's name.
const TEMPORARY: &str = ".lorascope-tmp-";

/// Writes `bytes` to `path`, replacing what stood there, whole or not at all.
///
/// # Errors
/// [`Error::DiskFull`] or [`Error::Io`]; the old file, if any, is then unchanged.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], with the contents written by `fill`.
pub(crate) fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::BadName { name: path.display().to_string(), problem: "it has no file name" });
    };
    let temporary = folder.join(format!("{TEMPORARY}{}-{}", std::process::id(), name.to_string_lossy()));
    let result = write_and_rename(&temporary, path, fill);
    if result.is_err() {
        // The first error is the one to report; a leftover is removed by the next run.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| Error::io("write", path, source))?;
    sync_folder(folder)
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = File::create(temporary)?;
    fill(&mut file)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)
}

/// Makes a rename in `folder` survive a power failure.
fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix lets a folder be opened as a file.
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(|source| Error::io("flush", folder, source))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes temporary files that a killed run left in `folder`. Only the holder of the run's lock may.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|source| Error::io("list", folder, source))? {
        let entry = entry.map_err(|source| Error::io("list", folder, source))?;
        if is_temporary(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        }
    }
    Ok(())
}

/// Whether `name` is that of a temporary file of ours.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(folder).unwrap().map(name).collect()
    }

    #[test]
    fn replaces_a_file_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a.csv"]);
    }

    /// The system's own "no space left" error, from the device that always gives it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_and_leaves_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |file| {
            file.write_all(b"half of the ne")?;
            File::options().write(true).open("/dev/full")?.write_all(b"w contents")
        })
        .unwrap_err();
        assert!(matches!(&error, Error::DiskFull { path: at } if *at == path), "{error:?}");
        assert!(error.to_string().starts_with("no space left for "), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.csv"]);
    }

    #[test]
    fn leftovers_of_a_killed_run_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{TEMPORARY}77-x.csv")), b"ha").unwrap();
        fs::write(folder.path().join("x.csv"), b"whole").unwrap();
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["x.csv"]);
    }
}
