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

/// The models of these names.
pub(crate) fn models_of(analysis: &'static str, names: &[String], subject: &Subject) -> Result<Vec<usize>> {
    names.iter().map(|name| model_of(analysis, name, subject)).collect()
}

/// Every adapter into the base.
fn into_base(n_models: usize) -> Vec<(usize, usize)> {
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

/// The same from names; every adapter into the base where none is given.
pub(crate) fn pairs_by_name(
    analysis: &'static str,
    subject: &Subject,
    source: &[String],
    target: &[String],
) -> Result<Vec<(usize, usize)>> {
    let n = subject.model.n_models();
    let (sources, targets) = (models_of(analysis, source, subject)?, models_of(analysis, target, subject)?);
    at_least_one(analysis, model_pairs(&sources, &targets, n, into_base(n)))
}

/// Pairs without repetitions, of which there must be one.
pub(crate) fn at_least_one<S: Ord + Clone>(
    analysis: &'static str,
    pairs: Vec<(S, usize)>,
) -> Result<Vec<(S, usize)>> {
    if pairs.is_empty() {
        let why =
            "there is no pair of two different models; name another source or target, or load an adapter";
        return Err(Error::Settings { analysis, why: why.to_owned() });
    }
    Ok(distinct(pairs))
}

/// The items in their order, the first of equals only: what is named twice must not count twice in averages.
pub(crate) fn distinct<T: Ord + Clone>(items: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).collect()
}
