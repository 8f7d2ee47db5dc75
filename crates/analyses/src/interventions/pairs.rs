//! Pairs of models by name: where activations are taken, and where they are put.

use crate::error::{Error, Result};
use crate::subject::Subject;
use std::collections::BTreeSet;

/// The model of that name.
pub(crate) fn model_of(analysis: &'static str, name: &str, subject: &Subject) -> Result<usize> {
    let names = subject.model.names();
    names.iter().position(|n| *n == name).ok_or_else(|| Error::Settings {
        analysis,
        why: format!("`{name}` is not a model of this run; models are {}", names.join(", ")),
    })
}

/// Every adapter into the base.
pub(crate) fn into_base(n_models: usize) -> Vec<(usize, usize)> {
    (1..n_models).map(|m| (m, 0)).collect()
}

/// Pairs of two different models: all combinations of what is named; where only sources or only targets are, with every
/// other model; where neither is, the default.
pub(crate) fn model_pairs(
    sources: &[usize],
    targets: &[usize],
    n_models: usize,
    default: Vec<(usize, usize)>,
) -> Vec<(usize, usize)> {
    let all: Vec<usize> = (0..n_models).collect();
    let or_all = |given: &[usize]| if given.is_empty() { all.clone() } else { given.to_vec() };
    if sources.is_empty() && targets.is_empty() {
        return default;
    }
    let (sources, targets) = (or_all(sources), or_all(targets));
    sources.iter().flat_map(|&s| targets.iter().map(move |&t| (s, t))).filter(|(s, t)| s != t).collect()
}

/// The same from names; at least one pair.
pub(crate) fn pairs_by_name(
    analysis: &'static str,
    subject: &Subject,
    source: &[String],
    target: &[String],
) -> Result<Vec<(usize, usize)>> {
    let index = |names: &[String]| -> Result<Vec<usize>> {
        names.iter().map(|n| model_of(analysis, n, subject)).collect()
    };
    let n = subject.model.n_models();
    let pairs = model_pairs(&index(source)?, &index(target)?, n, into_base(n));
    if pairs.is_empty() {
        return Err(no_pair(analysis));
    }
    Ok(distinct(pairs))
}

/// The items in their order, the first of equals only: what is named twice must not count twice in averages.
pub(crate) fn distinct<T: Ord + Clone>(items: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).collect()
}

/// There is nothing to patch between.
pub(crate) fn no_pair(analysis: &'static str) -> Error {
    let why = "there is no pair of two different models; name another source or target, or load an adapter";
    Error::Settings { analysis, why: why.to_owned() }
}
