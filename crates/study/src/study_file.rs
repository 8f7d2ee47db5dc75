//! The study file: base, adapters, prompts and analyses in one TOML file.

use crate::checkpoints::{Checkpoints, check_trajectory_name, with_checkpoints};
use crate::controls::{ControlOf, parse_control};
use crate::models::{Models, Nf4};
use crate::names::check_model_name;
use crate::open::Asked;
use crate::pipeline::Plan;
use crate::registry;
use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use lorascope_analyses::{Analysis, ModelEdit};
use lorascope_games::Design;
use lorascope_prompts::PromptSet;
use lorascope_text::Wrapping;
use serde_json::Value;
use std::path::{Path, PathBuf};
use toml::Table;

const KEYS: [&str; 14] = [
    "title",
    "base",
    "adapter",
    "checkpoints",
    "controls",
    "prompts",
    "answers",
    "analyses",
    "settings",
    "seed",
    "nf4",
    "raw",
    "date",
    "edits",
];

/// A study as its file describes it; nothing is opened yet.
pub struct StudyFile {
    /// Headline of the report.
    pub title: String,
    /// The base model.
    pub base: Option<String>,
    /// Adapters: name and place.
    pub adapters: Vec<(String, String)>,
    /// Folders of checkpoints.
    pub checkpoints: Vec<Checkpoints>,
    /// Controls made from adapters.
    pub controls: Vec<ControlOf>,
    /// The prompts.
    pub prompts: Prompts,
    /// Answers A and B of prompts that name none.
    pub answers: Option<(String, String)>,
    /// Analyses with their resolved settings.
    pub analyses: Vec<(&'static dyn Analysis, Value)>,
    /// The analyses that the file names itself; they are carried out even where they have nothing to do, which they refuse.
    pub named: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// The type from which the base is rounded through NF4.
    pub nf4: Option<Nf4>,
    /// Whether prompts are put to the model as raw text.
    pub raw: bool,
    /// Seconds since 1970 of `date`.
    pub now: Option<i64>,
    /// Edits of the models.
    pub edits: Vec<ModelEdit>,
    /// The file, for messages; empty where there is none.
    pub path: PathBuf,
}

/// A study ready to be run: everything named, nothing opened.
pub struct Ready {
    /// Which models.
    pub models: Models,
    /// Which prompts.
    pub asked: Asked,
    /// Which analyses.
    pub plan: Plan,
}

/// Where a study's prompts come from.
pub enum Prompts {
    /// A JSON file.
    File(PathBuf),
    /// A design of game prompts.
    Design(Box<Design>),
}

impl Prompts {
    /// Reads or builds them.
    pub fn load(&self) -> Result<PromptSet> {
        Ok(match self {
            Prompts::File(path) => PromptSet::read(path)?,
            Prompts::Design(design) => design.build()?,
        })
    }
}

impl StudyFile {
    /// Reads a study file; relative paths in it start from its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let text = lorascope_bounded::read_to_string(path, lorascope_bounded::SETTINGS);
        let text = text.with_context(|| format!("study file {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let study = Self::parse(&text, folder).with_context(|| format!("study file {}", path.display()))?;
        Ok(Self { path: path.to_owned(), ..study })
    }

    /// Lists checkpoints, makes prompts, and leaves out what has nothing to do.
    ///
    /// # Errors
    /// A file without a base; prompts or checkpoints that can't be read.
    pub fn ready(self, threads: usize, memory: usize) -> Result<Ready> {
        let set = self.prompts.load()?;
        let no_base =
            || format!("study file {} names no `base`; add one, or give --base", self.path.display());
        let base = self.base.with_context(no_base)?;
        let adapters = with_checkpoints(&self.adapters, &self.checkpoints)?;
        let names: Vec<&str> = adapters.iter().map(|(name, _)| name.as_str()).collect();
        let mut analyses = self.analyses;
        analyses.retain(|(a, _)| self.named.iter().any(|n| n == a.name()) || a.applies(&names));
        let models = Models {
            base,
            adapters,
            checkpoints: Vec::new(),
            controls: self.controls,
            save_controls: None,
            nf4: self.nf4,
            memory,
        };
        let plan = Plan {
            command: "study".to_owned(),
            title: self.title,
            analyses,
            edits: self.edits,
            seed: self.seed,
            nf4: self.nf4,
            threads,
            memory,
        };
        let wrapping = if self.raw { Wrapping::Raw } else { Wrapping::Auto };
        Ok(Ready { models, asked: Asked { set, answers: self.answers, wrapping, now: self.now }, plan })
    }

    /// What is studied where no file says it: the embedded model, or with the user's own base everything that has a default.
    pub fn without_file(own_base: bool) -> Result<Self> {
        Self::parse(if own_base { "" } else { include_str!("organism.toml") }, Path::new(""))
    }

    /// Reads the text of a study file; relative paths in it start from `folder`.
    ///
    /// # Errors
    /// What is no study, by key.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let table: Table = text.parse().map_err(|e: toml::de::Error| anyhow!("not valid TOML: {e}"))?;
        check_keys(&table, &KEYS, "")?;
        let text_of = |key: &str| {
            let value = table.get(key);
            value
                .map(|v| v.as_str().map(str::to_owned).with_context(|| format!("`{key}` must be a text")))
                .transpose()
        };
        let answers = table.get("answers").map(answers).transpose()?;
        let raw = table.get("raw").map(|v| v.as_bool().context("`raw` must be true or false")).transpose()?;
        let seed = match table.get("seed") {
            None => 0,
            Some(v) => v
                .as_integer()
                .and_then(|s| u64::try_from(s).ok())
                .context("`seed` must be a whole number from 0")?,
        };
        let nf4 = text_of("nf4")?.map(|from| from.parse::<Nf4>()).transpose();
        let nf4 = nf4.map_err(|why| anyhow!(why))?;
        Ok(Self {
            title: text_of("title")?.unwrap_or_else(|| "What did the fine-tuning change?".to_owned()),
            base: text_of("base")?.map(|b| relative_to(folder, &b)),
            adapters: adapters(&table, folder)?,
            checkpoints: checkpoints(&table, folder)?,
            controls: table.get("controls").map_or_else(|| Ok(vec![ControlOf::OF_A_STUDY]), controls)?,
            prompts: prompts(&table, folder)?,
            answers,
            analyses: analyses(&table)?,
            named: named(&table)?.into_iter().map(str::to_owned).collect(),
            seed,
            nf4,
            raw: raw.unwrap_or(false),
            now: text_of("date")?.map(|d| seconds_of_date(&d)).transpose()?,
            edits: edits(&table)?,
            path: PathBuf::new(),
        })
    }
}

/// A path that exists relative to the study file's folder is that; anything else (a hub id, an absolute path) stays.
fn relative_to(folder: &Path, given: &str) -> String {
    let path = folder.join(given);
    let looks_local = given.starts_with('.') || path.exists();
    if looks_local { path.to_string_lossy().into_owned() } else { given.to_owned() }
}

fn check_keys(table: &Table, known: &[&str], place: &str) -> Result<()> {
    for key in table.keys() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let nearest =
            known.iter().map(|k| (strsim::jaro_winkler(k, key), k)).max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((similarity, k)) if similarity > 0.7 => {
                bail!("unknown key `{place}{key}`; did you mean `{place}{k}`?")
            }
            _ => bail!("unknown key `{place}{key}`; known are {}", known.join(", ")),
        }
    }
    Ok(())
}

fn adapters(table: &Table, folder: &Path) -> Result<Vec<(String, String)>> {
    let Some(value) = table.get("adapter") else { return Ok(Vec::new()) };
    let list = value.as_array().context("`adapter` must be written as [[adapter]], one for each")?;
    let adapter = |(i, value): (usize, &toml::Value)| {
        let one = value.as_table().with_context(|| format!("adapter {} must be a table", i + 1))?;
        check_keys(one, &["name", "path"], "adapter.")?;
        let text = |key: &str| {
            one.get(key)
                .and_then(toml::Value::as_str)
                .with_context(|| format!("adapter {} needs a text `{key}`", i + 1))
        };
        let name = text("name")?;
        check_model_name(name).map_err(|e| anyhow!("adapter {}: {e}", i + 1))?;
        Ok((name.to_owned(), relative_to(folder, text("path")?)))
    };
    list.iter().enumerate().map(adapter).collect()
}

fn checkpoints(table: &Table, folder: &Path) -> Result<Vec<Checkpoints>> {
    let Some(value) = table.get("checkpoints") else { return Ok(Vec::new()) };
    let list =
        value.as_array().context("`checkpoints` must be written as [[checkpoints]], one for each folder")?;
    let one = |(i, value): (usize, &toml::Value)| {
        let place = format!("checkpoints {}", i + 1);
        let one = value.as_table().with_context(|| format!("{place} must be a table"))?;
        check_keys(one, &["name", "path", "every"], "checkpoints.")?;
        let text = |key: &str| {
            one.get(key)
                .and_then(toml::Value::as_str)
                .with_context(|| format!("{place} needs a text `{key}`"))
        };
        let name = text("name")?.to_owned();
        check_trajectory_name(&name).map_err(|e| anyhow!("{place}: {e}"))?;
        let every = |v: &toml::Value| {
            let steps = v.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            steps.with_context(|| format!("{place}: `every` must be a whole number from 1"))
        };
        let every = one.get("every").map(every).transpose()?;
        // A folder of checkpoints is never a hub id.
        Ok(Checkpoints { name, path: folder.join(text("path")?), every })
    };
    list.iter().enumerate().map(one).collect()
}

fn controls(value: &toml::Value) -> Result<Vec<ControlOf>> {
    let list: Option<Vec<&str>> = value.as_array().and_then(|a| a.iter().map(toml::Value::as_str).collect());
    let list = list.context("`controls` must be a list of texts such as \"random\" or \"shuffled:moral\"")?;
    list.into_iter().map(|text| parse_control(text).map_err(|e| anyhow!("`controls`: {e}"))).collect()
}

fn edits(table: &Table) -> Result<Vec<ModelEdit>> {
    let Some(value) = table.get("edits") else { return Ok(Vec::new()) };
    let list = value.as_array().context("`edits` must be written as [[edits]], one for each")?;
    let edit = |(i, value): (usize, &toml::Value)| {
        value.clone().try_into().map_err(|e: toml::de::Error| anyhow!("edit {}: {}", i + 1, e.message()))
    };
    list.iter().enumerate().map(edit).collect()
}

fn prompts(table: &Table, folder: &Path) -> Result<Prompts> {
    let Some(value) = table.get("prompts") else { return Ok(Prompts::Design(Box::default())) };
    if let Some(file) = value.as_str() {
        return Ok(Prompts::File(folder.join(file)));
    }
    let design = value.as_table().context("`prompts` must be a file name, or a table with a design")?;
    Ok(Prompts::Design(Box::new(Design::from_table(design).context("[prompts]")?)))
}

fn answers(value: &toml::Value) -> Result<(String, String)> {
    let list: Option<Vec<&str>> = value.as_array().and_then(|a| a.iter().map(toml::Value::as_str).collect());
    match list.as_deref() {
        Some([a, b]) => Ok(((*a).to_owned(), (*b).to_owned())),
        _ => bail!("`answers` must be a list of two texts, answer A and answer B"),
    }
}

/// Stands for all analyses that run by default.
const DEFAULT: &str = "default";

/// What `analyses` lists.
fn named(table: &Table) -> Result<Vec<&str>> {
    let Some(value) = table.get("analyses") else { return Ok(vec![DEFAULT]) };
    let list: Option<Vec<&str>> = value.as_array().and_then(|a| a.iter().map(toml::Value::as_str).collect());
    list.context("`analyses` must be a list of names")
}

/// The analyses in the order of the registry, with resolved settings.
fn analyses(table: &Table) -> Result<Vec<(&'static dyn Analysis, Value)>> {
    let names: Vec<&str> = registry::analyses().map(|a| a.name()).collect();
    let named = named(table)?;
    for name in &named {
        if *name != DEFAULT && !names.contains(name) {
            let keys = Table::from_iter([((*name).to_owned(), toml::Value::Boolean(true))]);
            check_keys(&keys, &names, "analyses: ")?;
        }
    }
    if named.is_empty() {
        bail!("`analyses` is empty; known are {}", names.join(", "));
    }
    let empty = Table::new();
    let settings = match table.get("settings") {
        None => &empty,
        Some(value) => value.as_table().context("`settings` must be a table with one table per analysis")?,
    };
    check_keys(settings, &names, "settings.")?;
    let wanted =
        |a: &&'static dyn Analysis| named.contains(&a.name()) || (a.by_default() && named.contains(&DEFAULT));
    let resolve = |a: &'static dyn Analysis| {
        let given = settings.get(a.name()).map(serde_json::to_value).transpose()?.unwrap_or(Value::Null);
        Ok((a, a.settings(&given)?))
    };
    registry::analyses().filter(wanted).map(resolve).collect()
}

/// Midnight UTC of a date `YYYY-MM-DD`, in seconds since 1970.
fn seconds_of_date(date: &str) -> Result<i64> {
    let day = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok();
    let day = day.filter(|day| (1970..=9999).contains(&day.year()));
    let day = day.ok_or_else(|| anyhow!("`date` is `{date}`; it must be a day, written YYYY-MM-DD"))?;
    Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp())
}

/// The day of a time in seconds since 1970, written `YYYY-MM-DD`; `None` where no calendar reaches.
pub fn date_of_seconds(seconds: i64) -> Option<String> {
    Some(DateTime::from_timestamp(seconds, 0)?.date_naive().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorascope_analyses::ANALYSES;

    #[test]
    fn dates_by_hand() {
        assert_eq!(seconds_of_date("1970-01-01").unwrap(), 0);
        assert_eq!(seconds_of_date("2024-02-29").unwrap(), 1_709_164_800);
        assert_eq!(seconds_of_date("2024-07-26").unwrap(), 1_721_952_000);
        for day in ["1970-01-01", "1999-12-31", "2000-02-29", "2024-02-29", "2024-03-01", "2100-03-01"] {
            assert_eq!(date_of_seconds(seconds_of_date(day).unwrap()).as_deref(), Some(day));
        }
        for wrong in
            ["26.7.2024", "2024-13-01", "2024-02-30", "2023-02-29", "1900-02-29", "2024-04-31", "2024-04-00"]
        {
            assert!(seconds_of_date(wrong).is_err(), "{wrong}");
        }
    }

    const PAGE: &str = include_str!("../../../docs/study.md");

    #[test]
    fn the_example_of_the_documentation_sets_every_key() {
        let example = PAGE.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).unwrap();
        let table: Table = example.parse().unwrap();
        let missing: Vec<&&str> = KEYS.iter().filter(|key| !table.contains_key(**key)).collect();
        assert!(missing.is_empty(), "the example of docs/study.md lacks {missing:?}");
        let study = StudyFile::parse(example, Path::new("")).unwrap();
        assert_eq!(study.adapters.len(), 2);
        assert_eq!(study.controls.len(), 2);
        assert_eq!(study.seed, 7);
        assert_eq!(study.now, Some(1_740_787_200));
        assert_eq!(study.edits.len(), 2);
        let lens = study.analyses.iter().find(|(a, _)| a.name() == "lens").unwrap();
        assert_eq!(lens.1, serde_json::json!({"tolerance": 0.3, "top": 10}));
        assert!(!study.prompts.load().unwrap().items.is_empty());
    }

    #[test]
    fn the_documentation_lists_keys_and_settings() {
        for key in KEYS {
            assert!(PAGE.contains(&format!("\n| `{key}` | ")), "docs/study.md does not explain `{key}`");
        }
        let code =
            |cell: &str| cell.trim().len() > 2 && cell.trim().starts_with('`') && cell.trim().ends_with('`');
        let of_a_setting =
            |line: &&str| line.split('|').skip(1).take(3).filter(|cell| code(cell)).count() == 3;
        let mut rows: Vec<&str> = PAGE.lines().filter(of_a_setting).collect();
        for analysis in ANALYSES {
            let defaults = analysis.settings(&Value::Null).unwrap();
            for (setting, default) in defaults.as_object().unwrap() {
                let row = format!("| `{}` | `{setting}` | `{default}` | ", analysis.name());
                let at = rows.iter().position(|r| r.starts_with(&row));
                rows.remove(
                    at.unwrap_or_else(|| panic!("docs/study.md lacks a row that begins with `{row}`")),
                );
            }
        }
        assert!(rows.is_empty(), "docs/study.md explains settings that no analysis has: {rows:#?}");
    }

    #[test]
    fn a_minimal_study_has_defaults() {
        let study = StudyFile::parse("base = 'org/model'", Path::new("")).unwrap();
        assert_eq!(study.base.as_deref(), Some("org/model"));
        assert!(study.adapters.is_empty() && !study.analyses.is_empty());
        assert_eq!(study.prompts.load().unwrap().items.len(), 80);
    }
}
