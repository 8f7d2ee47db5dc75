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

use crate::bootstrap::{Interval, Resampler};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// Up to this number of clusters all sign patterns are tried.
const EXACT: usize = 16;
/// Random sign patterns beyond.
pub(crate) const FLIPS: usize = 9999;
/// Clusters whose 2⁸ signed sums are tabulated together.
const GROUP: usize = 8;

/// The prompts that comparisons run over, with their clusters.
#[derive(Debug)]
pub struct Design {
    resampler: Resampler,
    /// Random sign patterns, a byte for each group of clusters; empty where all patterns are tried.
    flips: Vec<u8>,
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
        let bytes = if n > EXACT { FLIPS * n.div_ceil(GROUP) } else { 0 };
        let flips = (0..bytes).map(|_| rng.random_range(0..=u8::MAX)).collect();
        Self { resampler, flips }
    }

    /// The draws behind its intervals.
    pub(crate) fn resampler(&self) -> &Resampler {
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
    pub(crate) fn ratio(&self, over: &[f64], under: &[f64]) -> Interval {
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
    pub(crate) fn standard_error(&self, values: &[f64]) -> Option<f64> {
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
            let patterns = self.flips.chunks_exact(tables.len());
            let sum =
                |bytes: &[u8]| -> f64 { tables.iter().zip(bytes).map(|(t, &b)| t[usize::from(b)]).sum() };
            let found: usize = patterns.map(|bytes| extreme(sum(bytes))).sum();
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
pub(crate) fn detectable(clusters: usize) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, clusters.checked_sub(1)? as f64).ok()?;
    Some(t.inverse_cdf(0.975) + t.inverse_cdf(0.8))
}

/// The fewest clusters, up to 10⁵, with which a mean difference of that size is detectable, if the standard error is `error` with
/// `clusters` of them and falls with the root of their number.
pub(crate) fn clusters_for(size: f64, error: f64, clusters: usize) -> Option<usize> {
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
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
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
pub(crate) fn share_bound(k: usize, n: usize) -> f64 {
    if k >= n {
        return 1.0;
    }
    let at_most = |p: f64| {
        let mut term = (1.0 - p).powi(n as i32);
        let mut sum = term;
        for i in 0..k {
            term *= (n - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
            sum += term;
        }
        sum
    };
    let (mut lo, mut hi) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (lo + hi) / 2.0;
        if at_most(middle) > 0.05 { lo = middle } else { hi = middle }
    }
    hi
}

/// The 95% interval of Clopper and Pearson (1934) for a share of which `k` among `n` were seen; `None` where nothing was.
pub(crate) fn share_interval(k: u64, n: u64) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (seen, rest) = (k as f64, (n - k.min(n)) as f64);
    // Quantiles of Beta(k, n − k + 1) and Beta(k + 1, n − k).
    let quantile = |a: f64, b: f64, level: f64| -> Option<f64> {
        let beta = Beta::new(a, b).ok()?;
        let (mut lo, mut hi) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (lo + hi) / 2.0;
            if beta.cdf(middle) < level { lo = middle } else { hi = middle }
        }
        Some((lo + hi) / 2.0)
    };
    let lo = if k == 0 { 0.0 } else { quantile(seen, rest + 1.0, 0.025)? };
    let hi = if k >= n { 1.0 } else { quantile(seen + 1.0, rest, 0.975)? };
    Some(Interval { mean: seen / n as f64, lo, hi })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::mean_interval;

    fn names(clusters: &[usize]) -> Vec<String> {
        clusters.iter().map(|c| format!("t{c:03}")).collect()
    }

    fn design(clusters: &[usize], seed: u64) -> Design {
        let names = names(clusters);
        Design::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), seed)
    }

    #[test]
    fn what_is_called_detectable_is_found_four_times_in_five() {
        let normal = statrs::distribution::Normal::new(0.0, 1.0).unwrap();
        let clusters: Vec<usize> = (0..24).map(|i| i / 2).collect();
        let design = design(&clusters, 0);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // Twelve clusters of two values that agree: a standard error of 1/√12.
        let shift = detectable(12).unwrap() / 12f64.sqrt();
        let t = StudentsT::new(0.0, 1.0, 11.0).unwrap().inverse_cdf(0.975);
        let found = (0..4000).filter(|_| {
            let values: Vec<f64> = (0..12)
                .flat_map(|_| {
                    let value = normal.inverse_cdf(rng.random_range(f64::EPSILON..1.0));
                    [value + shift; 2]
                })
                .collect();
            let mean = values.iter().sum::<f64>() / 24.0;
            mean / design.standard_error(&values).unwrap() > t
        });
        let power = found.count() as f64 / 4000.0;
        // Three standard errors, and what the approximation is off by.
        assert!((power - 0.8).abs() < 0.03, "{power}");
        assert_eq!(detectable(1), None);
        let needed = clusters_for(shift, 1.0 / 12f64.sqrt(), 12).unwrap();
        assert_eq!(needed, 12);
        assert!(clusters_for(shift / 2.0, 1.0 / 12f64.sqrt(), 12).unwrap() > 36);
        assert_eq!(clusters_for(0.0, 1.0, 12), None);
    }

    #[test]
    fn small_cases_by_hand() {
        let each: Vec<usize> = (0..5).collect();
        let all_positive = design(&each, 0).compare(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(all_positive.p, 2.0 / 32.0, "only all plus and all minus are as extreme");
        assert!((all_positive.effect.unwrap() - 3.0 / 2.5f64.sqrt()).abs() < 1e-15);
        // |±1±2±3| reaches 1·2·3's 2 with signs (−,−,+)… : 0, 2, 4, 6 each twice; 2 or more in 6 of 8.
        assert_eq!(design(&[0, 1, 2], 0).compare(&[1.0, -2.0, 3.0]).p, 0.75);
        // Two prompts of one cluster change sign together: clusters sum to 3, −1, 4 → |sum| 6, of 8 patterns 8, 6, 2, 0.
        assert_eq!(design(&[0, 1, 0, 2], 0).compare(&[1.0, -1.0, 2.0, 4.0]).p, 0.5);
        let nothing = design(&each, 0).compare(&[0.0; 5]);
        assert_eq!((nothing.p, nothing.effect, nothing.mean.mean), (1.0, None, 0.0));
        assert_eq!(design(&[0, 0, 0], 0).compare(&[1.0, 2.0, 3.0]).p, 1.0, "one cluster shows nothing");
        let constant = design(&each, 0).compare(&[0.1 + 0.2; 5]);
        assert_eq!((constant.effect, constant.p), (None, 1.0 / 16.0));
    }

    #[test]
    fn random_patterns_agree_with_all_patterns_and_never_give_zero() {
        let values: Vec<f64> = (0..16).map(|i| (f64::from(i) * 1.7).sin() + 0.4).collect();
        let clusters: Vec<usize> = (0..16).collect();
        let exact = design(&clusters, 0).compare(&values).p;
        // A seventeenth cluster without a difference changes no sum.
        let sampled = design(&(0..17).collect::<Vec<_>>(), 3).compare(&[&values[..], &[0.0]].concat()).p;
        let error = (exact * (1.0 - exact) / FLIPS as f64).sqrt();
        assert!((exact - sampled).abs() < 4.0 * error, "{exact} and {sampled}, ±{error}");
        let certain = design(&(0..60).collect::<Vec<_>>(), 0).compare(&[1.0; 60]);
        assert_eq!(certain.p, 1.0 / (FLIPS + 1) as f64);
    }

    #[test]
    fn under_the_null_p_is_uniform_even_where_prompts_of_a_cluster_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for n_clusters in [10, 24] {
            let clusters: Vec<usize> = (0..4 * n_clusters).map(|i| i / 4).collect();
            let design = design(&clusters, 1);
            let trial = |rng: &mut ChaCha8Rng| {
                let own: Vec<f64> = (0..n_clusters).map(|_| rng.random_range(-1.0..1.0)).collect();
                let values: Vec<f64> =
                    clusters.iter().map(|&c| own[c] + rng.random_range(-0.1..0.1)).collect();
                design.compare(&values).p
            };
            let p: Vec<f64> = (0..1000).map(|_| trial(&mut rng)).collect();
            for level in [0.05, 0.25, 0.5, 0.75] {
                let share = p.iter().filter(|p| **p <= level).count() as f64 / 1000.0;
                // Four standard errors of a share of 1000.
                let allowed = 4.0 * (level * (1.0 - level) / 1000.0f64).sqrt();
                assert!(
                    (share - level).abs() < allowed,
                    "{n_clusters}: {share} of p-values are below {level}"
                );
            }
        }
    }

    #[test]
    fn the_mean_is_that_of_the_interval_elsewhere_bit_for_bit() {
        let clusters: Vec<usize> = (0..30).map(|i| i % 7).collect();
        let values: Vec<f64> = (0..30).map(|i| (f64::from(i) * 0.3).cos()).collect();
        let names = names(&clusters);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let design = Design::new(&names, 11);
        assert_eq!(design.mean(&values), mean_interval(&values, &names, 11));
        assert_eq!(design.compare(&values), Design::new(&names, 11).compare(&values));
        assert_eq!((design.n(), design.n_clusters()), (30, 7));
    }

    #[test]
    fn equivalence_is_that_of_two_t_tests() {
        let each: Vec<usize> = (0..5).collect();
        // Mean 0.02, standard error √(0.025 / 5) / … by hand: deviations −0.1 … 0.1 have variance 0.00625, error 0.0353553.
        let values = [-0.08, -0.03, 0.02, 0.07, 0.12];
        let p = design(&each, 0).equivalence(&values, 0.1).unwrap();
        // t = (0.02 − 0.1) / 0.0353553 = −2.2627 with 4 degrees of freedom.
        assert!((p - 0.043_212).abs() < 2e-5, "{p}");
        assert!(
            design(&each, 0).equivalence(&values, 0.02).unwrap() >= 0.5,
            "a mean on the margin is not within"
        );
        assert_eq!(design(&each, 0).equivalence(&[0.0; 5], 0.1), Some(0.0));
        assert_eq!(design(&each, 0).equivalence(&[0.2; 5], 0.1), Some(1.0));
        assert_eq!(design(&[0, 0, 0], 0).equivalence(&[0.0; 3], 0.1), None);
        // Prompts of one cluster count once: doubling every prompt changes nothing.
        let twice: Vec<usize> = (0..10).map(|i| i / 2).collect();
        let doubled: Vec<f64> = values.iter().flat_map(|&v| [v, v]).collect();
        assert!((design(&twice, 0).equivalence(&doubled, 0.1).unwrap() - p).abs() < 1e-12);
    }

    #[test]
    fn on_the_margin_equivalence_is_claimed_no_more_often_than_its_level() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let clusters: Vec<usize> = (0..24).map(|i| i / 3).collect();
        let design = design(&clusters, 1);
        let trial = |rng: &mut ChaCha8Rng| {
            let own: Vec<f64> = (0..8).map(|_| rng.random_range(-0.1..0.1)).collect();
            let values: Vec<f64> =
                clusters.iter().map(|&c| 0.1 + own[c] + rng.random_range(-0.1..0.1)).collect();
            design.equivalence(&values, 0.1).unwrap() <= 0.05
        };
        let claimed = (0..2000).filter(|_| trial(&mut rng)).count();
        // 100 expected; four standard errors.
        assert!((60..=140).contains(&claimed), "{claimed} of 2000");
    }

    /// The fifteen p-values of Benjamini & Hochberg (1995), section 4.1.
    #[test]
    fn adjusted_p_values_of_the_paper() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        let q = benjamini_hochberg(&p);
        let expected =
            [0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.0298 * 15.0 / 7.0, 0.0298 * 15.0 / 7.0, 0.0645];
        for (q, e) in q.iter().zip(expected) {
            assert!((q - e).abs() < 1e-12, "{q} {e}");
        }
        assert_eq!(q.iter().filter(|q| **q <= 0.05).count(), 4, "the paper rejects four at 0.05");
        let mut turned: Vec<f64> = p.iter().rev().copied().collect();
        turned = benjamini_hochberg(&turned);
        turned.reverse();
        assert_eq!(turned, q, "whatever the order");
        assert!(benjamini_hochberg(&[]).is_empty());
        assert_eq!(benjamini_hochberg(&[0.5, 0.5]), [0.5, 0.5]);
    }

    #[test]
    fn rank_correlation_is_that_of_ranks() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0, 1000.0, 1e4]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 1.0], &[3.0, 2.0]), None);
        // By hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
        let found = spearman(&[1.0, 2.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((found - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_bound_on_a_share_is_that_of_the_books() {
        // 1 − 0.05^(1/n) where none was seen.
        assert!((share_bound(0, 20) - (1.0 - 0.05f64.powf(0.05))).abs() < 1e-9);
        assert!((share_bound(1, 10) - 0.394_163).abs() < 1e-5);
        assert_eq!(share_bound(3, 3), 1.0);
    }

    #[test]
    fn the_interval_of_a_share_is_that_of_clopper_and_pearson() {
        let of = |k, n| share_interval(k, n).unwrap();
        // 1 − 0.025^(1/10), and R's binom.test(1, 10) and binom.test(40, 100).
        assert!((of(0, 10).hi - 0.308_497).abs() < 1e-6 && of(0, 10).lo == 0.0);
        assert!((of(10, 10).lo - 0.691_503).abs() < 1e-6 && of(10, 10).hi == 1.0);
        assert!((of(1, 10).lo - 0.002_529).abs() < 1e-6 && (of(1, 10).hi - 0.445_016).abs() < 1e-6);
        assert!((of(40, 100).lo - 0.303_295).abs() < 1e-6 && (of(40, 100).hi - 0.502_791).abs() < 1e-6);
        assert_eq!(share_interval(0, 0), None);
    }
}
