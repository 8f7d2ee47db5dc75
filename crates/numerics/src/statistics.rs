//! Paired comparison of two models over prompts: interval, permutation p-value, effect size, and correction for many tests.
//!
//! Prompts made from one template are not independent, so whole clusters are resampled and whole clusters change their sign. A
//! [`Design`] holds what depends on the clusters and the seed alone and serves any number of comparisons over the same prompts:
//! the same inputs give the same bits.
//!
//! The p-value is that of the sign-flip test (Fisher's randomisation of paired differences, two-sided): if the models do not differ,
//! each cluster's difference is as likely as its negative. All sign patterns are tried where there are at most 2¹⁶; else 9999
//! random ones with the observed pattern counted in, which keeps the test valid (Phipson & Smyth 2010). Its smallest value is 2⁻ᶜ⁺¹
//! with C ≤ 16 clusters: with five clusters nothing can fall below 1/16.

#[cfg(test)]
mod nulls;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::bootstrap::{Interval, Resampler};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// Up to this number of clusters all sign patterns are tried.
const EXACT: usize = 16;
/// Random sign patterns beyond.
pub const FLIPS: usize = 9999;
/// Clusters whose 2⁸ signed sums are tabulated together.
const GROUP: usize = 8;

/// The prompts that comparisons run over, with their clusters.
#[derive(Debug)]
pub struct Design {
    resampler: Resampler,
    /// Random sign patterns: for each group of clusters a byte of every pattern. Empty where all patterns are tried.
    flips: Vec<Vec<u8>>,
}

/// Two models compared over the same prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean of the differences with its 95% interval over clusters.
    pub mean: Interval,
    /// Two-sided p-value of the sign-flip test.
    pub p: f64,
    /// Mean over standard deviation of the differences (Cohen's d of paired values); `None` where they do not vary.
    pub effect: Option<f64>,
}

impl Design {
    /// For prompts in these clusters, in this order.
    pub fn new(clusters: &[&str], seed: u64) -> Self {
        let resampler = Resampler::new(clusters, seed);
        let n = resampler.n_clusters();
        // Another stream than the bootstrap's, so that the two do not depend on each other.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        let mut flips = vec![vec![0; FLIPS]; if n > EXACT { n.div_ceil(GROUP) } else { 0 }];
        for pattern in 0..FLIPS {
            flips.iter_mut().for_each(|group| group[pattern] = rng.random_range(0..=u8::MAX));
        }
        Self { resampler, flips }
    }

    /// The draws behind its intervals.
    pub fn resampler(&self) -> &Resampler {
        &self.resampler
    }

    /// Number of prompts.
    pub fn n(&self) -> usize {
        self.resampler.n()
    }

    /// Number of clusters.
    pub fn n_clusters(&self) -> usize {
        self.resampler.n_clusters()
    }

    /// The mean of values, one per prompt, with its interval.
    ///
    /// # Panics
    /// If there is not one value per prompt.
    pub fn mean(&self, values: &[f64]) -> Interval {
        assert_eq!(values.len(), self.n(), "one value per prompt");
        self.resampler.mean(values)
    }

    /// `Σ over / Σ under`, one value of each per prompt, with its interval.
    pub fn ratio(&self, over: &[f64], under: &[f64]) -> Interval {
        self.resampler.ratio(over, under)
    }

    /// Compares two models by their differences, one per prompt.
    ///
    /// # Panics
    /// If there is not one difference per prompt.
    pub fn compare(&self, differences: &[f64]) -> Comparison {
        let mean = self.mean(differences);
        let squares: f64 = differences.iter().map(|d| (d - mean.mean).powi(2)).sum();
        let deviation = (squares / (differences.len() as f64 - 1.0)).sqrt();
        // Equal differences have no spread but that of rounding.
        let size = differences.iter().fold(0.0f64, |m, d| m.max(d.abs()));
        let effect = (deviation > 1e-12 * size).then(|| mean.mean / deviation);
        Comparison { mean, p: self.sign_flip(&self.resampler.sums(differences)), effect }
    }

    /// Whether two models are equivalent: the p-value of two one-sided t-tests (Schuirmann 1987) of the null that the mean of
    /// their differences, one per prompt, lies `margin` or more from zero. Small where it lies within. The standard error is
    /// that of whole clusters (of a ratio of sums by cluster), with C − 1 degrees of freedom; `None` with one cluster, which
    /// shows nothing.
    ///
    /// # Panics
    /// If there is not one difference per prompt.
    pub fn equivalence(&self, differences: &[f64], margin: f64) -> Option<f64> {
        let c = self.n_clusters() as f64;
        let error = self.standard_error(differences)?;
        let mean = differences.iter().sum::<f64>() / self.n() as f64;
        // Equal differences have no spread but that of rounding.
        let size = differences.iter().fold(0.0f64, |m, d| m.max(d.abs()));
        if error <= 1e-12 * size {
            return Some(f64::from(mean.abs() >= margin));
        }
        let t = StudentsT::new(0.0, 1.0, c - 1.0).ok()?;
        let (above, below) = (t.sf((mean + margin) / error), t.cdf((mean - margin) / error));
        Some(above.max(below))
    }

    /// Standard error of the mean of values, one per prompt: that of whole clusters, as a ratio of sums by cluster (Cochran 1977,
    /// section 9A). `None` with one cluster.
    ///
    /// # Panics
    /// If there is not one value per prompt.
    pub fn standard_error(&self, values: &[f64]) -> Option<f64> {
        assert_eq!(values.len(), self.n(), "one value per prompt");
        let (n, c) = (self.n() as f64, self.n_clusters() as f64);
        let mean = values.iter().sum::<f64>() / n;
        let residuals: Vec<f64> = values.iter().map(|d| d - mean).collect();
        let squares: f64 = self.resampler.sums(&residuals).iter().map(|e| e * e).sum();
        (c >= 2.0).then(|| (c / (c - 1.0) * squares).sqrt() / n)
    }

    /// Share of sign patterns whose mean is as far from zero as the observed one.
    fn sign_flip(&self, sums: &[f64]) -> f64 {
        let tables: Vec<Vec<f64>> = sums.chunks(GROUP).map(signed_sums).collect();
        let observed = sums.iter().sum::<f64>().abs();
        // Patterns that tie in exact arithmetic differ by rounding.
        let slack = 1e-12 * sums.iter().map(|s| s.abs()).sum::<f64>();
        let extreme = |sum: f64| usize::from(sum.abs() >= observed - slack);
        if sums.len() > EXACT {
            // Group by group for all patterns: their sums do not wait for one another.
            let mut flipped = vec![0.0; FLIPS];
            for (table, group) in tables.iter().zip(&self.flips) {
                for (sum, &pattern) in flipped.iter_mut().zip(group) {
                    *sum += table[usize::from(pattern)];
                }
            }
            let found: usize = flipped.into_iter().map(extreme).sum();
            return (found + 1) as f64 / (FLIPS + 1) as f64;
        }
        // A pattern and its opposite are equally extreme: the last cluster keeps its sign.
        let all = 1usize << sums.len().saturating_sub(1);
        let sum = |pattern: usize| -> f64 {
            tables.iter().enumerate().map(|(g, t)| t[pattern >> (GROUP * g) & (t.len() - 1)]).sum()
        };
        (0..all).map(|pattern| extreme(sum(pattern))).sum::<usize>() as f64 / all as f64
    }
}

/// Smallest mean difference that a two-sided t-test at the level of 5% finds in 80% of samples, in standard errors of that many
/// clusters: `t(0.975) + t(0.8)` with one degree of freedom less. `None` below two clusters.
pub fn detectable(clusters: usize) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, clusters.checked_sub(1)? as f64).ok()?;
    Some(t.inverse_cdf(0.975) + t.inverse_cdf(0.8))
}

/// The fewest clusters, up to 10⁵, with which a mean difference of that size is detectable, if the standard error is `error` with
/// `clusters` of them and falls with the root of their number.
pub fn clusters_for(size: f64, error: f64, clusters: usize) -> Option<usize> {
    let spread = error * (clusters as f64).sqrt();
    let enough = |c: usize| detectable(c).is_some_and(|d| d * spread / (c as f64).sqrt() <= size);
    let (mut lo, mut hi) = (1, 100_000);
    if !enough(hi) {
        return None;
    }
    while hi - lo > 1 {
        let middle = usize::midpoint(lo, hi);
        if enough(middle) { hi = middle } else { lo = middle }
    }
    Some(hi)
}

/// The sum of up to [`GROUP`] values under every pattern of signs; a set bit is a minus. Always 2⁸ entries, so that any byte
/// is an index: bits beyond the last value change nothing.
fn signed_sums(values: &[f64]) -> Vec<f64> {
    let signed = |pattern: usize| -> f64 {
        values.iter().enumerate().map(|(i, v)| if pattern >> i & 1 == 1 { -v } else { *v }).sum()
    };
    (0..1 << GROUP).map(signed).collect()
}

/// Benjamini and Hochberg's (1995) adjusted p-values of one family of tests: rejecting all `q ≤ α` keeps the expected share
/// of false rejections at most α. In the order given.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut q = vec![1.0; p.len()];
    let mut smallest = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        smallest = smallest.min(p[i] * p.len() as f64 / (rank + 1) as f64);
        q[i] = smallest;
    }
    q
}

/// Spearman's rank correlation, ties at their mean rank; `None` where one of the two does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let sizes = product(&a, &a) * product(&b, &b);
    (sizes > 0.0).then(|| product(&a, &b) / sizes.sqrt())
}

/// Ranks from 1, ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        ties.iter().for_each(|&i| ranks[i] = rank);
        before += ties.len();
    }
    ranks
}

/// Upper end of the one-sided 95% interval of Clopper and Pearson for a share of which `k` among `n` were seen: the share at
/// which so few would be seen in 5% of samples.
pub fn share_bound(k: usize, n: usize) -> f64 {
    if k >= n {
        return 1.0;
    }
    beta_quantile(k as f64 + 1.0, (n - k) as f64, 0.95).unwrap_or(1.0)
}

/// The 95% interval of Clopper and Pearson (1934) for a share of which `k` among `n` were seen; `None` where nothing was.
pub fn share_interval(k: u64, n: u64) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (seen, rest) = (k as f64, (n - k.min(n)) as f64);
    // Quantiles of Beta(k, n − k + 1) and Beta(k + 1, n − k).
    let lo = if k == 0 { 0.0 } else { beta_quantile(seen, rest + 1.0, 0.025)? };
    let hi = if k >= n { 1.0 } else { beta_quantile(seen + 1.0, rest, 0.975)? };
    Some(Interval { mean: seen / n as f64, lo, hi })
}

/// A quantile of the beta distribution, by halving.
fn beta_quantile(a: f64, b: f64, level: f64) -> Option<f64> {
    let beta = Beta::new(a, b).ok()?;
    let (mut lo, mut hi) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (lo + hi) / 2.0;
        if beta.cdf(middle) < level { lo = middle } else { hi = middle }
    }
    Some((lo + hi) / 2.0)
}
