//! Means with bootstrap intervals, clustered by template.
//!
//! Resampled means of few clusters spread too little: their variance is short of the mean's by (C − 1)/C, and their tails are those
//! of a normal distribution where those of Student's are meant. The plain 95% percentile interval of C = 8 clusters misses the mean 11
//! times in 100. So the percentiles are moved outwards (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", the
//! expanded percentile interval): not 2.5% of the resamples lie below the interval but Φ(−√(C/(C−1))·t), with t the 97.5th percentile
//! of Student's t with C − 1 degrees of freedom. With 8 clusters or more of unequal sizes an interval then misses 5 to 7 times in 100, with
//! 5 about 8, with 4 about 12, with 3 or 2 so often that no resampling helps (`statistics/nulls.rs` measures it).

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use std::collections::BTreeMap;

/// A mean and its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean over all values.
    pub mean: f64,
    /// Lower end, a low percentile of the resampled means; equal to the mean where there is only one cluster.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

/// Share of the resamples of so many clusters that lies beyond each end of a 95% interval.
pub fn tail(n_clusters: usize) -> f64 {
    let c = n_clusters as f64;
    let student = StudentsT::new(0.0, 1.0, c - 1.0).map(|t| t.inverse_cdf(0.975));
    match (student, Normal::new(0.0, 1.0)) {
        (Ok(t), Ok(normal)) if n_clusters > 1 => normal.cdf(-(c / (c - 1.0)).sqrt() * t),
        // One cluster is never resampled.
        _ => 0.025,
    }
}

/// The ends of an interval with this [`tail`], from resamples, whose order it changes; `None` where there are none.
pub fn ends(resamples: &mut [f64], tail: f64) -> Option<(f64, f64)> {
    let last = resamples.len().checked_sub(1)? as f64;
    // Two of them are wanted, so they are not sorted as a whole.
    let mut at = |q: f64| *resamples.select_nth_unstable_by((last * q).round() as usize, f64::total_cmp).1;
    Some((at(tail), at(1.0 - tail)))
}

/// Resamples per interval.
pub const RESAMPLES: usize = 2000;

/// The mean of `values` with a 95% interval from resampling whole clusters (Davison & Hinkley 1997, section 3.8): prompts
/// made from one template are not independent. Same values, clusters and seed give the same interval, bit for bit.
///
/// An empty slice has no mean: NaN.
pub fn mean_interval(values: &[f64], clusters: &[&str], seed: u64) -> Interval {
    Resampler::new(clusters, seed).mean(values)
}

/// Draws of clusters, made once for many quantities over the same prompts.
#[derive(Debug)]
pub struct Resampler {
    /// The cluster of each value.
    cluster_of: Vec<usize>,
    n_clusters: usize,
    /// How often each cluster was drawn: `[draw][cluster]`; empty where there is only one cluster.
    draws: Vec<Vec<u32>>,
    /// The same, `[cluster][draw]`: sums of many draws are taken side by side.
    times: Vec<Vec<u32>>,
    /// Number of values of each draw.
    sizes: Vec<f64>,
    /// Share of the resamples beyond each end of an interval.
    tail: f64,
}

impl Resampler {
    /// Draws for values that belong to these clusters.
    pub fn new(clusters: &[&str], seed: u64) -> Self {
        let names: std::collections::BTreeSet<&str> = clusters.iter().copied().collect();
        let index: BTreeMap<&str, usize> = names.into_iter().enumerate().map(|(i, c)| (c, i)).collect();
        let n = index.len();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            let mut times = vec![0; n];
            (0..n).for_each(|_| times[rng.random_range(0..n)] += 1);
            times
        };
        let draws = if n < 2 { Vec::new() } else { (0..RESAMPLES).map(|_| draw()).collect() };
        Self::of(clusters.iter().map(|c| index[c]).collect(), n, draws, tail(n))
    }

    fn of(cluster_of: Vec<usize>, n_clusters: usize, draws: Vec<Vec<u32>>, tail: f64) -> Self {
        let times = (0..n_clusters).map(|c| draws.iter().map(|times| times[c]).collect()).collect();
        let mut all = Self { cluster_of, n_clusters, draws, times, sizes: Vec::new(), tail };
        all.sizes = all.resampled(&all.sums(&vec![1.0; all.n()]));
        all
    }

    /// For tests: with these draws and this [`tail`].
    #[cfg(test)]
    pub fn given(cluster_of: Vec<usize>, draws: Vec<Vec<u32>>, tail: f64) -> Self {
        Self::of(cluster_of, draws.first().map_or(0, Vec::len), draws, tail)
    }

    /// Number of clusters.
    pub fn n_clusters(&self) -> usize {
        self.n_clusters
    }

    /// Number of prompts.
    pub fn n(&self) -> usize {
        self.cluster_of.len()
    }

    /// The cluster of each prompt, as a number from 0.
    pub fn cluster_of(&self) -> &[usize] {
        &self.cluster_of
    }

    /// How often each cluster is drawn: `[resample][cluster]`. Nothing where there is only one.
    pub fn draws(&self) -> &[Vec<u32>] {
        &self.draws
    }

    /// How often each prompt is drawn in the first `n` resamples: `[resample][prompt]`. Nothing where there is only one cluster.
    pub fn first_draws(&self, n: usize) -> Vec<Vec<u32>> {
        let of_draw = |times: &Vec<u32>| self.cluster_of.iter().map(|&c| times[c]).collect();
        self.draws.iter().take(n).map(of_draw).collect()
    }

    /// Sum of one value per prompt, by cluster.
    pub fn sums(&self, values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_clusters];
        self.cluster_of.iter().zip(values).for_each(|(&c, v)| sums[c] += v);
        sums
    }

    /// Sums of each draw, from those of the clusters.
    fn resampled(&self, sums: &[f64]) -> Vec<f64> {
        let mut resampled = vec![0.0; self.draws.len()];
        for (times, sum) in self.times.iter().zip(sums) {
            for (total, &t) in resampled.iter_mut().zip(times) {
                *total += f64::from(t) * sum;
            }
        }
        resampled
    }

    /// Mean of one value per prompt, with its interval.
    pub fn mean(&self, values: &[f64]) -> Interval {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        self.interval(mean, self.resampled(&self.sums(values)), &self.sizes)
    }

    /// `Σ over / Σ under` with its interval; both belong to the same prompts.
    pub fn ratio(&self, over: &[f64], under: &[f64]) -> Interval {
        let mean = over.iter().sum::<f64>() / under.iter().sum::<f64>();
        self.interval(mean, self.resampled(&self.sums(over)), &self.resampled(&self.sums(under)))
    }

    /// The interval of a ratio whose resamples are these.
    fn interval(&self, mean: f64, mut over: Vec<f64>, under: &[f64]) -> Interval {
        over.iter_mut().zip(under).for_each(|(o, u)| *o /= u);
        let (lo, hi) = ends(&mut over, self.tail).unwrap_or((mean, mean));
        Interval { mean, lo, hi }
    }

    /// A statistic of sums, with its interval: `values[k]` holds one value per prompt, and `of` is given the sums over all
    /// prompts, one for each `k`. Resamples on which the statistic is undefined (NaN) are passed over; `None` where it is
    /// undefined on the data themselves.
    ///
    /// # Panics
    /// If there is not one value per prompt.
    pub fn statistic(&self, values: &[&[f64]], of: impl Fn(&[f64]) -> f64) -> Option<Interval> {
        let sums: Vec<Vec<f64>> = values
            .iter()
            .map(|values| {
                assert_eq!(values.len(), self.n(), "one value per prompt");
                self.sums(values)
            })
            .collect();
        let totals: Vec<f64> = values.iter().map(|values| values.iter().sum()).collect();
        let mean = of(&totals);
        if mean.is_nan() {
            return None;
        }
        let resampled: Vec<Vec<f64>> = sums.iter().map(|sums| self.resampled(sums)).collect();
        let of_draw = |draw: usize| of(&resampled.iter().map(|sums| sums[draw]).collect::<Vec<f64>>());
        let mut found: Vec<f64> = (0..self.draws.len()).map(of_draw).filter(|v| !v.is_nan()).collect();
        let (lo, hi) = ends(&mut found, self.tail).unwrap_or((mean, mean));
        Some(Interval { mean, lo, hi })
    }
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
    fn draws_are_of_whole_clusters() {
        let resampler = Resampler::new(&["a", "b", "a", "c", "b"], 4);
        let draws = resampler.first_draws(50);
        assert_eq!(draws.len(), 50);
        for draw in &draws {
            assert_eq!((draw[0], draw[1]), (draw[2], draw[4]));
            assert_eq!(draw[0] + draw[1] + draw[3], 3, "as many clusters as there are");
        }
        assert!(draws.iter().any(|draw| *draw != draws[0]));
        // The same draws as the intervals'.
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        let mean = |draw: &Vec<u32>| {
            let of = |values: &[f64]| draw.iter().zip(values).map(|(&t, v)| f64::from(t) * v).sum::<f64>();
            of(&values) / of(&[1.0; 5])
        };
        let mut means: Vec<f64> = resampler.first_draws(RESAMPLES).iter().map(mean).collect();
        means.sort_by(f64::total_cmp);
        let interval = resampler.mean(&values);
        // Three clusters: all resamples are within.
        assert!((means[0] - interval.lo).abs() < 1e-12 && (means[1999] - interval.hi).abs() < 1e-12);
        assert!(Resampler::new(&["a", "a"], 4).first_draws(50).is_empty());
    }

    /// Percentiles from scipy: `norm.cdf(-sqrt(C / (C - 1)) * t.ppf(0.975, C - 1))`.
    #[test]
    fn fewer_clusters_leave_less_beyond_the_ends() {
        for (c, expected) in [
            (5, 0.000_954_100_551_882_490_7),
            (8, 0.005_737_520_517_029_977),
            (16, 0.013_855_570_404_766_664),
            (32, 0.019_125_832_963_475_81),
        ] {
            assert!((tail(c) - expected).abs() < 1e-9, "{c}: {}", tail(c));
        }
        assert!(tail(2) < 1e-12 && (tail(100_000) - 0.025).abs() < 1e-5);
        assert_eq!(ends(&mut [3.0, 5.0, 2.0, 1.0, 4.0], 0.25), Some((2.0, 4.0)));
        assert_eq!((ends(&mut [2.0, 1.0], 0.0), ends(&mut [], 0.025)), (Some((1.0, 2.0)), None));
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

    #[test]
    fn a_statistic_of_sums_is_the_ratio_and_passes_over_undefined_resamples() {
        let over = [1.0, 2.0, 0.0, 4.0];
        let under = [2.0, 2.0, 1.0, 4.0];
        let resampler = Resampler::new(&["a", "b", "c", "d"], 5);
        let ratio = |s: &[f64]| s[0] / s[1];
        assert_eq!(resampler.statistic(&[&over, &under], ratio), Some(resampler.ratio(&over, &under)));
        // 0/0 wherever the last prompt is not drawn; else 1.
        let only_last = [0.0, 0.0, 0.0, 1.0];
        let certain = resampler.statistic(&[&only_last, &only_last], ratio);
        assert_eq!(certain, Some(Interval { mean: 1.0, lo: 1.0, hi: 1.0 }));
        assert_eq!(resampler.statistic(&[&[0.0; 4], &[0.0; 4]], ratio), None);
        let alone = Resampler::new(&["a", "a"], 0).statistic(&[&[1.0, 3.0]], |s| s[0]);
        assert_eq!(alone, Some(Interval { mean: 4.0, lo: 4.0, hi: 4.0 }));
    }
}
