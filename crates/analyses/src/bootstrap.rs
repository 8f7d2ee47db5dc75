//! Means with bootstrap intervals, clustered by template.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A mean and its 95% percentile interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean over all values.
    pub mean: f64,
    /// 2.5th percentile of the resampled means; equal to the mean where there is only one cluster.
    pub lo: f64,
    /// 97.5th percentile.
    pub hi: f64,
}

/// Resamples per interval.
pub(crate) const RESAMPLES: usize = 2000;

/// The mean of `values` with a 95% interval from resampling whole clusters (Davison & Hinkley 1997, section 3.8): prompts
/// made from one template are not independent. Same values, clusters and seed give the same interval, bit for bit.
///
/// An empty slice has no mean: NaN.
pub fn mean_interval(values: &[f64], clusters: &[&str], seed: u64) -> Interval {
    let mut by_cluster: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (v, c) in values.iter().zip(clusters) {
        let sum = by_cluster.entry(c).or_default();
        *sum = (sum.0 + v, sum.1 + 1);
    }
    let sums: Vec<(f64, usize)> = by_cluster.into_values().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    if sums.len() < 2 {
        return Interval { mean, lo: mean, hi: mean };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = || {
        let picked = (0..sums.len()).map(|_| sums[rng.random_range(0..sums.len())]);
        let (sum, n) = picked.fold((0.0, 0), |(s, n), (cs, cn)| (s + cs, n + cn));
        sum / n as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    let at = |q: f64| means[((RESAMPLES - 1) as f64 * q).round() as usize];
    Interval { mean, lo: at(0.025), hi: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_true_mean_about_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let names: Vec<String> = (0..40).map(|i| format!("t{}", i / 2)).collect();
        let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut covered = 0;
        for trial in 0..200 {
            // Both members of a cluster share most of their value, as prompts of one template do.
            let effects: Vec<f64> = (0..20).map(|_| rng.random_range(-1.0..1.0)).collect();
            let values: Vec<f64> = (0..40).map(|i| effects[i / 2] + rng.random_range(-0.1..0.1)).collect();
            let interval = mean_interval(&values, &clusters, trial);
            covered += usize::from(interval.lo <= 0.0 && 0.0 <= interval.hi);
        }
        assert!((176..=199).contains(&covered), "{covered} of 200 intervals cover the mean");
    }

    #[test]
    fn one_cluster_has_no_spread_and_seeds_decide() {
        let values = [0.0, 1.0, 2.0, 5.0];
        assert_eq!(mean_interval(&values, &["a"; 4], 0), Interval { mean: 2.0, lo: 2.0, hi: 2.0 });
        let clusters = ["a", "b", "c", "d"];
        assert_eq!(mean_interval(&values, &clusters, 7), mean_interval(&values, &clusters, 7));
        let interval = mean_interval(&values, &clusters, 7);
        assert!(interval.lo < 2.0 && interval.hi > 2.0);
    }
}
