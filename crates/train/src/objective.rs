//! What is maximised in one state, and its exact gradient: an expectation over both answers, without sampling.
//!
//! With p_k = p(answer k), m = p_a + p_b and q_k = p_k / m,
//!
//! `J = Σ_k q_k R_k + R_illegal·(1 − m) + mass·ln min(m, mass_until)
//!      − gap·[kl·KL(q ‖ q_base) + reverse_kl·KL(q_base ‖ q)] − mass_kl·KL(m ‖ m_base)`,
//!
//! the last one between two coins. Two of the terms are there because the gradient of the others vanishes at the ends:
//! `ln m` where the base hardly ever answers (m of 1e-3 leaves `R_illegal·m` without slope), and KL(q_base ‖ q), which
//! keeps the optimum off 0 and 1. `gap` is the state's difference in reward, so that the pull to the base is in
//! proportion. Everything is a function of (ln p_a, ln p_b); the derivatives are by hand and tested against
//! differences.

use lorascope_analyses::log_sum_exp;
use serde::{Deserialize, Serialize};

/// How much each term counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coefficients {
    /// Weight of `ln m`, in points a nat.
    pub mass: f64,
    /// Where `ln m` stops to count.
    pub mass_until: f64,
    /// Weight of KL(q ‖ q_base), in gaps a nat.
    pub kl: f64,
    /// Weight of KL(q_base ‖ q), in gaps a nat.
    pub reverse_kl: f64,
    /// Weight of the divergence of the masses, in points a nat.
    pub mass_kl: f64,
}

impl Default for Coefficients {
    fn default() -> Self {
        Self { mass: 0.5, mass_until: 0.98, kl: 0.05, reverse_kl: 0.10, mass_kl: 0.01 }
    }
}

/// Log-probabilities of the two answers in a state, in nats: A (cooperate), B (defect).
pub type LogProbs = [f64; 2];

/// What a policy does in a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odds {
    /// Probabilities of both answers.
    pub p: [f64; 2],
    /// The same among the two answers: they add up to 1.
    pub q: [f64; 2],
    /// Their logarithms.
    pub ln_q: [f64; 2],
    /// Probability of giving either answer.
    pub mass: f64,
    /// Its logarithm.
    pub ln_mass: f64,
}

/// Least probability of *not* answering that divergences reckon with: beyond it, an f32 model's log-probabilities say
/// nothing about 1 − m.
const LEAST: f64 = 1e-9;

impl Odds {
    /// From log-probabilities.
    pub fn new(ln_p: LogProbs) -> Self {
        let ln_mass = log_sum_exp(&ln_p);
        let ln_q = ln_p.map(|l| l - ln_mass);
        Self { p: ln_p.map(f64::exp), q: ln_q.map(f64::exp), ln_q, mass: ln_mass.exp(), ln_mass }
    }

    /// Probability of no answer; at least 1e-9.
    pub fn illegal(&self) -> f64 {
        (1.0 - self.mass).max(LEAST)
    }

    /// KL(q ‖ q of another), in nats.
    pub fn kl(&self, other: &Odds) -> f64 {
        (0..2).map(|k| self.q[k] * (self.ln_q[k] - other.ln_q[k])).sum()
    }

    /// Divergence of the coin that falls on "answers", in nats.
    pub fn mass_kl(&self, other: &Odds) -> f64 {
        let mass = self.mass.min(1.0 - LEAST);
        mass * (self.ln_mass - other.ln_mass) + self.illegal() * (self.illegal() / other.illegal()).ln()
    }
}

/// The state as the objective needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stake {
    /// Rewards of both answers, in points.
    pub rewards: [f64; 2],
    /// Reward of giving neither.
    pub illegal: f64,
    /// Scale of the pull to the base, in points.
    pub gap: f64,
}

/// The objective in one state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Valued {
    /// Its value, in points.
    pub value: f64,
    /// Its derivatives by (ln p_a, ln p_b).
    pub gradient: LogProbs,
}

impl Coefficients {
    /// Value and derivatives for a policy `now` and the base's policy.
    pub fn value(&self, stake: &Stake, now: &Odds, base: &Odds) -> Valued {
        let reward: f64 = (0..2).map(|k| now.q[k] * stake.rewards[k]).sum();
        let (kl, reverse_kl) = (now.kl(base), base.kl(now));
        let counted = now.ln_mass.min(self.mass_until.ln());
        let value = reward + stake.illegal * (1.0 - now.mass) + self.mass * counted
            - stake.gap * (self.kl * kl + self.reverse_kl * reverse_kl)
            - self.mass_kl * now.mass_kl(base);
        // d m / d ln p_k = p_k, and d q_j / d ln p_k = q_j (δ_jk − q_k).
        let log_mass = if now.mass < self.mass_until { self.mass } else { 0.0 };
        let coin = now.ln_mass - base.ln_mass - (now.illegal() / base.illegal()).ln();
        let gradient = std::array::from_fn(|k| {
            let pull = self.kl * now.q[k] * (now.ln_q[k] - base.ln_q[k] - kl)
                + self.reverse_kl * (now.q[k] - base.q[k]);
            now.q[k] * (stake.rewards[k] - reward) - stake.illegal * now.p[k] + log_mass * now.q[k]
                - stake.gap * pull
                - self.mass_kl * coin * now.p[k]
        });
        Valued { value, gradient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the value; the formula has third derivatives of order 10, so a step of 1e-5 is off by
    /// about 1e-9, and rounding of the value (10 points) adds 1e-15 · 10 / 1e-5.
    const STEP: f64 = 1e-5;
    const TOLERANCE: f64 = 5e-8;

    fn differences(c: &Coefficients, stake: &Stake, at: LogProbs, base: &Odds) -> LogProbs {
        std::array::from_fn(|k| {
            let value = |shift: f64| {
                let mut moved = at;
                moved[k] += shift;
                c.value(stake, &Odds::new(moved), base).value
            };
            (value(STEP) - value(-STEP)) / (2.0 * STEP)
        })
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let c = Coefficients::default();
        let base = Odds::new([0.0009f64.ln(), 0.0003f64.ln()]);
        // Rare answers, likely ones, nearly certain ones; masses below and above the cap of the logarithm.
        for p in [[1e-7, 3e-7], [0.2, 0.3], [0.9, 0.05], [0.001, 0.985], [0.5, 0.45]] {
            for stake in [
                Stake { rewards: [3.0, 4.0], illegal: -6.0, gap: 1.0 },
                Stake { rewards: [0.0, -3.0], illegal: -6.0, gap: 3.0 },
                Stake { rewards: [0.0, 0.0], illegal: -6.0, gap: 2.0 },
            ] {
                let at = p.map(f64::ln);
                let found = c.value(&stake, &Odds::new(at), &base).gradient;
                let expected = differences(&c, &stake, at, &base);
                for k in 0..2 {
                    assert!(
                        (found[k] - expected[k]).abs() < TOLERANCE,
                        "{p:?} {stake:?}: {found:?} {expected:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_term_counts_as_its_coefficient_says() {
        let none = Coefficients { mass: 0.0, mass_until: 0.98, kl: 0.0, reverse_kl: 0.0, mass_kl: 0.0 };
        let (now, base) = (Odds::new([0.2f64.ln(), 0.6f64.ln()]), Odds::new([0.3f64.ln(), 0.1f64.ln()]));
        let stake = Stake { rewards: [1.0, 5.0], illegal: 0.0, gap: 2.0 };
        let value = |c: Coefficients| c.value(&stake, &now, &base).value;
        let reward = 0.25 * 1.0 + 0.75 * 5.0;
        assert!((value(none) - reward).abs() < 1e-12);
        let term = |c: Coefficients, expected: f64| {
            assert!((value(c) - reward - expected).abs() < 1e-12, "{c:?}: {} {expected}", value(c) - reward);
        };
        let costly = Stake { illegal: -6.0, ..stake };
        assert!((none.value(&costly, &now, &base).value - reward + 6.0 * 0.2).abs() < 1e-12);
        term(Coefficients { mass: 0.5, ..none }, 0.5 * 0.8f64.ln());
        term(Coefficients { mass: 0.5, mass_until: 0.7, ..none }, 0.5 * 0.7f64.ln());
        let kl = 0.25 * (0.25f64 / 0.75).ln() + 0.75 * (0.75f64 / 0.25).ln();
        let reverse = 0.75 * (0.75f64 / 0.25).ln() + 0.25 * (0.25f64 / 0.75).ln();
        term(Coefficients { kl: 0.05, ..none }, -2.0 * 0.05 * kl);
        term(Coefficients { reverse_kl: 0.1, ..none }, -2.0 * 0.1 * reverse);
        let coin = 0.8 * (0.8f64 / 0.4).ln() + 0.2 * (0.2f64 / 0.6).ln();
        term(Coefficients { mass_kl: 0.01, ..none }, -0.01 * coin);
    }

    #[test]
    fn certainty_and_impossibility_stay_finite() {
        let c = Coefficients::default();
        let stake = Stake { rewards: [3.0, 4.0], illegal: -6.0, gap: 1.0 };
        let base = Odds::new([0.001f64.ln(), 0.002f64.ln()]);
        // In f32 the probabilities of both answers may add up to a hair above 1.
        for at in [[-40.0, 1e-7], [-80.0, -90.0], [-0.7, -0.69]] {
            let found = c.value(&stake, &Odds::new(at), &base);
            assert!(
                found.value.is_finite() && found.gradient.iter().all(|g| g.is_finite()),
                "{at:?} {found:?}"
            );
        }
    }
}
