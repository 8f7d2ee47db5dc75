//! The folder of one run: lock, manifest, parts, tables, figures.
//!
//! Only one process works in it (advisory lock), only one run's results are in it (identity), and every
//! file in it is whole (atomic writes) and listed in the manifest with its hash. It does not know what
//! the tables mean.

use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::atomic::{is_temporary, remove_leftovers, write_atomic};
use crate::clock::now_utc;
use crate::error::{Error, Result};
use crate::hash::{sha256_file, sha256_hex};
use crate::identity::{Identity, InputFile, RunKey};
use crate::manifest::{Cost, FileEntry, Manifest, Session, TableEntry};
use crate::parts::{Found, Parts};
use crate::schema::TableSpec;
use crate::table::Table;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const PARTS: &str = ".parts";

/// In what state [`RunFolder::open`] found the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It was new or empty.
    Created,
    /// The run had been cut off; this many parts are there.
    Resumed {
        /// Parts found.
        parts: usize,
    },
    /// The run had come to its end and every file is as it was written: nothing is left to do.
    Finished,
    /// Files that the manifest lists are missing or changed. No analysis counts as done any more; what
    /// is missing is computed and written again.
    Damaged {
        /// The files, relative to the folder.
        files: Vec<String>,
    },
}

/// One run's folder, locked for this process until it is dropped. Its methods may be called from many
/// threads.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    opened: Opened,
    manifest: Mutex<Manifest>,
    parts: Parts,
    /// What this process reads.
    inputs: Vec<InputFile>,
    discarded_parts: AtomicUsize,
    /// Held for its lock only; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder `dir`, or reopens it to go on with the same run.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open; [`Error::AnotherRun`] if its identity is another,
    /// with every difference; [`Error::NotARunFolder`] if it holds other things; [`Error::BadManifest`].
    pub fn open(dir: &Path, key: &RunKey) -> Result<Self> {
        let identity = Identity::of(key)?;
        prepare(dir)?;
        let lock = lock(dir)?;
        let there = Manifest::read(&dir.join(MANIFEST))?;
        let is_new = there.is_none();
        let manifest = match there {
            Some(there) => same_run(dir, there, &identity)?,
            None => Manifest::new(identity),
        };
        let parts = Parts::new(dir.join(PARTS), manifest.identity.clone());
        for folder in [dir, &dir.join("tables"), &dir.join("figures"), parts.folder()] {
            fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
        }
        remove_leftovers_below(dir)?;
        let opened = state(dir, is_new, &manifest, &parts)?;
        if opened == Opened::Finished {
            // A kill between the end of the run and the removal of its parts left them. Nothing more is computed here.
            parts.remove_all()?;
        }
        let run = Self {
            dir: dir.to_owned(),
            opened,
            manifest: Mutex::new(manifest),
            parts,
            inputs: key.inputs.clone(),
            discarded_parts: AtomicUsize::new(0),
            _lock: lock,
        };
        run.begin_session(key)?;
        Ok(run)
    }

    /// Opens a finished run to write files of it anew, whatever made it; nothing is computed from it.
    ///
    /// # Errors
    /// [`Error::NotFinished`] if `dir` holds no run that came to its end; [`Error::InUse`]; [`Error::BadManifest`].
    pub fn reopen(dir: &Path) -> Result<Self> {
        let not_finished = || Error::NotFinished { dir: dir.to_owned() };
        let manifest =
            Manifest::read(&dir.join(MANIFEST))?.filter(|m| m.finished).ok_or_else(not_finished)?;
        let lock = lock(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            opened: Opened::Finished,
            parts: Parts::new(dir.join(PARTS), manifest.identity.clone()),
            manifest: Mutex::new(manifest),
            inputs: Vec::new(),
            discarded_parts: AtomicUsize::new(0),
            _lock: lock,
        })
    }

    /// A part of the run of this identity in the folder `dir`, which another process may be working in; `None` where it is not there, or
    /// not whole.
    ///
    /// # Errors
    /// [`Error::Io`] if it is there but can't be read.
    pub fn part_of(dir: &Path, identity: &str, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(match Parts::new(dir.join(PARTS), identity.to_owned()).load(name)? {
            Found::Whole(bytes) => Some(bytes),
            Found::Nothing | Found::Damaged => None,
        })
    }

    /// A text file of the run; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`Error::BadName`] as in [`RunFolder::write_text`]; [`Error::Io`].
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        check_path(path)?;
        let full = self.dir.join(path);
        match fs::read_to_string(&full) {
            Ok(text) => Ok(Some(text)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("read", &full, source)),
        }
    }

    /// In what state the folder was found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest as it stands.
    pub fn manifest(&self) -> Manifest {
        self.locked().clone()
    }

    /// The part saved under `name`, if it is there and whole; a damaged part is deleted and counted in
    /// [`RunFolder::discarded_parts`].
    ///
    /// # Errors
    /// [`Error::Io`] if it is there but can't be read.
    pub fn part(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(match self.parts.load(name)? {
            Found::Whole(bytes) => Some(bytes),
            Found::Nothing => None,
            Found::Damaged => {
                self.discarded_parts.fetch_add(1, Ordering::Relaxed);
                None
            }
        })
    }

    /// Keeps a finished unit of work until [`RunFolder::finish`].
    ///
    /// # Errors
    /// [`Error::InputChanged`], [`Error::DiskFull`] or [`Error::Io`].
    pub fn save_part(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.check_inputs()?;
        self.parts.save(name, bytes)
    }

    /// How many parts of this folder were damaged and had to be computed again.
    pub fn discarded_parts(&self) -> usize {
        self.discarded_parts.load(Ordering::Relaxed)
    }

    /// Writes `tables/NAME.csv` and `tables/NAME.parquet`, in the order of rows given.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`], or an error of the CSV or Parquet library.
    pub fn write_table(&self, table: &Table) -> Result<()> {
        let name = table.spec().name;
        let (csv, parquet) = (table.to_csv()?, table.to_parquet()?);
        let entry = TableEntry {
            rows: table.n_rows(),
            columns: table.spec().columns.iter().map(|column| column.name.to_owned()).collect(),
            csv: self.write(&format!("tables/{name}.csv"), &csv)?,
            parquet: self.write(&format!("tables/{name}.parquet"), &parquet)?,
        };
        self.update(|manifest| {
            manifest.tables.insert(name.to_owned(), entry);
        })
    }

    /// A table that was written in this run, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Io`], or a file that is not that table.
    pub fn read_table(&self, spec: &'static TableSpec) -> Result<Option<Table>> {
        if !self.locked().tables.contains_key(spec.name) {
            return Ok(None);
        }
        let path = self.dir.join(format!("tables/{}.parquet", spec.name));
        let bytes = fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
        Table::from_parquet(spec, &bytes).map(Some)
    }

    /// Writes `figures/NAME.ENDING` for each form of a figure.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::DiskFull`], [`Error::Io`].
    pub fn write_figure(&self, name: &str, forms: &[(&str, Vec<u8>)]) -> Result<()> {
        let mut entries = Vec::new();
        for (ending, bytes) in forms {
            let path = format!("figures/{name}.{ending}");
            check_path(&path)?;
            entries.push((path.clone(), self.write(&path, bytes)?));
        }
        self.update(|manifest| manifest.files.extend(entries))
    }

    /// Writes a text at `path`, relative to the folder (`report.html`).
    ///
    /// # Errors
    /// [`Error::BadName`] for a path that leaves the folder or takes one of its own names;
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn write_text(&self, path: &str, text: &str) -> Result<()> {
        self.write_file(path, text.as_bytes())
    }

    /// Writes any bytes at `path`, relative to the folder (`adapter/adapter_model.safetensors`).
    ///
    /// # Errors
    /// As [`RunFolder::write_text`].
    pub fn write_bytes(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write_file(path, bytes)
    }

    /// Whether `analysis` was marked as done and its files are still whole.
    pub fn is_done(&self, analysis: &str) -> bool {
        self.locked().analyses.iter().any(|done| done == analysis)
    }

    /// Marks an analysis as done and notes what it took, once all its tables and figures are written.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn mark_done(&self, cost: Cost) -> Result<()> {
        self.update(|manifest| {
            let at = manifest.analyses.binary_search_by(|done| done.as_str().cmp(&cost.analysis));
            if let Err(at) = at {
                manifest.analyses.insert(at, cost.analysis.clone());
            }
            if let Some(session) = manifest.sessions.last_mut() {
                session.costs.push(cost);
            }
        })
    }

    /// Ends the run: marks it as finished, then removes the parts.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        self.update(|manifest| {
            manifest.finished = true;
            if let Some(session) = manifest.sessions.last_mut() {
                session.finished = Some(now_utc());
            }
        })?;
        self.parts.remove_all()
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        let entry = self.write(path, bytes)?;
        self.update(|manifest| {
            manifest.files.insert(path.to_owned(), entry);
        })
    }

    fn check_inputs(&self) -> Result<()> {
        self.inputs.iter().try_for_each(InputFile::check_unchanged)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<FileEntry> {
        self.check_inputs()?;
        let full = self.dir.join(path);
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
        }
        write_atomic(&full, bytes)?;
        Ok(FileEntry { sha256: sha256_hex(bytes), bytes: bytes.len() as u64 })
    }

    fn begin_session(&self, key: &RunKey) -> Result<()> {
        let session = Session {
            started: now_utc(),
            finished: None,
            command_line: key.command_line.clone(),
            threads: key.threads,
            costs: Vec::new(),
        };
        self.update(|manifest| {
            if matches!(self.opened, Opened::Damaged { .. }) {
                manifest.analyses.clear();
                manifest.finished = false;
            }
            manifest.sessions.push(session);
        })
    }

    /// Changes the manifest in memory and on disk; in memory only if it reached the disk.
    fn update(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut manifest = self.locked();
        let mut changed = manifest.clone();
        change(&mut changed);
        write_atomic(&self.dir.join(MANIFEST), &changed.to_json()?)?;
        *manifest = changed;
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Manifest> {
        // The manifest is replaced whole, so a thread that panicked left it as it was.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates `dir`, and makes sure that it is a run folder or empty.
fn prepare(dir: &Path) -> Result<()> {
    if dir.is_file() {
        return Err(Error::NotAFolder { dir: dir.to_owned() });
    }
    fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    if dir.join(MANIFEST).exists() {
        return Ok(());
    }
    // A run that was killed before its first manifest leaves only these.
    let ours = |name: &str| [LOCK, PARTS, "tables", "figures"].contains(&name) || is_temporary(name);
    for entry in fs::read_dir(dir).map_err(|source| Error::io("list", dir, source))? {
        let entry = entry.map_err(|source| Error::io("list", dir, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !ours(&name) || (is_folder_of_results(&name) && has_entries(&entry.path())?) {
            return Err(Error::NotARunFolder { dir: dir.to_owned(), found: name });
        }
    }
    Ok(())
}

fn is_folder_of_results(name: &str) -> bool {
    name == "tables" || name == "figures"
}

fn has_entries(folder: &Path) -> Result<bool> {
    Ok(fs::read_dir(folder).map_err(|source| Error::io("list", folder, source))?.next().is_some())
}

/// Removes what a killed run left of files in the folder and all below it; those of runs of their own, which may be at work, stay.
fn remove_leftovers_below(dir: &Path) -> Result<()> {
    remove_leftovers(dir)?;
    for entry in fs::read_dir(dir).map_err(|source| Error::io("list", dir, source))? {
        let entry = entry.map_err(|source| Error::io("list", dir, source))?;
        let kind = entry.file_type().map_err(|source| Error::io("look at", &entry.path(), source))?;
        if kind.is_dir() && !entry.path().join(LOCK).exists() {
            remove_leftovers_below(&entry.path())?;
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(|source| Error::io("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
    }
}

/// The manifest found, if it is this run's. Paths of inputs follow the present: they may have moved.
fn same_run(dir: &Path, mut there: Manifest, now: &Identity) -> Result<Manifest> {
    let changes = there.identity().changes(now);
    if !changes.is_empty() {
        return Err(Error::AnotherRun { dir: dir.to_owned(), changes });
    }
    if there.identity != now.sha256() {
        let problem = "its identity does not follow from its own settings and inputs".to_owned();
        return Err(Error::BadManifest { path: dir.join(MANIFEST), problem });
    }
    there.inputs.clone_from(&now.inputs);
    Ok(there)
}

fn state(dir: &Path, is_new: bool, manifest: &Manifest, parts: &Parts) -> Result<Opened> {
    let mut files = Vec::new();
    for (path, entry) in manifest.all_files() {
        let full = dir.join(&path);
        if !full.is_file() || sha256_file(&full)?.0 != entry.sha256 {
            files.push(path);
        }
    }
    Ok(match (is_new, files.is_empty(), manifest.finished) {
        (true, ..) => Opened::Created,
        (_, false, _) => Opened::Damaged { files },
        (_, _, true) => Opened::Finished,
        _ => Opened::Resumed { parts: parts.count()? },
    })
}

/// Refuses a path that would leave the folder, or hide or replace a file of its own.
fn check_path(path: &str) -> Result<()> {
    let refused = |problem| Err(Error::BadName { name: path.to_owned(), problem });
    if path.is_empty() || path.ends_with('/') {
        return refused("it is empty");
    }
    if path == MANIFEST || path.starts_with("tables/") {
        return refused("that place is the run folder's own");
    }
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) if !name.to_string_lossy().starts_with('.') => {}
            Component::Normal(_) => return refused("hidden names are the run folder's own"),
            _ => return refused("it must be relative and stay inside the folder"),
        }
    }
    Ok(())
}
