//! Change points of a curve: piecewise-constant levels by penalised least squares, and what a curve without order gives.
//!
//! Over all ways to cut the steps into runs, `RSS + β · changes` is least (Yao 1988), found exactly by dynamic programming over
//! all partitions with at most [`MOST`] changes (Auger & Lawrence 1989; optimal partitioning, Jackson et al. 2005, of which PELT, Killick
//! et al. 2012, is the pruned form: trajectories are short, nothing needs pruning). A curve may have several coordinates
//! (scenarios), which change together.
//!
//! **The penalty** comes from the null that the order of steps means nothing: each cluster's steps are permuted by themselves, and β
//! is the value that the statistic `max_K (RSS₀ − RSS_K)/K`, the largest penalty at which a curve still has a change, passes in
//! `level` of the permutations (the observed order counted in). So a curve without order has a change with a probability of at most
//! `level`. Beyond the first change this is strict, since the permuted curves hold all of the curve's variation.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// More changes than this are not looked for.
pub(super) const MOST: usize = 5;
/// Statistics that are equal in exact arithmetic differ by rounding.
const SLACK: f64 = 1e-9;
/// A curve that varies by less than this share of its size does not vary.
const FLAT: f64 = 1e-9;

/// Coordinates by step, with weights.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// `values[coordinate][step]`.
    pub values: Vec<Vec<f64>>,
    /// Weight of each coordinate's squares.
    pub weights: Vec<f64>,
}

impl Curve {
    pub fn n_steps(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Whether nothing varies but by rounding.
    pub fn is_flat(&self) -> bool {
        self.values.iter().all(|x| {
            let size = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let (lo, hi) = x.iter().fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
            hi - lo <= FLAT * size
        })
    }

    /// Mean of a coordinate over a run of steps.
    pub fn level(&self, coordinate: usize, run: std::ops::Range<usize>) -> f64 {
        let n = run.len() as f64;
        self.values[coordinate][run].iter().sum::<f64>() / n
    }
}

/// Squared deviations from their mean of every run of steps.
pub(super) struct Costs {
    n: usize,
    /// `[first * (n + 1) + end]`.
    of: Vec<f64>,
}

impl Costs {
    pub fn new(curve: &Curve) -> Self {
        let n = curve.n_steps();
        let mut of = vec![0.0; n * (n + 1)];
        for (x, w) in curve.values.iter().zip(&curve.weights) {
            // About the mean, so that squares do not drown what varies.
            let mean = x.iter().sum::<f64>() / n as f64;
            for first in 0..n {
                let (mut sum, mut squares) = (0.0, 0.0);
                for (i, v) in x[first..].iter().enumerate() {
                    let v = v - mean;
                    (sum, squares) = (sum + v, squares + v * v);
                    let rest: f64 = squares - sum * sum / (i + 1) as f64;
                    of[first * (n + 1) + first + i + 1] += w * rest.max(0.0);
                }
            }
        }
        Self { n, of }
    }

    /// Of the steps `first..end`.
    pub fn run(&self, first: usize, end: usize) -> f64 {
        self.of[first * (self.n + 1) + end]
    }

    /// Of all steps as one run.
    pub fn whole(&self) -> f64 {
        self.run(0, self.n)
    }

    /// The best partition with each number of changes from 0 on: its sum of squares, and where runs begin but for the first.
    pub fn partitions(&self) -> Vec<(f64, Vec<usize>)> {
        let (least, from) = self.table();
        let partition = |changes: usize| {
            let mut starts = Vec::with_capacity(changes);
            let mut end = self.n;
            for k in (1..=changes).rev() {
                end = from[k][end];
                starts.push(end);
            }
            starts.reverse();
            (least[changes][self.n], starts)
        };
        (0..least.len()).map(partition).collect()
    }

    /// `least[k][end]`: the least sum of squares of the first `end` steps with k changes; `from`: where the last run begins.
    fn table(&self) -> (Vec<Vec<f64>>, Vec<Vec<usize>>) {
        let n = self.n;
        let most = MOST.min(n.saturating_sub(1));
        let mut least = vec![vec![f64::INFINITY; n + 1]; most + 1];
        let mut from = vec![vec![0; n + 1]; most + 1];
        least[0] = (0..=n).map(|end| self.run(0, end)).collect();
        for k in 1..=most {
            for end in k + 1..=n {
                for first in k..end {
                    let sum = least[k - 1][first] + self.run(first, end);
                    if sum < least[k][end] {
                        (least[k][end], from[k][end]) = (sum, first);
                    }
                }
            }
        }
        (least, from)
    }

    /// The largest penalty at which the curve still has a change.
    pub fn statistic(&self) -> f64 {
        let (least, _) = self.table();
        let gain = |k: usize| (self.whole() - least[k][self.n]) / k as f64;
        (1..least.len()).map(gain).fold(0.0, f64::max)
    }

    /// Where runs begin, but for the first, at this penalty; of equals the fewest.
    pub fn fit(&self, penalty: f64) -> Vec<usize> {
        let sum = |(k, (rss, _)): &(usize, (f64, Vec<usize>))| rss + penalty * *k as f64;
        let all = self.partitions().into_iter().enumerate();
        all.min_by(|a, b| sum(a).total_cmp(&sum(b))).map_or_else(Vec::new, |(_, (_, starts))| starts)
    }
}

/// One cluster's part in a curve.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Sum over the cluster's prompts, `[coordinate][step]`.
    pub sums: Vec<Vec<f64>>,
    /// Its prompts in each coordinate.
    pub counts: Vec<f64>,
}

/// The curve of means over clusters, each taken so many times; coordinates in which none is left have weight 0.
pub(super) fn curve(shares: &[Share], times: Option<&[u32]>) -> Curve {
    let dimensions = shares.first().map_or(0, |s| s.counts.len());
    let n = shares.first().and_then(|s| s.sums.first()).map_or(0, Vec::len);
    let times = |c: usize| times.map_or(1.0, |t| f64::from(t[c]));
    let mut values = vec![vec![0.0; n]; dimensions];
    let mut counts = vec![0.0; dimensions];
    for (c, share) in shares.iter().enumerate().filter(|(c, _)| times(*c) > 0.0) {
        for d in 0..dimensions {
            counts[d] += times(c) * share.counts[d];
            values[d].iter_mut().zip(&share.sums[d]).for_each(|(v, s)| *v += times(c) * s);
        }
    }
    let all: f64 = counts.iter().sum();
    for (x, count) in values.iter_mut().zip(&counts).filter(|(_, count)| **count > 0.0) {
        x.iter_mut().for_each(|v| *v /= count);
    }
    Curve { values, weights: counts.iter().map(|count| count / all).collect() }
}

/// Random orders of the steps, the same for all curves over as many clusters.
pub(super) struct Orders {
    n_steps: usize,
    n_clusters: usize,
    draws: usize,
    seed: u64,
}

impl Orders {
    pub fn new(n_steps: usize, n_clusters: usize, draws: usize, seed: u64) -> Self {
        Self { n_steps, n_clusters, draws, seed }
    }

    /// The statistic of the curve under every draw; each cluster has an order of its own (Fisher and Yates).
    fn statistics(&self, shares: &[Share]) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Another stream than those of resampling and of sign flips.
        rng.set_stream(2);
        let mut permuted = shares.to_vec();
        let mut draw = || {
            for (to, share) in permuted.iter_mut().zip(shares) {
                let mut order: Vec<usize> = (0..self.n_steps).collect();
                for i in (1..self.n_steps).rev() {
                    order.swap(i, rng.random_range(0..=i));
                }
                for (to, x) in to.sums.iter_mut().zip(&share.sums) {
                    to.iter_mut().zip(&order).for_each(|(v, &t)| *v = x[t]);
                }
            }
            Costs::new(&curve(&permuted, None)).statistic()
        };
        (0..self.draws).map(|_| draw()).collect()
    }

    /// The changes of the curve, if the order of its steps means anything at this level.
    ///
    /// # Panics
    /// If these are not the clusters and steps of the draws.
    pub fn test(&self, shares: &[Share], level: f64) -> Test {
        assert_eq!(shares.len(), self.n_clusters, "one share a cluster");
        let whole = curve(shares, None);
        if whole.is_flat() {
            return Test { p: None, penalty: None, starts: Vec::new() };
        }
        let costs = Costs::new(&whole);
        let observed = costs.statistic();
        let mut null = self.statistics(shares);
        let extreme = null.iter().filter(|t| **t >= observed * (1.0 - SLACK)).count();
        let all = null.len() + 1;
        let p = (extreme + 1) as f64 / all as f64;
        null.sort_by(|a, b| b.total_cmp(a));
        let rank = (level * all as f64 + SLACK).floor() as usize;
        let penalty = rank.checked_sub(1).and_then(|r| null.get(r)).copied();
        let starts = match penalty {
            Some(penalty) if p <= level + SLACK => costs.fit(penalty),
            _ => Vec::new(),
        };
        Test { p: Some(p), penalty, starts }
    }
}

/// What a curve gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Test {
    /// Share of orders of steps with at least this much of a change; `None` for a flat curve.
    pub p: Option<f64>,
    /// What a change costs; `None` for a flat curve or too few draws for the level.
    pub penalty: Option<f64>,
    /// Where runs begin, but for the first.
    pub starts: Vec<usize>,
}
