//! Correlations of signed contributions within scenario and template, with a permutation null, and how they differ between two
//! models.
//!
//! Null of one correlation: the contributions of one component are as likely to go with those of the other on any prompt of the
//! scenario. Where every scenario has every template, whole templates are exchanged, the same way in all scenarios, so that what
//! prompts of a template share stays together; else prompts within their scenario, and means of templates are removed again.
//! One permutation serves all pairs.
//!
//! A difference `r − r'` of two models on the same prompts is tested on its influence values `D + IF_t − IF'_t` with `IF_t = z_i z_j − r/2
//! (z_i² + z_j²)`, whose mean is the difference: whole templates change their sign.

use super::centre::Groups;
use crate::bootstrap::{Interval, Resampler};
use crate::statistics::{Comparison, Design};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Centred contributions of some components of one model, scaled to a mean square of 1: `[component][prompt]`. Components that do
/// not vary are zero.
pub(super) struct Standard(pub Vec<Vec<f64>>);

impl Standard {
    pub fn new(groups: &Groups, values: &[Vec<f64>]) -> Self {
        let one = |values: &Vec<f64>| {
            let mut centred = values.clone();
            groups.centre(&mut centred);
            let size = (centred.iter().map(|v| v * v).sum::<f64>() / centred.len() as f64).sqrt();
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            // Nothing but rounding is left of what does not vary.
            let scale = if size > 1e-9 * largest { 1.0 / size } else { 0.0 };
            centred.iter_mut().for_each(|v| *v *= scale);
            centred
        };
        Self(values.iter().map(one).collect())
    }

    fn varies(&self, i: usize) -> bool {
        self.0[i].iter().any(|v| *v != 0.0)
    }

    /// r of a pair; `None` where one of the two does not vary.
    pub fn r(&self, (i, j): (usize, usize)) -> Option<f64> {
        let products = self.0[i].iter().zip(&self.0[j]).map(|(a, b)| a * b);
        (self.varies(i) && self.varies(j)).then(|| products.sum::<f64>() / self.0[i].len() as f64)
    }

    /// r with its bootstrap interval over templates; means are those of the whole sample.
    pub fn interval(&self, (i, j): (usize, usize), resampler: &Resampler) -> Option<Interval> {
        let (a, b) = (&self.0[i], &self.0[j]);
        let product = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
        let r = |s: &[f64]| s[0] / (s[1] * s[2]).sqrt();
        resampler.statistic(&[&product(a, b), &product(a, a), &product(b, b)], r)
    }

    /// For each prompt how far it moves r of a pair: mean 0.
    fn influence(&self, (i, j): (usize, usize), r: f64) -> impl Iterator<Item = f64> + '_ {
        self.0[i].iter().zip(&self.0[j]).map(move |(a, b)| a * b - r / 2.0 * (a * a + b * b))
    }

    /// Comparison of r of a pair with that of another model over the same prompts.
    pub fn compare(
        &self,
        other: &Self,
        pair: (usize, usize),
        design: &Design,
    ) -> Option<(f64, f64, Comparison)> {
        let (r, base) = (self.r(pair)?, other.r(pair)?);
        let both = self.influence(pair, r).zip(other.influence(pair, base));
        let differences: Vec<f64> = both.map(|(own, other)| (r - base) + (own - other)).collect();
        Some((r, base, design.compare(&differences)))
    }

    /// Two-sided permutation p-values of all pairs.
    pub fn permutation(&self, groups: &Groups, pairs: &[(usize, usize)], n: usize, seed: u64) -> Vec<f64> {
        let (k, prompts) = (self.0.len(), groups.n());
        // Prompt by prompt, so that a permuted row meets all components at once.
        let rows: Vec<f64> = (0..prompts).flat_map(|t| self.0.iter().map(move |c| c[t])).collect();
        let observed: Vec<f64> = pairs.iter().map(|&p| self.r(p).unwrap_or_default().abs()).collect();
        let one = |permutation: usize| -> Vec<u32> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(permutation as u64);
            let order = shuffled(groups, &mut rng);
            let norms = self.norms(groups, &order);
            let mut products = vec![0.0f64; k * k];
            for (t, &from) in order.iter().enumerate() {
                let row = &rows[t * k..(t + 1) * k];
                for (i, products) in products.chunks_exact_mut(k).enumerate() {
                    let a = rows[from * k + i];
                    products.iter_mut().zip(row).for_each(|(p, b)| *p += a * b);
                }
            }
            // Permutations that tie in exact arithmetic differ by rounding.
            let reaches = |(&(i, j), &seen): (&(usize, usize), &f64)| {
                let r = if norms[i] > 0.0 { products[i * k + j] / (prompts as f64 * norms[i]) } else { 0.0 };
                u32::from(r.abs() >= seen - 1e-12)
            };
            pairs.iter().zip(&observed).map(reaches).collect()
        };
        let zero = || vec![0u32; pairs.len()];
        let add = |mut a: Vec<u32>, b: Vec<u32>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let reached = (0..n).into_par_iter().map(one).reduce(zero, add);
        reached.into_iter().map(|count| f64::from(count + 1) / (n + 1) as f64).collect()
    }

    /// Root mean square of each permuted component after means are removed again; the other of a pair is centred, so that its
    /// product with the permuted one needs no centring.
    fn norms(&self, groups: &Groups, order: &[usize]) -> Vec<f64> {
        if groups.grid().is_some() || !groups.centres_templates() {
            return (0..self.0.len()).map(|i| f64::from(u8::from(self.varies(i)))).collect();
        }
        let norm = |values: &Vec<f64>| {
            let mut permuted: Vec<f64> = order.iter().map(|&from| values[from]).collect();
            groups.centre(&mut permuted);
            (permuted.iter().map(|v| v * v).sum::<f64>() / permuted.len() as f64).sqrt()
        };
        self.0.iter().map(norm).collect()
    }
}

/// For each prompt another one to take its place.
fn shuffled(groups: &Groups, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..groups.n()).collect();
    if let Some(grid) = groups.grid() {
        let mut templates: Vec<usize> = (0..grid.first().map_or(0, Vec::len)).collect();
        templates.shuffle(rng);
        for row in grid {
            row.iter().zip(&templates).for_each(|(&prompt, &t)| order[prompt] = row[t]);
        }
        return order;
    }
    let n = groups.scenarios().iter().max().map_or(0, |m| m + 1);
    for scenario in 0..n {
        let prompts: Vec<usize> = (0..groups.n()).filter(|&p| groups.scenarios()[p] == scenario).collect();
        let mut others = prompts.clone();
        others.shuffle(rng);
        prompts.into_iter().zip(others).for_each(|(p, o)| order[p] = o);
    }
    order
}

/// All pairs of `n` things.
pub(super) fn pairs(n: usize) -> Vec<(usize, usize)> {
    (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::benjamini_hochberg;
    use rand::RngExt;

    /// 5 scenarios with `templates` forms each, as a complete grid or with templates of a few prompts.
    fn names(templates: usize, is_grid: bool) -> (Vec<String>, Vec<String>) {
        let scenario = |i: usize| format!("s{}", i / templates);
        let template = |i: usize| if is_grid { format!("t{}", i % templates) } else { format!("t{}", i / 3) };
        ((0..5 * templates).map(scenario).collect(), (0..5 * templates).map(template).collect())
    }

    fn groups(names: &(Vec<String>, Vec<String>)) -> Groups {
        let scenarios: Vec<&str> = names.0.iter().map(String::as_str).collect();
        let templates: Vec<&str> = names.1.iter().map(String::as_str).collect();
        Groups::new(&scenarios, &templates)
    }

    /// Independent components with effects of scenario and template.
    fn independent(n: usize, k: usize, is_grid: bool, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let template = |t: usize| if is_grid { t % (n / 5) } else { t / 3 };
        let one = |rng: &mut ChaCha8Rng| -> Vec<f64> {
            let (a, b) = (rng.random_range(-5.0..5.0), rng.random_range(-3.0..3.0));
            let effects = |t: usize| a * (t / (n / 5)) as f64 + b * (template(t) % 7) as f64;
            (0..n).map(|t| effects(t) + rng.random_range(-1.0..1.0)).collect()
        };
        (0..k).map(|_| one(rng)).collect()
    }

    #[test]
    fn independent_contributions_are_rejected_no_more_often_than_the_level() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for is_grid in [true, false] {
            let groups = groups(&names(24, is_grid));
            assert_eq!(groups.grid().is_some(), is_grid);
            let (mut below, mut all, mut found) = (0, 0, 0);
            for trial in 0..40 {
                let values = independent(groups.n(), 6, is_grid, &mut rng);
                let standard = Standard::new(&groups, &values);
                let p = standard.permutation(&groups, &pairs(6), 399, trial);
                below += p.iter().filter(|p| **p <= 0.05).count();
                all += p.len();
                found += usize::from(benjamini_hochberg(&p).iter().any(|q| *q <= 0.05));
            }
            // 30 of 600 expected, dependent within a trial; 2 of 40 trials with a false discovery.
            assert!((10..=55).contains(&below), "grid {is_grid}: {below} of {all} p-values are below 0.05");
            assert!(found <= 7, "grid {is_grid}: false discoveries in {found} of 40 trials");
        }
    }

    #[test]
    fn a_planted_pair_is_found_and_only_that() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let groups = groups(&names(60, true));
        let mut values = independent(groups.n(), 8, true, &mut rng);
        values[5] = (0..groups.n()).map(|t| -0.5 * values[2][t] + rng.random_range(-0.5..0.5)).collect();
        let standard = Standard::new(&groups, &values);
        let pairs = pairs(8);
        let q = benjamini_hochberg(&standard.permutation(&groups, &pairs, 1999, 1));
        let found: Vec<_> = pairs.iter().zip(&q).filter(|(_, q)| **q <= 0.05).map(|(p, _)| *p).collect();
        assert_eq!(found, [(2, 5)]);
        assert!(standard.r((2, 5)).unwrap_or_default() < -0.5);
        assert_eq!(
            standard.permutation(&groups, &pairs, 99, 1),
            standard.permutation(&groups, &pairs, 99, 1)
        );
    }

    #[test]
    fn correlations_differ_where_they_do_and_not_with_themselves() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let names = names(60, true);
        let groups = groups(&names);
        let templates: Vec<&str> = names.1.iter().map(String::as_str).collect();
        let design = Design::new(&templates, 0);
        let one = independent(groups.n(), 5, true, &mut rng);
        let mut other = one.clone();
        // Another scale and other means change nothing; another sign does.
        other[0].iter_mut().for_each(|v| *v = 3.0 * *v + 1.0);
        other[3] = (0..groups.n()).map(|t| one[1][t] + rng.random_range(-0.3..0.3)).collect();
        let (one, other) = (Standard::new(&groups, &one), Standard::new(&groups, &other));
        let found: Vec<((usize, usize), Comparison)> = pairs(5)
            .into_iter()
            .map(|p| (p, other.compare(&one, p, &design).expect("both vary").2))
            .collect();
        let q = benjamini_hochberg(&found.iter().map(|f| f.1.p).collect::<Vec<_>>());
        let different: Vec<_> = found.iter().zip(&q).filter(|(_, q)| **q <= 0.05).map(|(f, _)| f.0).collect();
        assert_eq!(different, [(1, 3)]);
        for pair in pairs(5) {
            let (r, base, nothing) = one.compare(&one, pair, &design).expect("both vary");
            assert_eq!((r - base, nothing.mean.mean, nothing.p), (0.0, 0.0, 1.0));
        }
    }
}
