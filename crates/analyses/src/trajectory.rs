//! How did a training get there? The checkpoints of an adapter, `NAME@STEP`, each with what it changed and what it decides.
//!
//! *Updates*, by step, layer and module, from the factors alone: norm, cosine to the last checkpoint's update, size and direction of
//! what was added since the checkpoint before. *Behaviour*, by step and scenario: delta, recovery of the last checkpoint's behaviour,
//! paired tests against the base and the checkpoint before. All checkpoints go through one forward pass. *Change points* of both
//! (see `segments`), with an interval each, so that it can be said which blocks change before the behaviour does.

mod behaviour;
mod blocks;
mod changes;
mod figures;
mod name;
mod segments;
mod settings;
mod small_tables;
mod tables;
#[cfg(test)]
mod tests;
mod words;

pub use name::CheckpointName;

use crate::Analysis;
use crate::context::{Context, Findings};
use crate::decide::decisions;
use crate::error::{Error, Result};
use crate::subject::Subject;
use behaviour::{BehaviourRow, Decided};
use blocks::BlockRow;
use changes::Found;
use lorascope_record::{Table, TableSpec};
use serde_json::Value;
use settings::Settings;
use std::collections::BTreeMap;

pub(crate) struct TrajectoryAnalysis;

const NAME: &str = "trajectory";
/// Fewer checkpoints are no trajectory.
const LEAST: usize = 3;

static TABLES: &[&TableSpec] = &[&tables::BLOCKS, &tables::BEHAVIOUR, &tables::CHANGES];

/// The checkpoints of one training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trajectory {
    name: String,
    steps: Vec<u64>,
    /// The model of each step.
    models: Vec<usize>,
}

/// Trainings with at least three checkpoints among models with these names, in order of first appearance; steps in order.
fn trajectories<'n>(names: impl Iterator<Item = (usize, &'n str)>) -> Vec<Trajectory> {
    let mut found: Vec<(String, BTreeMap<u64, usize>)> = Vec::new();
    for (model, checkpoint) in names.filter_map(|(m, name)| Some((m, CheckpointName::parse(name)?))) {
        match found.iter_mut().find(|(of, _)| *of == checkpoint.of) {
            Some((_, steps)) => drop(steps.insert(checkpoint.step, model)),
            None => found.push((checkpoint.of, BTreeMap::from([(checkpoint.step, model)]))),
        }
    }
    let long = found.into_iter().filter(|(_, steps)| steps.len() >= LEAST);
    long.map(|(name, by_step)| {
        let (steps, models) = by_step.into_iter().unzip();
        Trajectory { name, steps, models }
    })
    .collect()
}

fn trajectories_of(subject: &Subject) -> Vec<Trajectory> {
    let adapters = subject.model.adapters().iter().enumerate();
    trajectories(adapters.filter(|(_, a)| a.control.is_none()).map(|(i, a)| (i + 1, a.name.as_str())))
}

/// All that was found.
struct Results {
    trajectories: Vec<Trajectory>,
    /// By trajectory.
    blocks: Vec<Vec<BlockRow>>,
    behaviour: Vec<BehaviourRow>,
    /// By trajectory.
    decided: Vec<Decided>,
    changes: Vec<Found>,
}

impl Analysis for TrajectoryAnalysis {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Trajectories"
    }
    fn question(&self) -> &'static str {
        "When in training did weights and behaviour change, and which came first?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn applies(&self, adapters: &[&str]) -> bool {
        !trajectories(adapters.iter().copied().enumerate()).is_empty()
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }
    fn check(&self, subject: &Subject, _settings: &Value) -> Result<()> {
        if !trajectories_of(subject).is_empty() {
            return Ok(());
        }
        let why = format!(
            "no adapter is there with {LEAST} checkpoints or more; give --checkpoints NAME=DIR, or adapters called NAME@STEP"
        );
        Err(Error::Settings { analysis: NAME, why })
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let decisions = decisions(context, "trajectory-decide")?;
        let mut results = Results {
            trajectories: trajectories_of(context.subject),
            blocks: Vec::new(),
            behaviour: Vec::new(),
            decided: Vec::new(),
            changes: Vec::new(),
        };
        let mut table = Table::new(&tables::BLOCKS);
        for trajectory in &results.trajectories {
            let rows = blocks::rows(context, trajectory)?;
            blocks::push(&mut table, trajectory, &rows)?;
            let decided = Decided::new(context, &decisions, trajectory)?;
            results.behaviour.extend(behaviour::rows(context, trajectory, &decided, settings.floor));
            results.changes.extend(changes::find(context, &settings, trajectory, &decided, &rows));
            results.blocks.push(rows);
            results.decided.push(decided);
        }
        table.sort_by_keys();
        let tests = behaviour::correct(&mut results.behaviour);
        let curves = changes::correct(&mut results.changes, settings.level);
        let behaviour = behaviour::table(&results.behaviour, tests)?;
        let changes = changes::table(&results.changes, curves)?;
        let section = figures::section(context, &settings, &results);
        Ok(Findings { tables: vec![table, behaviour, changes], section })
    }
}
