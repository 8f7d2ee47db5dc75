//! What sets of components do on the prompts that circuits are grown on, each run once.
//!
//! Circuits that grow on all of these prompts, on halves and on bootstrap samples of them, ask for many of the same sets on
//! the same prompts. Only what nobody has asked for yet is run; the rest is another sum of the same numbers.

use super::score::{Scorer, faithfulness};
use crate::error::Result;
use crate::interventions::Unit;
use std::collections::{BTreeMap, BTreeSet};

/// How often each prompt counts: once for all of them, 0 or 1 for a half, any number for a bootstrap sample.
pub(super) type Draw = Vec<u32>;

/// What one draw wants to know: faithfulness of these sets.
pub(super) type Asked<'d> = (&'d Draw, Vec<Vec<Unit>>);

/// Everything that was measured on some prompts, for one source and target.
pub(super) struct Known<'a> {
    pub scorer: &'a Scorer<'a>,
    prompts: &'a [usize],
    /// |delta_source − delta_target| by prompt; null where nothing was run.
    spans: Vec<Option<f64>>,
    /// Change of delta towards the source, by set (sorted) and prompt.
    aligned: BTreeMap<Vec<Unit>, Vec<Option<f64>>>,
}

impl<'a> Known<'a> {
    pub fn new(scorer: &'a Scorer<'a>, prompts: &'a [usize]) -> Self {
        Self { scorer, prompts, spans: vec![None; prompts.len()], aligned: BTreeMap::new() }
    }

    /// All prompts, each once.
    pub fn everything(&self) -> Draw {
        vec![1; self.prompts.len()]
    }

    /// f of every set on its draw; `None` where source and target do not differ on any of its prompts. `what` names the work.
    pub fn faithfulness(&mut self, what: &str, asked: &[Asked]) -> Result<Vec<Vec<Option<f64>>>> {
        self.run(what, asked)?;
        let of_draw = |(draw, sets): &Asked| sets.iter().map(|set| self.over(set, draw)).collect();
        Ok(asked.iter().map(of_draw).collect())
    }

    /// Runs what is not known yet.
    fn run(&mut self, what: &str, asked: &[Asked]) -> Result<()> {
        // Prompt by prompt, as the sweep wants it.
        let mut missing: BTreeSet<(usize, Vec<Unit>)> = BTreeSet::new();
        for (draw, sets) in asked {
            for set in sets {
                let set = sorted(set);
                let known = self.aligned.get(&set);
                let is_missing = |p: &usize| draw[*p] > 0 && known.is_none_or(|values| values[*p].is_none());
                missing.extend((0..draw.len()).filter(is_missing).map(|p| (p, set.clone())));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let tasks: Vec<(usize, &[Unit])> =
            missing.iter().map(|(p, set)| (self.prompts[*p], set.as_slice())).collect();
        let found = self.scorer.measure(what, &tasks)?;
        for ((p, set), (aligned, span)) in missing.into_iter().zip(found) {
            self.spans[p] = Some(span);
            self.aligned.entry(set).or_insert_with(|| vec![None; self.prompts.len()])[p] = Some(aligned);
        }
        Ok(())
    }

    fn over(&self, set: &[Unit], draw: &Draw) -> Option<f64> {
        let aligned = self.aligned.get(&sorted(set))?;
        let drawn = (0..draw.len()).filter(|&p| draw[p] > 0);
        let of = |values: &[Option<f64>]| -> Option<Vec<f64>> {
            drawn.clone().map(|p| values[p].map(|v| f64::from(draw[p]) * v)).collect()
        };
        faithfulness(&of(aligned)?, &of(&self.spans)?)
    }
}

fn sorted(set: &[Unit]) -> Vec<Unit> {
    let mut set = set.to_vec();
    set.sort_unstable();
    set
}
