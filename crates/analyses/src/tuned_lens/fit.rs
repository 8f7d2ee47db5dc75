//! Fits one layer's map: ridge regression onto the final state, then Adam on the divergence itself.
//!
//! The closed form is cheap and sees all rows, but minimises a squared error, not KL(final ‖ lens); the steps do the latter, on
//! the rows whose final distributions are kept. Both the penalty and the number of steps are chosen on validation rows;
//! the plain lens is among the choices, so a layer that nothing improves keeps it.

use super::affine::{Affine, Normal, theta_gradient};
use super::readout::{Readout, Targets};
use super::settings::Settings;
use crate::error::Result;
use lorascope_engine::Mat;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Adam's decay rates and the guard of its denominator (Kingma & Ba 2015).
const MOMENTS: (f32, f32, f32) = (0.9, 0.999, 1e-8);

/// Rows of one role in one layer, with the distributions that they lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    /// The layer's states.
    pub from: &'a Mat<f32>,
    /// Final distributions of the first of these rows (of all, except among the training rows).
    pub targets: &'a Targets<f32>,
}

impl Rows<'_> {
    /// Mean divergence of a map's readings, over the rows that have a target.
    pub fn kl(&self, readout: &Readout<f32>, map: Option<&Affine>, most: usize) -> f64 {
        let which: Vec<usize> = (0..self.targets.len().min(most)).collect();
        let states = self.from.gather(&which);
        let states = map.map_or_else(|| states.clone(), |m| m.apply(&states));
        mean(&readout.kl(&states, self.targets, &which))
    }
}

/// What one layer is fitted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerRows<'a> {
    /// Rows to learn from.
    pub train: Rows<'a>,
    /// Final states of all training rows.
    pub train_finals: &'a Mat<f32>,
    /// Rows to choose by.
    pub validation: Rows<'a>,
}

/// A fitted layer.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    /// The map.
    pub map: Affine,
    /// The closed form that the steps began with.
    pub start: Affine,
    /// Its penalty; infinite for the plain lens.
    pub ridge: f64,
    /// Steps after which the validation divergence was smallest.
    pub steps: usize,
}

/// Fits a layer.
pub(super) fn fit(
    readout: &Readout<f32>,
    rows: &LayerRows,
    settings: &Settings,
    seed: u64,
) -> Result<Fitted> {
    let validation = |map: &Affine| rows.validation.kl(readout, Some(map), usize::MAX);
    let normal = Normal::new(rows.train.from, rows.train_finals);
    let mut start = normal.identity().clone();
    let (mut ridge, mut best_kl) = (f64::INFINITY, validation(&start));
    for &candidate in &settings.ridges {
        let map = normal.solve(candidate);
        let kl = validation(&map);
        if kl < best_kl {
            (start, ridge, best_kl) = (map, candidate, kl);
        }
    }
    let mut fitted = Fitted { map: start.clone(), start: start.clone(), ridge, steps: 0 };
    let mut adam = Adam::new(start, settings, seed);
    for step in 1..=settings.steps {
        adam.step(readout, &rows.train, step);
        if step % settings.check_every != 0 && step != settings.steps {
            continue;
        }
        let kl = validation(&adam.map);
        if kl < best_kl {
            (fitted.map, fitted.steps, best_kl) = (adam.map.clone(), step, kl);
        } else if step >= fitted.steps + settings.patience * settings.check_every {
            break;
        }
    }
    Ok(fitted)
}

/// The state of a descent.
struct Adam<'a> {
    map: Affine,
    settings: &'a Settings,
    first: Vec<f32>,
    second: Vec<f32>,
    rng: ChaCha8Rng,
    /// Rows that the present pass over the training rows has still to see.
    left: Vec<usize>,
}

impl<'a> Adam<'a> {
    fn new(map: Affine, settings: &'a Settings, seed: u64) -> Self {
        let n = map.theta.data.len();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { map, settings, first: vec![0.0; n], second: vec![0.0; n], rng, left: Vec::new() }
    }

    /// Step number `step` (from 1), with a rate that falls to zero along a half cosine.
    fn step(&mut self, readout: &Readout<f32>, train: &Rows, step: usize) {
        if self.left.is_empty() {
            self.left = (0..train.targets.len()).collect();
            self.left.shuffle(&mut self.rng);
        }
        let batch = self.left.split_off(self.left.len().saturating_sub(self.settings.batch));
        let states = train.from.gather(&batch);
        let by_state = readout.gradient(&self.map.apply(&states), train.targets, &batch);
        let gradient = theta_gradient(&self.map, &self.map.features(&states), &by_state);
        let along = (step - 1) as f64 / self.settings.steps as f64;
        let rate = self.settings.rate * 0.5 * (1.0 + (std::f64::consts::PI * along).cos());
        let (decay, decay_squares, guard) = MOMENTS;
        let unbias = 1.0 / (1.0 - f64::from(decay).powi(step as i32));
        let unbias_squares = 1.0 / (1.0 - f64::from(decay_squares).powi(step as i32)) as f32;
        let rate = (rate * unbias) as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((theta, &g), (m, v)) in self.map.theta.data.iter_mut().zip(&gradient.data).zip(moments) {
            *m = decay * *m + (1.0 - decay) * g;
            *v = decay_squares * *v + (1.0 - decay_squares) * g * g;
            *theta -= rate * *m / ((*v * unbias_squares).sqrt() + guard);
        }
    }
}

/// Mean; NaN of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
