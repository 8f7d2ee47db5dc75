//! Who is fitted and who is predicted: folds of whole templates, folds inside them, shuffled labels, and what stands in the way.

use super::settings::Settings;
use super::targets::Target;
use crate::linear::{Split, grouped_folds};
use crate::subject::Subject;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// One outer fold.
#[derive(Debug)]
pub(super) struct Fold {
    pub outer: Split,
    /// Splits of the rows that are fitted, for choosing the strength.
    pub inner: Vec<Split>,
}

/// Everything that depends only on which prompts have a label.
#[derive(Debug)]
pub(super) struct Folds {
    /// The prompts, ascending.
    pub prompts: Vec<usize>,
    pub n_groups: usize,
    pub folds: Vec<Fold>,
    /// For each shuffle and each prompt of the set (all others stand for themselves), the prompt whose label it is given.
    pub shuffles: Vec<Vec<usize>>,
}

impl Folds {
    pub fn new(subject: &Subject, prompts: Vec<usize>, settings: &Settings, seed: u64) -> Self {
        let groups: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
        Self::of(&groups, prompts, settings, seed)
    }

    /// The same from the groups of all prompts.
    pub fn of(groups: &[&str], prompts: Vec<usize>, settings: &Settings, seed: u64) -> Self {
        let inner_seed = |fold: usize| seed.wrapping_add(fold as u64 + 1);
        let folds = grouped_folds(&prompts, groups, settings.folds, seed).into_iter().enumerate();
        let folds = folds.map(|(f, outer)| Fold {
            inner: grouped_folds(&outer.fit, groups, settings.folds, inner_seed(f)),
            outer,
        });
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        prompts.iter().for_each(|&i| members.entry(groups[i]).or_default().push(i));
        let members: Vec<Vec<usize>> = members.into_values().collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(2);
        let shuffles = (0..settings.controls).map(|_| shuffle(&members, groups.len(), &mut rng)).collect();
        Self { n_groups: members.len(), folds: folds.collect(), shuffles, prompts }
    }

    /// Why no probe of this target on this model can be judged.
    pub fn problem(&self, target: &Target, model: usize) -> Option<String> {
        if self.n_groups < 3 {
            return Some(format!("too few templates: {}, and folds inside folds need 3", self.n_groups));
        }
        let values = target.values(model);
        for (f, fold) in self.folds.iter().enumerate() {
            let mut fitted = fold.outer.fit.iter().filter_map(|&i| values[i]);
            let first = fitted.next()?;
            if fitted.all(|v| v == first) {
                let what = if target.is_classes() { "class" } else { "value" };
                return Some(format!("fold {f} would be fitted to one {what} only"));
            }
        }
        None
    }
}

/// A permutation that moves labels between templates in one piece and mixes them inside: where all prompts of a template have
/// one label they still do afterwards (if templates are of one size), and where labels vary inside templates they do so as much
/// as before. So a control has the dependence between prompts that the labels have, and nothing of their meaning.
fn shuffle(members: &[Vec<usize>], n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    mix(&mut order, rng);
    let mut givers = Vec::new();
    for group in order {
        let mut inside = members[group].clone();
        mix(&mut inside, rng);
        givers.extend(inside);
    }
    let mut from: Vec<usize> = (0..n).collect();
    members.iter().flatten().zip(givers).for_each(|(&taker, giver)| from[taker] = giver);
    from
}

fn mix(items: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_keep_the_labels_and_how_they_vary_inside_templates() {
        let members: Vec<Vec<usize>> = (0..6).map(|g| (0..4).map(|i| 4 * g + i).collect()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut moved = 0;
        for _ in 0..50 {
            let from = shuffle(&members, 24, &mut rng);
            let mut sorted = from.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..24).collect::<Vec<_>>(), "a permutation");
            for group in &members {
                assert!(group.iter().all(|&i| from[i] / 4 == from[group[0]] / 4), "in one piece");
            }
            moved += usize::from(from[0] != 0);
        }
        assert!(moved > 40, "{moved} of 50 shuffles move the first label");
    }
}
