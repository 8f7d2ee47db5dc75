//! Prompts to grow a circuit (or to choose anything) on, and others to test it on.

use crate::subject::{Prompt, Subject};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Indices of prompts, in an order in which every beginning has all scenarios as evenly as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub grow: Vec<usize>,
    pub test: Vec<usize>,
    /// Whether no cluster of prompts is in both.
    pub is_clean: bool,
}

/// Half of the clusters for growing, the others for testing; single prompts are told apart where there is one cluster only,
/// and one prompt has to serve for both.
pub(crate) fn split(subject: &Subject, seed: u64, n_grow: usize, n_test: usize) -> Split {
    let prompts = &subject.prompts;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let clusters: BTreeSet<&str> = prompts.iter().map(|p| p.item.cluster()).collect();
    let is_clean = clusters.len() > 1;
    let key = |i: usize| if is_clean { prompts[i].item.cluster() } else { prompts[i].id() };
    let mut keys: Vec<&str> = (0..prompts.len()).map(key).collect::<BTreeSet<_>>().into_iter().collect();
    shuffle(&mut keys, &mut rng);
    let first: BTreeSet<&str> = keys[..keys.len().div_ceil(2)].iter().copied().collect();
    let (mut grow, mut test): (Vec<usize>, Vec<usize>) =
        (0..prompts.len()).partition(|&i| first.contains(key(i)));
    shuffle(&mut grow, &mut rng);
    shuffle(&mut test, &mut rng);
    let mut grow = evenly(prompts, grow);
    let mut test = evenly(prompts, test);
    grow.truncate(n_grow);
    test.truncate(n_test);
    if test.is_empty() {
        return Split { test: grow.clone(), grow, is_clean: false };
    }
    Split { grow, test, is_clean }
}

/// Fisher and Yates.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// One of each scenario in turn.
fn evenly(prompts: &[Prompt], which: Vec<usize>) -> Vec<usize> {
    let mut by_scenario: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    which.into_iter().for_each(|i| by_scenario.entry(prompts[i].scenario()).or_default().push(i));
    let longest = by_scenario.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|n| by_scenario.values().filter_map(move |all| all.get(n).copied()).collect::<Vec<_>>())
        .collect()
}
