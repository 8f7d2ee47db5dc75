//! Are answers as frequent as their probabilities say?

use super::Settings;
use super::tables::{BINS, TESTS};
use crate::context::Context;
use crate::error::Result;
use crate::statistics::{benjamini_hochberg, share_interval};
use lorascope_record::Table;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::function::gamma::ln_gamma;

/// Draws from the null of a test.
pub(super) const NULLS: usize = 4999;
/// Probabilities are held this far from 0 and 1: f32 logits can't tell them from certainty long before.
const CERTAIN: f64 = 1e-12;

/// `k` of `n` draws, each with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    pub k: u64,
    pub n: u64,
    pub p: f64,
}

impl Counted {
    pub fn new(k: u64, n: u64, p: f64) -> Self {
        Self { k, n, p: p.clamp(CERTAIN, 1.0 - CERTAIN) }
    }

    /// Twice the log-likelihood ratio of the frequency against the probability.
    fn deviance(&self) -> f64 {
        let (n, k) = (self.n as f64, self.k as f64);
        let term = |seen: f64, expected: f64| if seen > 0.0 { seen * (seen / expected).ln() } else { 0.0 };
        2.0 * (term(k, n * self.p) + term(n - k, n * (1.0 - self.p)))
    }

    /// Probability of each number of successes, cumulated.
    fn cumulated(&self) -> Vec<f64> {
        let n = self.n as f64;
        let (yes, no) = (self.p.ln(), (-self.p).ln_1p());
        let mut sum = 0.0;
        (0..=self.n)
            .map(|k| {
                let k = k as f64;
                let ways = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
                sum += (ways + k * yes + (n - k) * no).exp();
                sum
            })
            .collect()
    }
}

/// A goodness-of-fit test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    pub deviance: f64,
    /// Mean under the null.
    pub expected: f64,
    pub p: f64,
}

/// The deviance of all counts against `nulls` draws from their binomial distributions, the observed one counted in.
pub(super) fn fit(counts: &[Counted], seed: u64, nulls: usize) -> Fit {
    let deviance: f64 = counts.iter().map(Counted::deviance).sum();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Apart from the streams of bootstrap and sign flips.
    rng.set_stream(2);
    let mut null = vec![0.0; nulls];
    for counted in counts.iter().filter(|c| c.n > 0) {
        let cumulated = counted.cumulated();
        let total = cumulated.last().copied().unwrap_or(1.0);
        let of_k: Vec<f64> = (0..=counted.n).map(|k| Counted { k, ..*counted }.deviance()).collect();
        for sum in &mut null {
            let u = rng.random_range(0.0..1.0) * total;
            let k = cumulated.partition_point(|&c| c <= u).min(of_k.len() - 1);
            *sum += of_k[k];
        }
    }
    // Sums that tie in exact arithmetic differ by rounding.
    let bound = deviance - 1e-9 * deviance.max(1.0);
    let extreme = null.iter().filter(|d| **d >= bound).count();
    Fit {
        deviance,
        expected: null.iter().sum::<f64>() / nulls as f64,
        p: (extreme + 1) as f64 / (nulls + 1) as f64,
    }
}

/// What was drawn of one model.
struct Drawn {
    /// B among draws of either answer.
    b: Vec<Counted>,
    /// Either answer among all draws.
    legal: Vec<Counted>,
}

fn drawn(samples: &Table, model: &str) -> Result<Drawn> {
    let ints = |column| -> Result<Vec<u64>> {
        Ok(samples.ints(column)?.into_iter().map(|v| u64::try_from(v).unwrap_or(0)).collect())
    };
    let (a, b, draws) = (ints("a")?, ints("b")?, ints("draws")?);
    let (p_b, legal) = (samples.floats("p_b")?, samples.floats("legal_mass")?);
    let models = samples.texts("model")?;
    let own: Vec<usize> = (0..models.len()).filter(|&r| models[r] == model).collect();
    Ok(Drawn {
        b: own.iter().map(|&r| Counted::new(b[r], a[r] + b[r], p_b[r])).collect(),
        legal: own.iter().map(|&r| Counted::new(a[r] + b[r], draws[r], legal[r])).collect(),
    })
}

/// The tests of all models, and the bins.
pub(super) fn calibration(context: &Context, settings: &Settings, samples: &Table) -> Result<(Table, Table)> {
    let names = context.subject.model.names();
    let (mut tests, mut bins) = (Table::new(&TESTS), Table::new(&BINS));
    let mut found = Vec::new();
    for &name in &names {
        let drawn = drawn(samples, name)?;
        in_bins(&mut bins, name, &drawn.b, settings.bins)?;
        for (of, counts) in [("p_b", drawn.b), ("legal_mass", drawn.legal)] {
            let fit = fit(&counts, context.seed, NULLS);
            found.push((name, of, counts, fit));
        }
    }
    let q = benjamini_hochberg(&found.iter().map(|f| f.3.p).collect::<Vec<_>>());
    for ((name, of, counts, fit), q) in found.into_iter().zip(q) {
        let (k, n) = counts.iter().fold((0, 0), |(k, n), c| (k + c.k, n + c.n));
        let observed = share_interval(k, n);
        let expected = counts.iter().map(|c| c.n as f64 * c.p).sum::<f64>() / n as f64;
        tests.push(&[
            name.into(),
            of.into(),
            counts.iter().filter(|c| c.n > 0).count().into(),
            n.into(),
            observed.map(|o| o.mean).into(),
            (n > 0).then_some(expected).into(),
            observed.map(|o| o.lo).into(),
            observed.map(|o| o.hi).into(),
            fit.deviance.into(),
            fit.expected.into(),
            fit.p.into(),
            q.into(),
        ])?;
    }
    tests.sort_by_keys();
    bins.sort_by_keys();
    Ok((tests, bins))
}

fn in_bins(table: &mut Table, model: &str, counts: &[Counted], n_bins: usize) -> Result<()> {
    for bin in 0..n_bins {
        let of = |c: &&Counted| ((c.p * n_bins as f64) as usize).min(n_bins - 1) == bin && c.n > 0;
        let own: Vec<&Counted> = counts.iter().filter(of).collect();
        let (k, n) = own.iter().fold((0, 0), |(k, n), c| (k + c.k, n + c.n));
        let Some(observed) = share_interval(k, n) else { continue };
        let p = own.iter().map(|c| c.n as f64 * c.p).sum::<f64>() / n as f64;
        table.push(&[
            model.into(),
            bin.into(),
            own.len().into(),
            n.into(),
            k.into(),
            (bin as f64 / n_bins as f64).into(),
            ((bin + 1) as f64 / n_bins as f64).into(),
            p.into(),
            observed.mean.into(),
            observed.lo.into(),
            observed.hi.into(),
        ])?;
    }
    Ok(())
}
