//! Random circuits: the null against which a circuit has to stand.

use super::prompts::shuffle;
use crate::interventions::{PlaceKind, Unit};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Simulated pairs of random circuits per overlap.
pub(super) const SIMULATIONS: usize = 10_000;

/// Draws random circuits with as many heads and as many MLPs as a given one.
pub(super) struct Random {
    heads: Vec<Unit>,
    others: Vec<Unit>,
    rng: ChaCha8Rng,
}

impl Random {
    pub fn new(components: &[Unit], seed: u64, stream: u64) -> Self {
        let (heads, others) = components.iter().partition(|u| matches!(u.kind, PlaceKind::Head(_)));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { heads, others, rng }
    }

    /// A random circuit like `circuit`.
    pub fn like(&mut self, circuit: &[Unit]) -> Vec<Unit> {
        let n_heads = circuit.iter().filter(|u| matches!(u.kind, PlaceKind::Head(_))).count();
        shuffle(&mut self.heads, &mut self.rng);
        shuffle(&mut self.others, &mut self.rng);
        let mut drawn: Vec<Unit> = self.heads[..n_heads.min(self.heads.len())].to_vec();
        drawn.extend(&self.others[..(circuit.len() - n_heads).min(self.others.len())]);
        drawn.sort_unstable();
        drawn
    }

    /// All components in random order.
    pub fn order(&mut self) -> Vec<Unit> {
        let mut all: Vec<Unit> = self.heads.iter().chain(&self.others).copied().collect();
        all.sort_unstable();
        shuffle(&mut all, &mut self.rng);
        all
    }

    /// Overlap of two circuits: (index, mean of random pairs, share of random pairs that overlap at least as much).
    pub fn overlap(&mut self, one: &[Unit], other: &[Unit]) -> (f64, f64, f64) {
        let found = jaccard(one, other);
        let (mut sum, mut as_large) = (0.0, 1usize);
        for _ in 0..SIMULATIONS {
            let random = jaccard(&self.like(one), &self.like(other));
            sum += random;
            as_large += usize::from(random >= found);
        }
        (found, sum / SIMULATIONS as f64, as_large as f64 / (SIMULATIONS + 1) as f64)
    }
}

/// Members of both over members of either; 0 for two empty circuits.
pub(super) fn jaccard(one: &[Unit], other: &[Unit]) -> f64 {
    let (one, other): (BTreeSet<&Unit>, BTreeSet<&Unit>) = (one.iter().collect(), other.iter().collect());
    let either = one.union(&other).count();
    if either == 0 { 0.0 } else { one.intersection(&other).count() as f64 / either as f64 }
}

/// Mean, 2.5th and 97.5th percentile.
pub(super) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    (values.iter().sum::<f64>() / values.len() as f64, at(0.025), at(0.975))
}

/// Share of random values that are at least as large as what was found, which is counted in (Phipson & Smyth 2010).
pub(super) fn p_value(found: f64, random: &[f64]) -> f64 {
    let as_large = random.iter().filter(|&&r| r >= found).count();
    (as_large + 1) as f64 / (random.len() + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorascope_engine::Site;

    fn components() -> Vec<Unit> {
        let unit = |kind, layer, index| Unit { layer, kind, index };
        let heads = (0..10).flat_map(|l| (0..4).map(move |h| unit(PlaceKind::Head(Site::Result), l, h)));
        heads.chain((0..10).map(|l| unit(PlaceKind::Whole(Site::MlpOut), l, 0))).collect()
    }

    #[test]
    fn random_circuits_have_as_many_heads_and_mlps() {
        let all = components();
        let circuit = [all[3], all[17], all[44]];
        let mut random = Random::new(&all, 5, 0);
        for _ in 0..50 {
            let drawn = random.like(&circuit);
            let heads = drawn.iter().filter(|u| matches!(u.kind, PlaceKind::Head(_))).count();
            assert_eq!((drawn.len(), heads), (3, 2));
            assert!(drawn.windows(2).all(|w| w[0] < w[1]), "no component twice");
        }
        assert_eq!(Random::new(&all, 5, 0).like(&circuit), Random::new(&all, 5, 0).like(&circuit));
    }

    #[test]
    fn overlap_is_judged_against_chance() {
        let all = components();
        let mut random = Random::new(&all, 1, 0);
        let (one, other) = (&all[..8], &all[4..12]);
        let (found, expected, p) = random.overlap(one, other);
        assert!((found - 4.0 / 12.0).abs() < 1e-12);
        // Hypergeometric, 8 draws with 8 of 40 marked: E[X / (16 − X)] = 0.1170, P(X >= 4) = 0.0365. Four standard errors.
        assert!((expected - 0.1170).abs() < 4.0 * 0.083 / 100.0, "{expected}");
        assert!((p - 0.0365).abs() < 4.0 * 0.0019, "{p}");
        assert!(random.overlap(one, one).2 < 0.001);
    }
}
