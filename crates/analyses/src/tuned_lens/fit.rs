//! Fits one layer's map: ridge regression onto the final state, then steps down the divergence.
//!
//! The squared error is solved exactly from all training rows, but it is not what a lens is judged by; hence the penalty is chosen by
//! the mean KL(final ‖ lens) on validation rows. Over decades of penalties that mean hardly moves, and its least value is an
//! accident of the sample: the choice is the largest penalty that comes close to it, the lens nearest to the plain one. The
//! plain lens is among the choices, and steps that lead away are not kept, so a layer that nothing improves keeps it.

use super::affine::{Affine, Normal};
use super::descent::descend;
use super::judge::{Judge, mean};
use super::readout::Readout;
use super::settings::Settings;
use crate::error::Result;
use lorascope_engine::Mat;

/// How close, as a share of the least divergence.
const CLOSE: f64 = 0.005;

/// A fitted layer.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    /// The map.
    pub map: Affine,
    /// The closed form that the steps began with.
    pub closed: Affine,
    /// Its penalty; infinite for the plain lens.
    pub ridge: f64,
    /// Steps that were kept: all or none.
    pub steps: usize,
}

/// What one layer is fitted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerRows<'a> {
    /// States to learn from, in random order, `[rows, d_model]`.
    pub train: &'a Mat<f32>,
    /// Final states there.
    pub finals: &'a Mat<f32>,
    /// States to choose by, where `judge` judges.
    pub validation: &'a Mat<f32>,
    /// Knows the final states there.
    pub judge: &'a Judge<'a>,
}

/// Fits a layer.
pub(super) fn fit(readout: &Readout<f32>, rows: &LayerRows, settings: &Settings) -> Result<Fitted> {
    let normal = Normal::new(rows.train, rows.finals);
    let mut choices = vec![(f64::INFINITY, normal.identity().clone())];
    choices.extend(settings.ridges.iter().rev().map(|&ridge| (ridge, normal.solve(ridge))));
    let readings: Vec<Mat<f32>> = choices.iter().map(|(_, map)| map.apply(rows.validation)).collect();
    let divergences = rows.judge.kl(&readings.iter().collect::<Vec<_>>())?;
    let means: Vec<f64> = divergences.iter().map(|kl| mean(kl)).collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    // The choices stand from the largest penalty to the smallest.
    let best = means.iter().position(|&kl| kl <= least * (1.0 + CLOSE)).unwrap_or(0);
    let (ridge, closed) = choices.swap_remove(best);
    let moved = descend(&closed, rows.train, rows.finals, readout, settings);
    let after = mean(&rows.judge.kl(&[&moved.apply(rows.validation)])?[0]);
    let (map, steps) = if after < means[best] { (moved, settings.steps) } else { (closed.clone(), 0) };
    Ok(Fitted { map, closed, ridge, steps })
}
