//! How a training went, read from its finished run folder.

use crate::error::{Error, Result};
use crate::metrics::{TRAINING, TRAINING_STATES};
use crate::settings::{Algorithm, Settings};
use lorascope_record::{Table, TableSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// A policy is clear where the action with the larger reward has this probability …
pub(super) const CLEAR: f64 = 0.9;
/// … in every state that the reward decides, for so many steps in a row.
pub(super) const WINDOW: usize = 5;

/// The curve of one training.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Mean expected reward of each step.
    pub reward: Vec<f64>,
    /// Steps before the policy was clear.
    pub clear_after: Option<usize>,
    /// Episodes until then: answers with their rewards.
    pub episodes: Option<usize>,
}

impl Curve {
    /// Reads it from a run folder of that training.
    ///
    /// # Errors
    /// Tables that are not there or not those of a training.
    pub fn read(folder: &Path, settings: &Settings) -> Result<Self> {
        let (steps, states) = (table(folder, &TRAINING)?, table(folder, &TRAINING_STATES)?);
        let clear_after = clear_after(&states)?;
        let samples = match settings.algorithm {
            Algorithm::Exact => 1,
            Algorithm::Ppo => settings.ppo.samples,
        };
        let at = states.ints("step")?;
        let until = |end: usize| at.iter().filter(|&&s| usize::try_from(s).is_ok_and(|s| s < end)).count();
        let episodes = clear_after.map(|end| samples * until(end));
        Ok(Self { reward: steps.floats("reward")?, clear_after, episodes })
    }
}

fn table(folder: &Path, spec: &'static TableSpec) -> Result<Table> {
    let path = folder.join(format!("tables/{}.parquet", spec.name));
    let bytes = std::fs::read(&path).map_err(|e| Error::Confirm(format!("{}: {e}", path.display())))?;
    Ok(Table::from_parquet(spec, &bytes)?)
}

/// Steps until the policy is clear.
fn clear_after(states: &Table) -> Result<Option<usize>> {
    let (steps, names) = (states.ints("step")?, states.texts("state")?);
    let (cooperate, defect) = (states.floats("reward_cooperate")?, states.floats("reward_defect")?);
    let p_defect = states.floats("p_defect")?;
    let mut better: BTreeMap<i64, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for row in 0..states.n_rows() {
        let of_step = better.entry(steps[row]).or_default();
        if cooperate[row] != defect[row] {
            let p = if defect[row] > cooperate[row] { p_defect[row] } else { 1.0 - p_defect[row] };
            of_step.entry(names[row]).or_default().push(p);
        }
    }
    let mut in_a_row = 0;
    for (step, of_step) in better.values().enumerate() {
        let is_clear = |ps: &Vec<f64>| ps.iter().sum::<f64>() / ps.len() as f64 >= CLEAR;
        in_a_row = if !of_step.is_empty() && of_step.values().all(is_clear) { in_a_row + 1 } else { 0 };
        if in_a_row == WINDOW {
            return Ok(Some(step + 1 - WINDOW));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(p_defect: &[[f64; 3]]) -> Table {
        let mut table = Table::new(&TRAINING_STATES);
        for (step, ps) in p_defect.iter().enumerate() {
            // Cooperating pays in CC, defecting in CD, and DD is undecided.
            for (i, (state, a, b)) in
                [("CC", 3.0, 1.0), ("CD", 0.0, 1.0), ("DD", 1.0, 1.0)].into_iter().enumerate()
            {
                let numbers = [a, b, 1.0, ps[i], 1.0, 0.0].map(Into::into);
                let mut row = vec![step.into(), "p".into(), state.into()];
                row.extend(numbers);
                table.push(&row).unwrap();
            }
        }
        table
    }

    #[test]
    fn a_policy_is_clear_where_every_decided_state_is_for_some_steps() {
        let (unclear, clear) = ([0.1, 0.8, 0.5], [0.1, 0.95, 0.5]);
        let run = |steps: &[[f64; 3]]| clear_after(&states(steps)).unwrap();
        assert_eq!(run(&[clear; 5]), Some(0));
        assert_eq!(run(&[clear; 4]), None);
        assert_eq!(run(&[[clear; 4].as_slice(), &[unclear], &[clear; 6]].concat()), Some(5));
        assert_eq!(run(&[unclear; 9]), None);
    }
}
