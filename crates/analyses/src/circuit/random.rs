//! Random circuits: the null against which a circuit has to stand.

use super::prompts::shuffle;
use crate::interventions::{PlaceKind, Unit};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Simulated pairs of random circuits per overlap of two.
const PAIR_SIMULATIONS: usize = 10_000;
/// Simulated sets of random circuits per overlap of many.
const SET_SIMULATIONS: usize = 1000;

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

    /// Overlap of circuits, averaged over all pairs of them, against as many random ones like them. `None` where all are
    /// empty, or there are fewer than two.
    pub fn overlap(&mut self, circuits: &[&[Unit]]) -> Option<Overlap> {
        let found = mean_jaccard(circuits)?;
        let simulations = if circuits.len() == 2 { PAIR_SIMULATIONS } else { SET_SIMULATIONS };
        let (mut sum, mut as_large) = (0.0, 1usize);
        for _ in 0..simulations {
            let random: Vec<Vec<Unit>> = circuits.iter().map(|circuit| self.like(circuit)).collect();
            // Random circuits are as large, so some pair of them has a member too.
            let random = mean_jaccard(&random.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap_or(0.0);
            sum += random;
            as_large += usize::from(random >= found);
        }
        let (expected, p) = (sum / simulations as f64, as_large as f64 / (simulations + 1) as f64);
        Some(Overlap { found, expected, p, simulations })
    }
}

/// Overlap of circuits against chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overlap {
    /// Jaccard index.
    pub found: f64,
    /// Its mean over random circuits.
    pub expected: f64,
    /// Share of random circuits that overlap at least as much, the found ones counted in.
    pub p: f64,
    pub simulations: usize,
}

/// Mean Jaccard index over all pairs of circuits; two empty ones have none.
fn mean_jaccard(circuits: &[&[Unit]]) -> Option<f64> {
    let pairs =
        circuits.iter().enumerate().flat_map(|(i, one)| circuits[i + 1..].iter().map(move |o| (one, o)));
    let indices: Vec<f64> = pairs.filter_map(|(one, other)| jaccard(one, other)).collect();
    (!indices.is_empty()).then(|| indices.iter().sum::<f64>() / indices.len() as f64)
}

/// Members of both over members of either; `None` for two empty circuits.
fn jaccard(one: &[Unit], other: &[Unit]) -> Option<f64> {
    let both = one.iter().filter(|unit| other.contains(unit)).count();
    let either = one.len() + other.len() - both;
    (either > 0).then(|| both as f64 / either as f64)
}

/// Mean, 2.5th and 97.5th percentile.
pub(crate) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    (values.iter().sum::<f64>() / values.len() as f64, at(0.025), at(0.975))
}

/// Share of random values that are at least as large as what was found, which is counted in (Phipson & Smyth 2010).
pub(crate) fn p_value(found: f64, random: &[f64]) -> f64 {
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
        let overlap = random.overlap(&[one, other]).unwrap();
        assert!((overlap.found - 4.0 / 12.0).abs() < 1e-12);
        // Hypergeometric, 8 draws with 8 of 40 marked: E[X / (16 − X)] = 0.1170, P(X >= 4) = 0.0365. Four standard errors.
        assert!((overlap.expected - 0.1170).abs() < 4.0 * 0.083 / 100.0, "{overlap:?}");
        assert!((overlap.p - 0.0365).abs() < 4.0 * 0.0019, "{overlap:?}");
        assert!(random.overlap(&[one, one]).unwrap().p < 0.001);
    }

    #[test]
    fn overlap_of_many_is_the_mean_over_pairs() {
        let all = components();
        let mut random = Random::new(&all, 1, 0);
        // 4/12, 0/16, 4/12.
        let overlap = random.overlap(&[&all[..8], &all[4..12], &all[8..16]]).unwrap();
        assert!((overlap.found - 2.0 / 9.0).abs() < 1e-12);
        // Each pair by itself is expected to overlap as above; standard deviation of a mean of three pairs at most that of one.
        assert!((overlap.expected - 0.1170).abs() < 4.0 * 0.083 / 1000f64.sqrt(), "{overlap:?}");
        assert!((0.0..0.05).contains(&overlap.p), "{overlap:?}");
    }

    #[test]
    fn nothing_overlaps_with_nothing() {
        let all = components();
        let mut random = Random::new(&all, 1, 0);
        assert_eq!(random.overlap(&[&[], &[]]), None);
        assert_eq!(random.overlap(&[&all[..3]]), None);
        assert_eq!(random.overlap(&[]), None);
        let with_one = random.overlap(&[&all[..3], &[]]).unwrap();
        assert_eq!((with_one.found, with_one.expected, with_one.p), (0.0, 0.0, 1.0));
        // Two empty circuits say nothing beside two that agree.
        assert_eq!(random.overlap(&[&all[..3], &all[..3], &[], &[]]).unwrap().found, 1.0 / 5.0);
    }
}
