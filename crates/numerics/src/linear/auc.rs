//! Area under the ROC curve: the share of pairs of one positive and one negative item in which the positive one scores
//! higher, ties counting half (Mann & Whitney 1947).
//!
//! Scores of two folds come from two models and are not on one scale, so pairs are compared within folds only. Intervals
//! resample whole clusters: a pair counts as often as both of its clusters are drawn, multiplied.

use crate::bootstrap::{Interval, RESAMPLES, ends, tail};
use std::collections::BTreeMap;

/// Items with scores and labels, compared within folds.
#[derive(Debug)]
pub struct Concordance {
    /// Pairs by the clusters of the positive and the negative item: how many, and how many are in order.
    pairs: Vec<((usize, usize), (f64, f64))>,
}

impl Concordance {
    /// `items`: fold, cluster, score, and whether it is positive.
    pub fn new(items: &[(usize, usize, f64, bool)]) -> Self {
        let mut pairs: BTreeMap<(usize, usize), (f64, f64)> = BTreeMap::new();
        for &(fold, cluster, score, _) in items.iter().filter(|i| i.3) {
            for &(_, other, against, _) in items.iter().filter(|i| !i.3 && i.0 == fold) {
                let pair = pairs.entry((cluster, other)).or_default();
                pair.0 += 1.0;
                pair.1 += if score > against {
                    1.0
                } else if score == against {
                    0.5
                } else {
                    0.0
                };
            }
        }
        Self { pairs: pairs.into_iter().collect() }
    }

    /// The area with its 95% interval; `None` where there is no pair. `draws` say how often each cluster is drawn.
    pub fn interval(&self, draws: &[Vec<u32>]) -> Option<Interval> {
        let area = |times: &dyn Fn(usize) -> f64| {
            let sums = self.pairs.iter().fold((0.0, 0.0), |(all, right), ((a, b), (n, k))| {
                let weight = times(*a) * times(*b);
                (all + weight * n, right + weight * k)
            });
            (sums.0 > 0.0).then(|| sums.1 / sums.0)
        };
        let mean = area(&|_| 1.0)?;
        let mut areas: Vec<f64> = draws.iter().filter_map(|times| area(&|c| f64::from(times[c]))).collect();
        debug_assert!(draws.len() <= RESAMPLES);
        let n_clusters = draws.first().map_or(1, Vec::len);
        let (lo, hi) = ends(&mut areas, tail(n_clusters)).unwrap_or((mean, mean));
        Some(Interval { mean, lo, hi })
    }
}
