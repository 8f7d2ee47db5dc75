//! What an analysis is given to work with, and what it gives back.

use crate::error::{Error, Result};
use crate::subject::Subject;
use crate::units::{Hands, Work, WorkUnit};
use lorascope_record::{RunFolder, Table, TableSpec};
use lorascope_report::Section;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

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
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Name of the analysis.
    pub analysis: &'a str,
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
    /// Who carries out its units of work.
    pub hands: &'a dyn Hands,
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
    /// Sees to it that the parts of all units are in the run folder: those that are there already stay, for the others `work` is
    /// called with their number, here or elsewhere.
    ///
    /// # Errors
    /// Of `work`; [`Error::Stopped`].
    pub fn units(&self, units: &[WorkUnit], work: &mut Work) -> Result<()> {
        self.hands.carry_out(self, units, work)
    }

    /// A unit of work whose table is kept in the run folder as soon as it is finished, and taken from there when the run
    /// is resumed.
    ///
    /// # Errors
    /// Of `work`; a part that can't be read or kept; [`Error::Stopped`].
    pub fn part(
        &self,
        name: &str,
        spec: &'static TableSpec,
        work: impl FnOnce() -> Result<Table>,
    ) -> Result<Table> {
        let (mut work, mut made) = (Some(work), None);
        self.units(&[vec![name.to_owned()]], &mut |context, _| {
            let Some(work) = work.take() else { return Ok(()) };
            let table = work()?;
            context.run.save_part(name, &table.to_parquet()?)?;
            made = Some(table);
            Ok(())
        })?;
        made.map_or_else(|| self.table(name, spec), Ok)
    }

    /// [`Context::part`] for many: the tables of all parts, one after the other. `work` makes that of a number.
    ///
    /// # Errors
    /// As for [`Context::part`].
    pub fn parts(
        &self,
        names: &[String],
        spec: &'static TableSpec,
        mut work: impl FnMut(usize) -> Result<Table>,
    ) -> Result<Table> {
        let names: Vec<[String; 1]> = names.iter().map(|name| [name.clone()]).collect();
        let [all] = self.parts_together(&names, [spec], |i| Ok([work(i)?]))?;
        Ok(all)
    }

    /// The same for units that make several tables at a time: for each of them, those of all units one after the other.
    pub(crate) fn parts_together<const N: usize>(
        &self,
        names: &[[String; N]],
        specs: [&'static TableSpec; N],
        work: impl FnMut(usize) -> Result<[Table; N]>,
    ) -> Result<[Table; N]> {
        let mut all = specs.map(Table::new);
        for tables in self.parts_apart(names, specs, work)? {
            for (all, table) in all.iter_mut().zip(tables) {
                all.append(table)?;
            }
        }
        Ok(all)
    }

    /// The same with the tables of each unit by themselves.
    pub(crate) fn parts_apart<const N: usize>(
        &self,
        names: &[[String; N]],
        specs: [&'static TableSpec; N],
        mut work: impl FnMut(usize) -> Result<[Table; N]>,
    ) -> Result<Vec<[Table; N]>> {
        let units: Vec<WorkUnit> = names.iter().map(|names| names.to_vec()).collect();
        let mut made: BTreeMap<usize, [Table; N]> = BTreeMap::new();
        self.units(&units, &mut |context, i| {
            let tables = work(i)?;
            for (name, table) in names[i].iter().zip(&tables) {
                context.run.save_part(name, &table.to_parquet()?)?;
            }
            made.insert(i, tables);
            Ok(())
        })?;
        let tables = |(i, names): (usize, &[String; N])| {
            if let Some(made) = made.remove(&i) {
                return Ok(made);
            }
            let mut kept = specs.map(Table::new);
            for ((name, spec), kept) in names.iter().zip(specs).zip(&mut kept) {
                *kept = self.table(name, spec)?;
            }
            Ok(kept)
        };
        names.iter().enumerate().map(tables).collect()
    }

    /// The bytes of a finished part, from this run folder or from where else it is; `None` where there is no such part.
    ///
    /// # Errors
    /// A part that can't be read or fetched.
    pub fn kept(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.run.part(name)? {
            return Ok(Some(bytes));
        }
        let fetched = self.hands.fetch(name)?;
        if let Some(bytes) = &fetched {
            self.run.save_part(name, bytes)?;
        }
        Ok(fetched)
    }

    /// The bytes of a part that a unit of this run has left.
    ///
    /// # Errors
    /// [`Error::PartGone`].
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.kept(name)?.ok_or_else(|| Error::PartGone { name: name.to_owned() })
    }

    /// The same for a part that is a table.
    pub(crate) fn table(&self, name: &str, spec: &'static TableSpec) -> Result<Table> {
        Ok(Table::from_parquet(spec, &self.bytes(name)?)?)
    }

    /// The same for `n` numbers.
    pub(crate) fn kept_numbers<T: Number>(&self, name: &str, n: usize) -> Result<Vec<T>> {
        let numbers = T::read(&self.bytes(name)?);
        if numbers.len() != n {
            return Err(Error::PartGone { name: name.to_owned() });
        }
        Ok(numbers)
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
    pub(crate) fn numbers<T: Number>(
        &self,
        name: &str,
        n: usize,
        work: impl FnOnce() -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut work = Some(work);
        let one = [(name.to_owned(), n)];
        let found = self.many_numbers(&one, |_| work.take().map_or_else(|| Ok(Vec::new()), |work| work()))?;
        Ok(found.concat())
    }

    /// [`Context::numbers`] for many parts, each with how many are expected. `work` makes those of a number.
    pub(crate) fn many_numbers<T: Number>(
        &self,
        parts: &[(String, usize)],
        mut work: impl FnMut(usize) -> Result<Vec<T>>,
    ) -> Result<Vec<Vec<T>>> {
        let units: Vec<WorkUnit> = parts.iter().map(|(name, _)| vec![name.clone()]).collect();
        self.units(&units, &mut |context, i| Ok(context.run.save_part(&parts[i].0, &written(&work(i)?))?))?;
        parts.iter().map(|(name, n)| self.kept_numbers(name, *n)).collect()
    }
}

/// Numbers that parts are made of.
pub(crate) trait Number: Copy {
    /// As little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);
    /// Back from them; what is left over is dropped.
    fn read(bytes: &[u8]) -> Vec<Self>;
}

impl Number for f32 {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
    fn read(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

impl Number for f64 {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
    fn read(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }
}

/// Numbers as the bytes of a part.
fn written<T: Number>(numbers: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(numbers));
    numbers.iter().for_each(|n| n.write(&mut bytes));
    bytes
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
