//! What a finished surgery run predicts: its smallest set of blocks and what that recovers on prompts on which it was not chosen.

use crate::blocks::{BlockName, BlockPart, Blocks};
use crate::error::{Error, Result};
use lorascope_analyses::{Interval, analysis};
use lorascope_record::{InputFile, Manifest, Table, TableSpec, sha256_hex};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SURGERY: &str = "surgery";
/// The set that is tested.
const SMALLEST: &str = "smallest";
/// Prompts on which sets were chosen.
const CHOSEN: &str = "chosen";

/// A finished run that holds surgery.
#[derive(Debug)]
pub struct SurgeryRun {
    /// Its folder.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    sets: Table,
    blocks: Table,
    runs: Table,
}

/// What surgery predicts about one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The adapter that was taken apart.
    pub adapter: String,
    /// All of its blocks.
    pub all: Blocks,
    /// Those that are said to be enough.
    pub set: Blocks,
    /// Share of the behaviour that the set was sought for.
    pub share: f64,
    /// What it recovers on held out prompts.
    pub recovery: Interval,
    /// How many these were.
    pub n_held_out: usize,
    /// Ids of the prompts on which the set was chosen.
    pub chosen_on: BTreeSet<String>,
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Confirm(why))
}

impl SurgeryRun {
    /// Reads it.
    ///
    /// # Errors
    /// A folder that is no run, is not finished, has no surgery, or whose tables were changed.
    pub fn read(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let Some(manifest) = Manifest::read(&dir.join("manifest.json"))? else {
            return refuse(format!("{shown} is no run folder; name one in which surgery has run"));
        };
        if !manifest.finished {
            return refuse(format!("{shown} is not finished; give its command again first"));
        }
        let table = |name: &str| table(dir, &manifest, name);
        Ok(Self {
            sets: table("surgery_sets")?,
            blocks: table("surgery_blocks")?,
            runs: table("surgery_runs")?,
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// The files that the prediction depends on.
    ///
    /// # Errors
    /// One that can't be read.
    pub fn inputs(&self) -> Result<Vec<InputFile>> {
        let names =
            ["tables/surgery_sets.parquet", "tables/surgery_blocks.parquet", "tables/surgery_runs.parquet"];
        let read = |name: &&str| InputFile::read(format!("surgery/{name}"), &self.dir.join(name));
        Ok(names.iter().map(read).collect::<lorascope_record::Result<_>>()?)
    }

    /// Whether it was made on the base that has these files.
    ///
    /// # Errors
    /// Another base.
    pub fn check_base(&self, inputs: &[InputFile]) -> Result<()> {
        let hashes = |inputs: &[InputFile]| -> BTreeSet<String> {
            inputs.iter().filter(|i| i.name.starts_with("base/")).map(|i| i.sha256.clone()).collect()
        };
        if hashes(&self.manifest.inputs) == hashes(inputs) {
            return Ok(());
        }
        refuse(format!("{} was made on another base model; name the one that it names", self.dir.display()))
    }

    /// A setting of the run.
    pub fn setting(&self, name: &str) -> &Value {
        &self.manifest.settings[name]
    }

    /// What it predicts about an adapter; about its only one where none is named.
    ///
    /// # Errors
    /// An adapter that it did not take apart, none named among several, one that does nothing, no held out prompts.
    pub fn prediction(&self, adapter: Option<&str>) -> Result<Prediction> {
        let adapters: BTreeSet<&str> = self.blocks.texts("adapter")?.into_iter().collect();
        let list = adapters.iter().copied().collect::<Vec<_>>().join(", ");
        let adapter = match (adapter, adapters.first()) {
            (Some(name), _) if adapters.contains(name) => name,
            (Some(name), _) => {
                return refuse(format!("surgery took no adapter `{name}` apart; it did {list}"));
            }
            (None, Some(only)) if adapters.len() == 1 => only,
            _ => {
                return refuse(format!(
                    "surgery took several adapters apart; say which with --adapter: {list}"
                ));
            }
        };
        let (of, kinds) = (self.sets.texts("adapter")?, self.sets.texts("set")?);
        let Some(row) = (0..of.len()).find(|&row| of[row] == adapter && kinds[row] == SMALLEST) else {
            return refuse(format!(
                "surgery found no set of `{adapter}`'s blocks: the adapter does too little"
            ));
        };
        let number = |name: &str| -> Result<Option<f64>> { Ok(self.sets.floats_or_null(name)?[row]) };
        let (mean, lo, hi) = (number("held_out")?, number("held_out_lo")?, number("held_out_hi")?);
        let Some((mean, (lo, hi))) = mean.zip(lo.zip(hi)) else {
            return refuse(
                "surgery had no held out prompts, so it predicts nothing; run it with more prompts"
                    .to_owned(),
            );
        };
        let set: Blocks = self.sets.texts("blocks")?[row].parse().map_err(Error::Confirm)?;
        let all = self.all(adapter)?;
        if let Some(stray) = set.0.iter().find(|b| !all.0.contains(b)) {
            return refuse(format!("block `{stray}` of the set is none of the adapter's"));
        }
        let n_held_out = usize::try_from(self.sets.ints("n_held_out")?[row]).unwrap_or(0);
        Ok(Prediction {
            adapter: adapter.to_owned(),
            all,
            set,
            share: self.share()?,
            recovery: Interval { mean, lo, hi },
            n_held_out,
            chosen_on: self.chosen_on(adapter)?,
        })
    }

    fn all(&self, adapter: &str) -> Result<Blocks> {
        let (of, layers, names) =
            (self.blocks.texts("adapter")?, self.blocks.ints("layer")?, self.blocks.texts("name")?);
        let mut all = Vec::new();
        for row in (0..of.len()).filter(|&row| of[row] == adapter) {
            let layer = usize::try_from(layers[row]).ok();
            let Some((layer, part)) = layer.zip(BlockPart::from_name(names[row])) else {
                return refuse(format!("`{}` is no block that can be trained", names[row]));
            };
            all.push(BlockName { layer, part });
        }
        Ok(Blocks(all))
    }

    fn chosen_on(&self, adapter: &str) -> Result<BTreeSet<String>> {
        let (of, prompts) = (self.runs.texts("adapter")?, self.runs.texts("prompts")?);
        let ids = self.runs.texts("prompt_id")?;
        let chosen = (0..of.len()).filter(|&row| of[row] == adapter && prompts[row] == CHOSEN);
        Ok(chosen.map(|row| ids[row].to_owned()).collect())
    }

    /// The share that sets were sought for.
    fn share(&self) -> Result<f64> {
        let analyses = self.setting("analyses").as_array().map(Vec::as_slice).unwrap_or_default();
        let surgery = analyses.iter().find(|a| a["analysis"] == SURGERY);
        match surgery.and_then(|s| s["settings"]["share"].as_f64()) {
            Some(share) => Ok(share),
            None => refuse("the manifest does not say for which share sets were sought".to_owned()),
        }
    }
}

/// A table of the run as it was written.
fn table(dir: &Path, manifest: &Manifest, name: &str) -> Result<Table> {
    let specs = analysis(SURGERY).map(|a| a.tables()).unwrap_or_default();
    let spec: Option<&'static TableSpec> = specs.iter().copied().find(|spec| spec.name == name);
    let (Some(spec), Some(entry)) = (spec, manifest.tables.get(name)) else {
        return refuse(format!("{} has no table `{name}`: surgery has not run there", dir.display()));
    };
    let path = dir.join(format!("tables/{name}.parquet"));
    let read = std::fs::read(&path);
    let bytes = read.map_err(|e| Error::Confirm(format!("{}: {e}", path.display())))?;
    if sha256_hex(&bytes) != entry.parquet.sha256 {
        return refuse(format!("{} is not as surgery wrote it", path.display()));
    }
    Ok(Table::from_parquet(spec, &bytes)?)
}
