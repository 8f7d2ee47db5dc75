//! Grouping of prompts by scenario, for figures and summaries.

use crate::bootstrap::{Interval, mean_interval};
use crate::subject::Prompt;

/// Prompts of one scenario: its name and their indices.
pub(crate) struct Scenario {
    pub name: String,
    pub prompts: Vec<usize>,
}

/// Name of the group of all prompts.
pub(crate) const ALL_PROMPTS: &str = "all prompts";

/// The scenarios of a prompt set in order of first appearance; prompts that name none form one called `all prompts`.
pub(crate) fn scenarios(prompts: &[Prompt]) -> Vec<Scenario> {
    let mut found: Vec<Scenario> = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let name = match prompt.scenario() {
            "" => ALL_PROMPTS,
            name => name,
        };
        match found.iter_mut().find(|s| s.name == name) {
            Some(scenario) => scenario.prompts.push(i),
            None => found.push(Scenario { name: name.to_owned(), prompts: vec![i] }),
        }
    }
    found
}

/// Mean over prompts with its interval; `value(i)` belongs to prompt `i`.
pub(crate) fn mean_over(
    prompts: &[Prompt],
    which: &[usize],
    seed: u64,
    value: impl Fn(usize) -> f64,
) -> Interval {
    let values: Vec<f64> = which.iter().map(|&i| value(i)).collect();
    let clusters: Vec<&str> = which.iter().map(|&i| prompts[i].item.cluster()).collect();
    mean_interval(&values, &clusters, seed)
}

/// Number of distinct clusters among some prompts.
pub(crate) fn n_clusters(prompts: &[Prompt], which: &[usize]) -> usize {
    let mut clusters: Vec<&str> = which.iter().map(|&i| prompts[i].item.cluster()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    clusters.len()
}
