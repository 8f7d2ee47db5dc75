//! What an analysis is given to work with, and what it gives back.

use crate::error::{Error, Result};
use crate::subject::Subject;
use lorascope_record::{RunFolder, Table, TableSpec};
use lorascope_report::Section;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Told what is going on; the command line draws bars from it.
pub trait Progress: Sync {
    /// A step begins; it has `total` units of work.
    fn begin(&self, what: &str, total: u64);
    /// So many units are done.
    fn at(&self, done: u64);
    /// The step is over.
    fn end(&self);
    /// Whether the user wants to stop; asked between units of work.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: u64) {}
    fn at(&self, _done: u64) {}
    fn end(&self) {}
}

/// Everything that an analysis works with.
pub struct Context<'a> {
    /// Models and prompts.
    pub subject: &'a Subject,
    /// Where results and finished parts go.
    pub run: &'a RunFolder,
    /// Seed of everything random.
    pub seed: u64,
    /// Bytes that the rows of patched runs may take at a time; results do not depend on it.
    pub memory: usize,
    /// Told how far it is.
    pub progress: &'a dyn Progress,
}

/// What an analysis found.
#[derive(Debug)]
pub struct Findings {
    /// Full tables, for `tables/`.
    pub tables: Vec<Table>,
    /// Its part of the report, figures included.
    pub section: Section,
}

impl Context<'_> {
    /// A unit of work whose table is kept in the run folder as soon as it is finished, and taken from there when the run
    /// is resumed.
    pub fn part(
        &self,
        name: &str,
        spec: &'static TableSpec,
        work: impl FnOnce() -> Result<Table>,
    ) -> Result<Table> {
        if let Some(bytes) = self.run.part(name)? {
            return Ok(Table::from_parquet(spec, &bytes)?);
        }
        if self.progress.should_stop() {
            return Err(Error::Stopped);
        }
        let table = work()?;
        self.run.save_part(name, &table.to_parquet()?)?;
        Ok(table)
    }

    /// A table that an analysis of this run has written before; `None` where that was not part of the run.
    ///
    /// # Errors
    /// A table that can't be read.
    pub(crate) fn finished(&self, name: &str) -> Result<Option<Table>> {
        let mut specs = crate::ANALYSES.iter().flat_map(|a| a.tables());
        let spec = specs.find(|spec| spec.name == name);
        let spec = spec.unwrap_or_else(|| unreachable!("no analysis has a table `{name}`"));
        Ok(self.run.read_table(spec)?)
    }

    /// [`Context::part`] for numbers that are no table: too many for rows with names. `n` of them are expected.
    pub(crate) fn numbers(
        &self,
        name: &str,
        n: usize,
        work: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        if let Some(bytes) = self.run.part(name)?
            && bytes.len() == 4 * n
        {
            return Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
        }
        if self.progress.should_stop() {
            return Err(Error::Stopped);
        }
        let numbers = work()?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.run.save_part(name, &bytes)?;
        Ok(numbers)
    }
}

/// Reads the settings of an analysis; null stands for all defaults.
pub(crate) fn read_settings<T: DeserializeOwned + Default>(
    analysis: &'static str,
    given: &Value,
) -> Result<T> {
    if given.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(given.clone()).map_err(|e| Error::Settings { analysis, why: e.to_string() })
}
