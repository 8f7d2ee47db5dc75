//! A training in a run folder: from a base by name to an adapter, curves and a report.
//!
//! The loop is `lorascope_train`'s; here the model is loaded, the folder opened, and what came out written.

mod report;

use crate::listener::Listener;
use crate::models::Nf4;
use crate::open::{OpenedBase, named};
use crate::pipeline::Found;
use crate::report_files::{read_page, write_figures, write_page};
use anyhow::{Context as _, Result};
use lorascope_engine::{Model, Stop, read_spec};
use lorascope_record::{Opened as State, RunFolder, RunKey};
use lorascope_text::{Clock, Wrapping};
use lorascope_train::{
    CONFIG, Factors, Kept, ModelPolicy, Outcome, Pool, Settings, TRAINING, TRAINING_STATES, Targets,
    Training, WEIGHTS, Watch, config, config_text, states_table, training_table, write_folder,
};
use report::{by_state, page};
use serde_json::json;
use std::path::Path;

/// What the adapter is called while it is trained.
const NAME: &str = "trained";
/// Where it lies in the run folder.
pub const ADAPTER: &str = "adapter";

/// A training, and with what it is carried out.
pub struct Job<'a> {
    /// The base as the user names it.
    pub base: &'a str,
    /// What to do.
    pub settings: &'a Settings,
    /// Prompts and rewards.
    pub pool: &'a Pool,
    /// Whether prompts are raw text.
    pub raw: bool,
    /// Seconds since 1970 that a chat template takes for now.
    pub now: Option<i64>,
    /// Whether the base is rounded through NF4, and from what.
    pub nf4: Option<Nf4>,
    /// Seed of everything random.
    pub seed: u64,
    /// Bytes for packed weights; half of it again for tapes.
    pub memory: usize,
    /// Threads in use.
    pub threads: usize,
    /// Told what goes on.
    pub listener: &'a dyn Listener,
    /// Told of each step, and asked whether to stop.
    pub watch: &'a dyn Watch,
    /// Asked during runs whether the step at hand is to be broken off, which then counts as not begun.
    pub stop: Option<Stop>,
}

/// How a training ended.
pub enum Ended {
    /// Its run folder was finished already.
    Before(Found),
    /// It was finished now; `by_state` says what the policy does, for a terminal.
    Now {
        /// Tables and report.
        found: Found,
        /// A line a state.
        by_state: String,
    },
    /// The user stopped it after so many steps; the same job goes on from there.
    Stopped(usize),
}

/// Trains into a run folder of its own, or goes on there.
///
/// # Errors
/// A base, settings or prompts that do not go together; a folder of another training; what the training itself says.
pub fn train(job: &Job, base: OpenedBase, out: &Path) -> Result<Ended> {
    let (settings, pool, listener) = (job.settings, job.pool, job.listener);
    let (family, spec) = read_spec(base.checkpoint.config()).map_err(|e| named(e, &base.path))?;
    let targets = Targets::resolve(settings, &spec, family)?;
    let key = RunKey {
        command: "train".to_owned(),
        settings: json!({
            "training": settings,
            "raw": job.raw,
            "date": job.now,
            "nf4": job.nf4.map(Nf4::name),
        }),
        seed: job.seed,
        inputs: base.inputs.clone(),
        command_line: std::env::args().collect(),
        threads: job.threads,
    };
    let initial = Factors::new(&targets, settings.rank, job.seed);
    let written = config(settings, &targets, job.base);
    let begin = tempfile::tempdir().context("a folder for the adapter that training begins from")?;
    write_folder(begin.path(), &written, &initial)?;
    let mut policy = policy(job, base, begin.path(), &targets)?;
    if cfg!(unix) {
        // Mapped files can be read when their names are gone, and whatever ends the training leaves none behind.
        drop(begin);
    }
    let folder = RunFolder::open(out, &key)?;
    match folder.opened() {
        State::Finished => return finished(&folder).map(Ended::Before),
        State::Resumed { .. } => listener.say(&format!("going on with {}", out.display())),
        State::Damaged { files } => {
            listener.say(&format!("{}: changed or missing, made again: {}", out.display(), files.join(", ")));
        }
        State::Created => {}
    }
    folder.write_text("prompts.json", &pool.set().to_json())?;
    listener.say(&format!(
        "training {} numbers in {} matrices on {} prompts of {} forms",
        targets.n_trained(settings.rank),
        targets.targets.len(),
        pool.states.len(),
        pool.forms.len()
    ));
    listener.begin("training", settings.steps as u64);
    let config = config_text(&written);
    let keeper = Kept::new(&folder, &config);
    let training = Training { pool, settings, seed: job.seed, keeper: &keeper, watch: job.watch };
    let outcome = training.run(&mut policy, initial);
    listener.end();
    let outcome = outcome?;
    // Somebody may have asked to stop during the last step; what is left to write is made from its checkpoint.
    if !outcome.finished || job.watch.should_stop() {
        return Ok(Ended::Stopped(outcome.steps.len()));
    }
    let tables = write(&folder, &outcome, pool, &config)?;
    let page = page(settings, &targets, &key, &outcome.steps, pool, policy.model());
    page.sections.iter().try_for_each(|section| write_figures(&folder, section))?;
    write_page(&folder, &page)?;
    folder.finish()?;
    Ok(Ended::Now { found: Found { tables, page }, by_state: by_state(&outcome.steps, pool) })
}

fn policy(job: &Job, base: OpenedBase, begin: &Path, targets: &Targets) -> Result<ModelPolicy<f32>> {
    let OpenedBase { checkpoint, mut tokenizer, path, .. } = base;
    if let Some(now) = job.now {
        tokenizer.set_clock(Clock::Fixed(now));
    }
    let adapters = [(NAME.to_owned(), begin.to_owned())];
    let mut model = Model::load(checkpoint, &adapters, job.memory).map_err(|e| named(e, &path))?;
    model.stop_when(job.stop.clone());
    let wrapping = if job.raw { Wrapping::Raw } else { Wrapping::Auto };
    Ok(ModelPolicy::new(model, &tokenizer, job.pool, targets, wrapping, job.memory / 2)?)
}

/// Adapter and tables.
fn write(
    folder: &RunFolder,
    outcome: &Outcome,
    pool: &Pool,
    config: &str,
) -> Result<Vec<lorascope_record::Table>> {
    folder.write_bytes(&format!("{ADAPTER}/{WEIGHTS}"), &outcome.factors.to_safetensors()?)?;
    folder.write_text(&format!("{ADAPTER}/{CONFIG}"), config)?;
    let tables = vec![training_table(&outcome.steps, pool)?, states_table(&outcome.steps, pool)?];
    tables.iter().try_for_each(|table| folder.write_table(table))?;
    Ok(tables)
}

/// What lies in the folder of a finished training.
fn finished(folder: &RunFolder) -> Result<Found> {
    let mut tables = Vec::new();
    for spec in [&TRAINING, &TRAINING_STATES] {
        tables.extend(folder.read_table(spec)?);
    }
    Ok(Found { tables, page: read_page(folder)? })
}
