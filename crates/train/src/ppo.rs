//! Proximal policy optimisation on one-step episodes, as the base paper trains (arXiv 2410.01639): sampled answers, the
//! clipped surrogate of Schulman et al. (1707.06347), and a penalty on the divergence from the base whose weight
//! adapts (Ziegler et al., 1909.08593).
//!
//! A state has three outcomes: answer A, answer B, or neither. The reward of an outcome is the game's minus
//! β·(ln π − ln π_base). There is no value head: an episode is one step long, and the policy's three
//! probabilities are known, so the value of a state, which a head would have to learn, is their expectation of the
//! reward, exactly. Advantages are rewards minus that value, whitened over the batch.

use crate::objective::{LogProbs, Odds, Stake};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How sampling and clipping go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoSettings {
    /// Samples of each state in a step.
    pub samples: usize,
    /// Times that a step's samples are used.
    pub epochs: usize,
    /// How far the ratio of new to old probability may go from 1 before its gradient is cut.
    pub clip: f64,
    /// Weight of the divergence at the beginning, in points a nat.
    pub kl_coefficient: f64,
    /// Divergence that the weight adapts to, in nats; 0: the weight stays as it is.
    pub kl_target: f64,
    /// Samples over which the weight adapts.
    pub kl_horizon: f64,
}

impl Default for PpoSettings {
    /// As TRL has them, whose trainer the paper used.
    fn default() -> Self {
        Self { samples: 8, epochs: 4, clip: 0.2, kl_coefficient: 0.2, kl_target: 6.0, kl_horizon: 10_000.0 }
    }
}

/// One answer that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Which state of the batch.
    pub state: usize,
    /// 0: answer A, 1: answer B, 2: neither.
    pub outcome: usize,
    /// Its log-probability when it was drawn.
    pub ln_p: f64,
    /// Its advantage.
    pub advantage: f64,
}

/// The standard deviation of advantages below which they are left as they are: all of one worth, or rounding.
const FLAT: f64 = 1e-8;
/// Largest relative error of the divergence that the controller answers to.
const MAX_ERROR: f64 = 0.2;

/// Log-probabilities of the three outcomes.
pub fn outcomes(odds: &Odds) -> [f64; 3] {
    [odds.ln_mass + odds.ln_q[0], odds.ln_mass + odds.ln_q[1], odds.illegal().ln()]
}

/// KL(π ‖ π_base) over the three outcomes, in nats.
pub fn divergence(now: &Odds, base: &Odds) -> f64 {
    let (now, base) = (outcomes(now), outcomes(base));
    (0..3).map(|o| now[o].exp() * (now[o] - base[o])).sum()
}

impl PpoSettings {
    /// Rewards of the three outcomes with the penalty on the divergence, and their expectation.
    fn shaped(&self, stake: &Stake, now: &Odds, base: &Odds, beta: f64) -> ([f64; 3], f64) {
        let game = [stake.rewards[0], stake.rewards[1], stake.illegal];
        let (now, base) = (outcomes(now), outcomes(base));
        let shaped: [f64; 3] = std::array::from_fn(|o| game[o] - beta * (now[o] - base[o]));
        let value = (0..3).map(|o| now[o].exp() * shaped[o]).sum();
        (shaped, value)
    }

    /// Mean over states of the expectation of the shaped reward: what the samples estimate.
    pub fn value(&self, stakes: &[Stake], now: &[Odds], base: &[Odds], beta: f64) -> f64 {
        let values = stakes.iter().zip(now).zip(base).map(|((s, n), b)| self.shaped(s, n, b, beta).1);
        values.sum::<f64>() / stakes.len() as f64
    }

    /// Draws the samples of a step. The draws depend on the seed and the step alone.
    pub fn draw(
        &self,
        seed: u64,
        step: usize,
        beta: f64,
        stakes: &[Stake],
        now: &[Odds],
        base: &[Odds],
    ) -> Vec<Sample> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(SAMPLES + step as u64);
        let mut drawn = Vec::with_capacity(stakes.len() * self.samples);
        for (state, stake) in stakes.iter().enumerate() {
            let (shaped, value) = self.shaped(stake, &now[state], &base[state], beta);
            let ln_p = outcomes(&now[state]);
            for _ in 0..self.samples {
                let at: f64 = rng.random_range(0.0..1.0);
                let outcome = match at {
                    at if at < now[state].p[0] => 0,
                    at if at < now[state].mass => 1,
                    _ => 2,
                };
                let advantage = shaped[outcome] - value;
                drawn.push(Sample { state, outcome, ln_p: ln_p[outcome], advantage });
            }
        }
        whiten(&mut drawn);
        drawn
    }

    /// Derivatives of the clipped surrogate, the mean over samples of min(ρA, clip(ρ)A), by the states' (ln p_a, ln p_b).
    pub fn gradient(&self, samples: &[Sample], now: &[Odds]) -> Vec<LogProbs> {
        let mut gradient = vec![[0.0; 2]; now.len()];
        for sample in samples {
            let odds = &now[sample.state];
            let ratio = (outcomes(odds)[sample.outcome] - sample.ln_p).exp();
            let cut = if sample.advantage > 0.0 { ratio > 1.0 + self.clip } else { ratio < 1.0 - self.clip };
            if cut {
                continue;
            }
            let weight = ratio * sample.advantage / samples.len() as f64;
            let of_state = &mut gradient[sample.state];
            match sample.outcome {
                2 => (0..2).for_each(|k| of_state[k] -= weight * odds.p[k] / odds.illegal()),
                k => of_state[k] += weight,
            }
        }
        gradient
    }

    /// The weight of the divergence after a step that saw this divergence on so many samples.
    pub fn adapted(&self, beta: f64, divergence: f64, samples: usize) -> f64 {
        if self.kl_target == 0.0 {
            return beta;
        }
        let error = (divergence / self.kl_target - 1.0).clamp(-MAX_ERROR, MAX_ERROR);
        beta * (1.0 + error * samples as f64 / self.kl_horizon)
    }
}

/// Where the streams of random numbers for sampling begin; those before it shuffle the forms.
const SAMPLES: u64 = 1 << 32;

/// To mean 0 and standard deviation 1.
fn whiten(samples: &mut [Sample]) {
    let n = samples.len() as f64;
    let mean = samples.iter().map(|s| s.advantage).sum::<f64>() / n;
    let deviation = (samples.iter().map(|s| (s.advantage - mean).powi(2)).sum::<f64>() / n).sqrt();
    if deviation > FLAT {
        samples.iter_mut().for_each(|s| s.advantage = (s.advantage - mean) / deviation);
    } else {
        samples.iter_mut().for_each(|s| s.advantage = 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odds(a: f64, b: f64) -> Odds {
        Odds::new([a.ln(), b.ln()])
    }

    #[test]
    fn outcomes_are_drawn_as_often_as_they_are_probable() {
        let ppo = PpoSettings { samples: 40_000, ..PpoSettings::default() };
        let stake = Stake { rewards: [3.0, 4.0], illegal: -6.0, gap: 1.0 };
        let (now, base) = (odds(0.2, 0.5), odds(0.3, 0.3));
        let drawn = ppo.draw(7, 3, 0.2, &[stake], &[now], &[base]);
        for (outcome, p) in [0.2, 0.5, 0.3].into_iter().enumerate() {
            let share = drawn.iter().filter(|s| s.outcome == outcome).count() as f64 / 40_000.0;
            // Five standard errors of a share.
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / 40_000.0f64).sqrt(), "{outcome}: {share} {p}");
        }
        let (mean, square) =
            drawn.iter().fold((0.0, 0.0), |(m, s), d| (m + d.advantage, s + d.advantage.powi(2)));
        assert!((mean / 40_000.0).abs() < 1e-9 && (square / 40_000.0 - 1.0).abs() < 1e-9);
        assert_eq!(drawn, ppo.draw(7, 3, 0.2, &[stake], &[now], &[base]));
        assert_ne!(drawn, ppo.draw(7, 4, 0.2, &[stake], &[now], &[base]));
    }

    /// The derivative of the surrogate, by differences of its own definition.
    #[test]
    fn the_gradient_is_that_of_the_clipped_surrogate() {
        let ppo = PpoSettings::default();
        let sample = |outcome, advantage, ln_p: f64| Sample { state: 0, outcome, ln_p, advantage };
        // Ratios inside the range, and beyond it on the side that is cut and on the other.
        let samples = [
            sample(0, 1.5, 0.2f64.ln()),
            sample(0, 0.7, 0.1f64.ln()),
            sample(1, -0.8, 0.5f64.ln()),
            sample(1, -0.3, 0.9f64.ln()),
            sample(1, 0.6, 0.9f64.ln()),
            sample(2, -1.1, 0.28f64.ln()),
            sample(2, 0.4, 0.31f64.ln()),
        ];
        let surrogate = |at: LogProbs| {
            let now = outcomes(&Odds::new(at));
            let one = |s: &Sample| {
                let ratio = (now[s.outcome] - s.ln_p).exp();
                (ratio * s.advantage).min(ratio.clamp(1.0 - ppo.clip, 1.0 + ppo.clip) * s.advantage)
            };
            samples.iter().map(one).sum::<f64>() / samples.len() as f64
        };
        let at = [0.2f64.ln(), 0.5f64.ln()];
        let found = ppo.gradient(&samples, &[Odds::new(at)])[0];
        for k in 0..2 {
            let moved = |by: f64| {
                let mut at = at;
                at[k] += by;
                surrogate(at)
            };
            // The surrogate is smooth around here; a step of 1e-6 is off by its square, and rounding by 1e-10.
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((found[k] - expected).abs() < 1e-8, "{k}: {} {expected}", found[k]);
        }
    }

    #[test]
    fn the_weight_of_the_divergence_follows_it() {
        let ppo = PpoSettings { kl_target: 0.5, kl_horizon: 100.0, ..PpoSettings::default() };
        assert!((ppo.adapted(0.2, 5.0, 10) - 0.2 * 1.02).abs() < 1e-12);
        assert!((ppo.adapted(0.2, 0.0, 10) - 0.2 * 0.98).abs() < 1e-12);
        assert!((ppo.adapted(0.2, 0.55, 10) - 0.2 * 1.01).abs() < 1e-12);
        assert_eq!(ppo.adapted(0.2, 0.5, 10), 0.2);
        assert_eq!(PpoSettings { kl_target: 0.0, ..ppo }.adapted(0.2, 5.0, 10), 0.2);
    }

    #[test]
    fn the_value_of_a_state_is_the_mean_reward_less_the_divergence() {
        let ppo = PpoSettings::default();
        let stake = Stake { rewards: [3.0, 4.0], illegal: -6.0, gap: 1.0 };
        let (now, base) = (odds(0.2, 0.5), odds(0.3, 0.3));
        let plain = 0.2 * 3.0 + 0.5 * 4.0 - 0.3 * 6.0;
        let kl = 0.2 * (0.2f64 / 0.3).ln() + 0.5 * (0.5f64 / 0.3).ln() + 0.3 * (0.3f64 / 0.4).ln();
        assert!((divergence(&now, &base) - kl).abs() < 1e-12);
        assert!((ppo.value(&[stake], &[now], &[base], 0.2) - (plain - 0.2 * kl)).abs() < 1e-12);
    }
}
