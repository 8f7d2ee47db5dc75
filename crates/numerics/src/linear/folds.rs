//! Folds for cross-validation that keep groups whole.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Items to fit and items to predict, by index, each ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to fit to.
    pub fit: Vec<usize>,
    /// Rows to predict.
    pub predict: Vec<usize>,
}

/// Splits items so that every item is predicted once and no group is on both sides. Groups in random order, larger ones first,
/// each go to the fold that has the fewest items so far. There are as many folds as groups where there are fewer groups than
/// `k`. `items` are indices into `groups`.
pub fn grouped_folds(items: &[usize], groups: &[&str], k: usize, seed: u64) -> Vec<Split> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &i in items {
        members.entry(groups[i]).or_default().push(i);
    }
    let k = k.min(members.len());
    // Another stream than the bootstrap's and the permutations'.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(3);
    let mut order: Vec<Vec<usize>> = members.into_values().collect();
    for i in (1..order.len()).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut folds: Vec<Vec<usize>> = vec![Vec::new(); k];
    for group in order {
        if let Some(fold) = folds.iter_mut().min_by_key(|fold| fold.len()) {
            fold.extend(group);
        }
    }
    folds.iter_mut().for_each(|fold| fold.sort_unstable());
    let rest = |fold: &[usize]| items.iter().copied().filter(|i| fold.binary_search(i).is_err()).collect();
    folds.iter().map(|fold| Split { fit: rest(fold), predict: fold.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_whole_and_every_item_is_predicted_once() {
        let names: Vec<String> = (0..60).map(|i| format!("t{:02}", (i * 7) % 13)).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let items: Vec<usize> = (0..60).filter(|i| i % 5 != 0).collect();
        for k in [2, 5, 13, 40] {
            let splits = grouped_folds(&items, &groups, k, 3);
            assert_eq!(splits.len(), k.min(13));
            let mut predicted: Vec<usize> = splits.iter().flat_map(|s| s.predict.clone()).collect();
            predicted.sort_unstable();
            assert_eq!(predicted, items);
            for split in &splits {
                assert!(split.predict.iter().all(|&p| split.fit.iter().all(|&f| groups[f] != groups[p])));
                assert_eq!(split.fit.len() + split.predict.len(), items.len());
            }
            let sizes: Vec<usize> = splits.iter().map(|s| s.predict.len()).collect();
            let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            assert!(spread <= 5, "{sizes:?}");
            assert_eq!(splits, grouped_folds(&items, &groups, k, 3));
        }
        assert_ne!(grouped_folds(&items, &groups, 5, 3), grouped_folds(&items, &groups, 5, 4));
        assert!(grouped_folds(&[], &[], 5, 0).is_empty());
    }
}
