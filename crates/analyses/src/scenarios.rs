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

/// At most `n` prompts, in their order: as many of each scenario, evenly spaced among its own.
pub(crate) fn sample(prompts: &[Prompt], n: usize) -> Vec<usize> {
    let groups = scenarios(prompts);
    let sizes: Vec<usize> = groups.iter().map(|group| group.prompts.len()).collect();
    let of_group = |(group, share): (&Scenario, usize)| spaced(&group.prompts, share);
    let mut chosen: Vec<usize> = groups.iter().zip(shares(&sizes, n)).flat_map(of_group).collect();
    chosen.sort_unstable();
    chosen
}

/// How many of `n` come from groups of these sizes, if they are taken in turn.
fn shares(sizes: &[usize], n: usize) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    let in_turn = |round: usize| (0..sizes.len()).filter(move |&group| sizes[group] > round);
    let longest = sizes.iter().max().copied().unwrap_or(0);
    (0..longest).flat_map(in_turn).take(n).for_each(|group| shares[group] += 1);
    shares
}

/// `n` of them, evenly spaced.
fn spaced(all: &[usize], n: usize) -> Vec<usize> {
    (0..n).map(|i| all[i * all.len() / n]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_give_all_that_they_have() {
        let shares = |n| shares(&[1, 2, 6], n);
        assert_eq!((shares(0), shares(2), shares(4)), (vec![0, 0, 0], vec![1, 1, 0], vec![1, 2, 1]));
        assert_eq!((shares(7), shares(100)), (vec![1, 2, 4], vec![1, 2, 6]));
        assert_eq!(spaced(&[3, 4, 5, 6, 7, 8], 3), [3, 5, 7]);
    }
}
