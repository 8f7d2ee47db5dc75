//! Which positions of which prompts a lens is trained, chosen and judged on.
//!
//! Prompts are split by template, and templates that hold label twins of one another stay together. Prompts that begin alike
//! share states: a state that any training prompt has is a training state.

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::subject::Prompt;
use lorascope_engine::{Batch, ModelSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a prompt serves for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    /// Maps are fitted to it.
    Train,
    /// Penalty and steps are chosen by it.
    Validation,
    /// Nothing is chosen by it.
    Heldout,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Heldout];

    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Heldout => "heldout",
        }
    }
}

/// A position of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub prompt: usize,
    pub position: usize,
}

/// The split of the prompts, and the positions sampled from each part.
#[derive(Debug)]
pub(super) struct Plan {
    /// One a prompt.
    pub splits: Vec<Split>,
    /// Sampled positions: those to train on, then to validate, then held out.
    pub places: Vec<Place>,
    /// How many of them belong to each part.
    pub counts: [usize; 3],
}

impl Plan {
    /// `inputs` are the tokens of the prompts up to their decision points.
    pub fn new(
        spec: &ModelSpec,
        prompts: &[Prompt],
        inputs: &[Vec<u32>],
        settings: &Settings,
        seed: u64,
    ) -> Result<Self> {
        let splits = split(&units(prompts), seed)?;
        let sequences: Vec<(usize, &[u32])> = inputs.iter().map(|i| (0, i.as_slice())).collect();
        // One row for each distinct beginning.
        let batch = Batch::new(spec, &sequences)?;
        let mut rows: BTreeMap<usize, (Split, Place)> = BTreeMap::new();
        for (prompt, input) in inputs.iter().enumerate() {
            // Position 0 has seen nothing, and in many models its state is a giant that tells nothing about the others.
            for position in 1..input.len() {
                let row =
                    batch.row_of(prompt, position).unwrap_or_else(|| unreachable!("it is in the batch"));
                let here = rows.entry(row).or_insert((splits[prompt], Place { prompt, position }));
                if splits[prompt] < here.0 {
                    *here = (splits[prompt], Place { prompt, position });
                }
            }
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut places, mut counts) = (Vec::new(), [0; 3]);
        let most = [settings.rows, settings.validation_rows, settings.heldout_rows];
        for (n, (part, most)) in Split::ALL.into_iter().zip(most).enumerate() {
            let mut found: Vec<Place> = rows.values().filter(|r| r.0 == part).map(|r| r.1).collect();
            found.shuffle(&mut rng);
            // Decision points come first among the rows to train on: it is there that the lens will be used.
            if part == Split::Train {
                found.sort_by_key(|p| p.position + 1 != inputs[p.prompt].len());
            }
            found.truncate(most);
            counts[n] = found.len();
            places.extend(found);
        }
        Ok(Self { splits, places, counts })
    }

    /// Places of a part, as indices into [`Plan::places`].
    pub fn range(&self, part: Split) -> std::ops::Range<usize> {
        let first: usize = self.counts[..part as usize].iter().sum();
        first..first + self.counts[part as usize]
    }
}

/// For each prompt, the name of the unit that may not be split: its template, joined with those of its label twins.
fn units(prompts: &[Prompt]) -> Vec<&str> {
    let mut unit: BTreeMap<&str, &str> =
        prompts.iter().map(|p| (p.item.cluster(), p.item.cluster())).collect();
    let mut twins: BTreeMap<&str, &str> = BTreeMap::new();
    for prompt in prompts {
        let Some(key) = prompt.item.rest.get("label_twins").and_then(Value::as_str) else { continue };
        let first = *twins.entry(key).or_insert(prompt.item.cluster());
        let (keep, join) = (unit[first], unit[prompt.item.cluster()]);
        unit.values_mut().filter(|u| **u == join).for_each(|u| *u = keep);
    }
    prompts.iter().map(|p| unit[p.item.cluster()]).collect()
}

/// A fifth of the units is held out, a fifth is for validation, the others are for training; at least one each.
fn split(units: &[&str], seed: u64) -> Result<Vec<Split>> {
    let mut names: Vec<&str> = units.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() < 3 {
        let why = format!(
            "the prompts come from {} template(s); training, choosing and judging a lens needs prompts from three at least",
            names.len()
        );
        return Err(Error::Settings { analysis: super::NAME, why });
    }
    names.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let fifth = (names.len() / 5).max(1);
    let part = |unit: &str| match names.iter().position(|n| *n == unit) {
        Some(i) if i < fifth => Split::Heldout,
        Some(i) if i < 2 * fifth => Split::Validation,
        _ => Split::Train,
    };
    Ok(units.iter().map(|u| part(u)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_whole_units() {
        let units = ["a", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "b"];
        for seed in 0..20 {
            let splits = split(&units, seed).expect("ten units");
            let count = |s| splits.iter().collect::<Vec<_>>().iter().filter(|x| ***x == s).count();
            assert!(count(Split::Heldout) >= 2 && count(Split::Validation) >= 2 && count(Split::Train) >= 6);
            assert_eq!(splits[0], splits[1]);
            assert_eq!(splits[2], splits[11]);
        }
        assert!(split(&["a", "b", "a"], 0).is_err());
        let three: std::collections::BTreeSet<Split> =
            split(&["a", "b", "c"], 0).expect("three").into_iter().collect();
        assert_eq!(three.len(), 3);
    }
}
