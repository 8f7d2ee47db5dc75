//! The loop: prompts of a step, a gradient, an update, a record, now and then a checkpoint.
//!
//! Everything random depends on the seed and the step alone, and a policy's numbers depend on its factors alone: a training
//! that is cut off anywhere and goes on from its checkpoint ends in the same bits.

use crate::adapter::Factors;
use crate::checkpoint::{Checkpoint, Progress};
use crate::error::{Error, Result};
use crate::metrics::{StateStep, Step};
use crate::objective::{LogProbs, Odds, Stake};
use crate::optimizer::{AdamW, norm};
use crate::policy::{Policy, Spellings};
use crate::pool::Pool;
use crate::ppo::{Sample, divergence};
use crate::settings::{Algorithm, Settings};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Least probability of both answers on the base from which a gradient comes through.
pub const LEAST_MASS: f64 = 1e-12;
/// Fewer legal samples than this in a whole training teach PPO nothing.
const LEAST_SAMPLES: f64 = 10.0;

/// Where checkpoints are kept.
pub trait Keeper {
    /// The last checkpoint, if there is one.
    ///
    /// # Errors
    /// It can't be read.
    fn load(&self) -> Result<Option<Vec<u8>>>;

    /// Replaces the last checkpoint, whole or not at all.
    ///
    /// # Errors
    /// No room; the last one is then still there.
    fn save(&self, bytes: &[u8]) -> Result<()>;

    /// Keeps the adapter as it stands after so many steps, for [`Settings::keep_every`]. It may be asked again for a step, always with
    /// the same factors.
    ///
    /// # Errors
    /// No room.
    fn keep(&self, _step: usize, _factors: &Factors) -> Result<()> {
        Ok(())
    }
}

/// Told how it goes.
pub trait Watch {
    /// From now on there are steps to be lost.
    fn begins(&self) {}
    /// All steps are done and kept.
    fn ends(&self) {}
    /// So many steps are done; this was the last.
    fn step(&self, _done: usize, _step: &Step) {}
    /// Whether the user wants to stop; asked between steps. A policy may also break off a step ([`Error::is_stop`]), which then counts
    /// as not begun.
    fn should_stop(&self) -> bool {
        false
    }
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The factors as they stand.
    pub factors: Factors,
    /// Every step.
    pub steps: Vec<Step>,
    /// Whether all steps are done; if not, a checkpoint was left.
    pub finished: bool,
}

/// A training of any policy.
pub struct Training<'a> {
    /// Prompts and rewards.
    pub pool: &'a Pool,
    /// What to do.
    pub settings: &'a Settings,
    /// Seed of the order of forms and of PPO's samples.
    pub seed: u64,
    /// Where checkpoints are.
    pub keeper: &'a dyn Keeper,
    /// Who looks on.
    pub watch: &'a dyn Watch,
}

impl Training<'_> {
    /// Trains, from the last checkpoint if there is one, else from `initial`.
    ///
    /// # Errors
    /// The policy fails, its numbers stop to be finite, the base can't answer, or a checkpoint can't be written.
    pub fn run(&self, policy: &mut dyn Policy, initial: Factors) -> Result<Outcome> {
        self.watch.begins();
        let mut now = self.start(initial)?;
        let mut bases: Vec<Option<Odds>> = vec![None; self.pool.states.len()];
        put(policy, &now.factors)?;
        let steps = self.settings.steps;
        if now.progress.steps.is_empty() {
            self.keep(&now)?;
        }
        while now.progress.steps.len() < steps {
            if self.watch.should_stop() {
                self.keeper.save(&now.to_bytes()?)?;
                return Ok(outcome(now, false));
            }
            // A step that is broken off has moved some numbers already.
            let before = now.clone();
            match self.step(policy, &mut now, &mut bases) {
                Err(error) if error.is_stop() => {
                    self.keeper.save(&before.to_bytes()?)?;
                    return Ok(outcome(before, false));
                }
                done => done?,
            }
            let done = now.progress.steps.len();
            // Before the checkpoint: what is cut off between the two is kept again.
            self.keep(&now)?;
            if done.is_multiple_of(self.settings.checkpoint_every) || done == steps {
                self.keeper.save(&now.to_bytes()?)?;
            }
            if let Some(last) = now.progress.steps.last() {
                self.watch.step(done, last);
            }
        }
        self.watch.ends();
        Ok(outcome(now, true))
    }

    /// Keeps the adapter if it is this step's turn.
    fn keep(&self, now: &Checkpoint) -> Result<()> {
        let (done, every) = (now.progress.steps.len(), self.settings.keep_every);
        if every > 0 && (done.is_multiple_of(every) || done == self.settings.steps) {
            self.keeper.keep(done, &now.factors)?;
        }
        Ok(())
    }

    fn start(&self, initial: Factors) -> Result<Checkpoint> {
        if let Some(bytes) = self.keeper.load()? {
            return Checkpoint::from_bytes(&bytes, &initial);
        }
        let lengths: Vec<usize> = initial.0.iter().map(|f| f.values.len()).collect();
        let optimizer = AdamW::new(lengths.into_iter());
        let kl_coefficient = self.settings.ppo.kl_coefficient;
        Ok(Checkpoint {
            factors: initial,
            optimizer,
            progress: Progress { kl_coefficient, ..Progress::default() },
        })
    }

    /// One step: for PPO several updates on the same samples.
    fn step(&self, policy: &mut dyn Policy, now: &mut Checkpoint, bases: &mut [Option<Odds>]) -> Result<()> {
        let at = now.progress.steps.len();
        let forms = self.forms_of(at);
        let prompts: Vec<usize> = forms.iter().flat_map(|&f| self.pool.forms[f].states.clone()).collect();
        let stakes: Vec<Stake> = prompts.iter().map(|&p| self.pool.states[p].stake).collect();
        let base = self.bases(policy, &prompts, bases)?;
        if at == 0 {
            self.check_samples(&base)?;
        }
        let kl_coefficient = now.progress.kl_coefficient;
        let mut of_step =
            OfStep { training: self, at, stakes: &stakes, base: &base, kl_coefficient, samples: None };
        let rate = self.settings.optimizer.rate(at, self.settings.steps);
        let (mut first, mut gradient_norm) = (None, 0.0);
        for epoch in 0..self.epochs() {
            let mut gradient = policy.gradient(&prompts, &mut |spellings| {
                let odds = odds(spellings, prompts.len(), at)?;
                let derivatives = of_step.derivatives(&odds);
                first.get_or_insert(odds);
                Ok(spellings.iter().zip(derivatives).map(|(s, d)| s.share(d)).collect())
            })?;
            check_shapes(&gradient, &now.factors)?;
            now.factors.mask(&mut gradient);
            if !norm(&gradient).is_finite() {
                return Err(Error::Diverged { step: at, what: "the gradient" });
            }
            let mut values = now.factors.values_mut();
            let length = now.optimizer.step(&self.settings.optimizer, rate, &mut values, &gradient);
            if epoch == 0 {
                gradient_norm = length;
            }
            put(policy, &now.factors)?;
        }
        let Some(odds) = first else {
            return Err(Error::Policy("a gradient without asking for weights".to_owned()));
        };
        let objective = of_step.value(&odds);
        now.progress.kl_coefficient = of_step.adapted(&odds);
        now.progress.updates = now.optimizer.updates;
        now.progress.steps.push(Step {
            forms,
            objective,
            gradient_norm,
            learning_rate: rate,
            kl_coefficient: (self.settings.algorithm == Algorithm::Ppo).then_some(kl_coefficient),
            states: measured(&prompts, &stakes, &odds, &base),
        });
        Ok(())
    }

    fn epochs(&self) -> usize {
        match self.settings.algorithm {
            Algorithm::Exact => 1,
            Algorithm::Ppo => self.settings.ppo.epochs,
        }
    }

    /// The forms of a step: all forms in random order, then all of them again in another.
    fn forms_of(&self, step: usize) -> Vec<usize> {
        let n = self.pool.forms.len();
        let first = step * self.settings.forms;
        (first..first + self.settings.forms).map(|i| shuffled(n, self.seed, (i / n) as u64)[i % n]).collect()
    }

    /// What the base does, computed once for each prompt.
    fn bases(&self, policy: &dyn Policy, prompts: &[usize], known: &mut [Option<Odds>]) -> Result<Vec<Odds>> {
        let mut new: Vec<usize> = prompts.iter().copied().filter(|&p| known[p].is_none()).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let spellings = policy.reference(&new)?;
            for (&p, s) in new.iter().zip(&spellings) {
                let odds = Odds::new(s.log_probs());
                if odds.mass.is_nan() || odds.mass < LEAST_MASS {
                    let (prompt, mass) = (self.pool.states[p].item.id.clone(), odds.mass);
                    return Err(Error::CannotAnswer { prompt, mass, least: LEAST_MASS });
                }
                known[p] = Some(odds);
            }
        }
        let missing = || Error::Policy("fewer reference values than prompts".to_owned());
        prompts.iter().map(|&p| known[p].ok_or_else(missing)).collect()
    }

    fn check_samples(&self, base: &[Odds]) -> Result<()> {
        if self.settings.algorithm == Algorithm::Exact {
            return Ok(());
        }
        let mass = base.iter().map(|o| o.mass).sum::<f64>() / base.len() as f64;
        let samples = base.len() * self.settings.ppo.samples * self.settings.steps;
        let expected = mass * samples as f64;
        if expected < LEAST_SAMPLES { Err(Error::NeverSampled { mass, samples, expected }) } else { Ok(()) }
    }
}

/// The objective of one step; for PPO with the samples that its first epoch draws.
struct OfStep<'a> {
    training: &'a Training<'a>,
    at: usize,
    stakes: &'a [Stake],
    base: &'a [Odds],
    kl_coefficient: f64,
    samples: Option<Vec<Sample>>,
}

impl OfStep<'_> {
    /// Derivatives of the objective, a mean over states, by the log-probabilities of each.
    fn derivatives(&mut self, now: &[Odds]) -> Vec<LogProbs> {
        let settings = self.training.settings;
        match settings.algorithm {
            Algorithm::Exact => {
                let n = now.len() as f64;
                let one = |i: usize| settings.objective.value(&self.stakes[i], &now[i], &self.base[i]);
                (0..now.len()).map(|i| one(i).gradient.map(|g| g / n)).collect()
            }
            Algorithm::Ppo => {
                let (seed, beta) = (self.training.seed, self.kl_coefficient);
                let draw = || settings.ppo.draw(seed, self.at, beta, self.stakes, now, self.base);
                let samples = self.samples.get_or_insert_with(draw);
                settings.ppo.gradient(samples, now)
            }
        }
    }

    fn value(&self, now: &[Odds]) -> f64 {
        let settings = self.training.settings;
        match settings.algorithm {
            Algorithm::Exact => {
                let one = |i: usize| settings.objective.value(&self.stakes[i], &now[i], &self.base[i]).value;
                (0..now.len()).map(one).sum::<f64>() / now.len() as f64
            }
            Algorithm::Ppo => settings.ppo.value(self.stakes, now, self.base, self.kl_coefficient),
        }
    }

    /// PPO's weight of the divergence after this step.
    fn adapted(&self, now: &[Odds]) -> f64 {
        let n_samples = self.samples.as_ref().map_or(0, Vec::len);
        let mean = now.iter().zip(self.base).map(|(n, b)| divergence(n, b)).sum::<f64>() / now.len() as f64;
        self.training.settings.ppo.adapted(self.kl_coefficient, mean, n_samples)
    }
}

fn outcome(now: Checkpoint, finished: bool) -> Outcome {
    Outcome { factors: now.factors, steps: now.progress.steps, finished }
}

fn put(policy: &mut dyn Policy, factors: &Factors) -> Result<()> {
    let values: Vec<&[f32]> = factors.0.iter().map(|f| f.values.as_slice()).collect();
    policy.set(&values)
}

fn odds(spellings: &[Spellings], n: usize, step: usize) -> Result<Vec<Odds>> {
    if spellings.len() != n {
        return Err(Error::Policy(format!(
            "log-probabilities of {} prompts instead of {n}",
            spellings.len()
        )));
    }
    let odds: Vec<Odds> = spellings.iter().map(|s| Odds::new(s.log_probs())).collect();
    match odds.iter().all(|o| o.ln_mass.is_finite() && o.ln_q.iter().all(|l| l.is_finite())) {
        true => Ok(odds),
        false => Err(Error::Diverged { step, what: "a log-probability" }),
    }
}

fn check_shapes(gradient: &[Vec<f32>], factors: &Factors) -> Result<()> {
    let fits = gradient.len() == factors.0.len()
        && gradient.iter().zip(&factors.0).all(|(g, f)| g.len() == f.values.len());
    if fits { Ok(()) } else { Err(Error::Policy("a gradient of another shape than the factors".to_owned())) }
}

fn measured(prompts: &[usize], stakes: &[Stake], now: &[Odds], base: &[Odds]) -> Vec<StateStep> {
    let one = |i: usize| StateStep {
        prompt: prompts[i],
        reward: (0..2).map(|k| now[i].q[k] * stakes[i].rewards[k]).sum(),
        p_defect: now[i].q[1],
        legal_mass: now[i].mass,
        kl: now[i].kl(&base[i]),
    };
    (0..prompts.len()).map(one).collect()
}

/// The numbers below `n` in an order that depends on seed and stream alone (Fisher and Yates).
fn shuffled(n: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_once_in_a_round() {
        for seed in 0..3 {
            let mut order = shuffled(32, seed, 5);
            assert_ne!(order, (0..32).collect::<Vec<_>>());
            assert_ne!(order, shuffled(32, seed, 6));
            order.sort_unstable();
            assert_eq!(order, (0..32).collect::<Vec<_>>());
        }
    }
}
