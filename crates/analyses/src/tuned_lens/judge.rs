//! How far readings are from the base's final distribution, at fixed places.

use crate::error::Result;
use lorascope_engine::{Mat, Model, States};

/// Rows of all readings together whose logits exist at a time.
const ROWS: usize = 2048;

/// Final states of the base that readings are compared with.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    model: &'a Model<f32>,
    finals: Mat<f32>,
}

impl<'a> Judge<'a> {
    /// Against these final states, `[rows, d_model]`.
    pub fn new(model: &'a Model<f32>, finals: Mat<f32>) -> Self {
        Self { model, finals }
    }

    /// KL(final ‖ reading) in nats over the whole vocabulary, for each of the readings a value per row. A reading is a matrix
    /// of the shape of the final states, in their coordinates.
    pub fn kl(&self, readings: &[&Mat<f32>]) -> Result<Vec<Vec<f64>>> {
        let mut found = vec![Vec::with_capacity(self.finals.rows); readings.len()];
        let at_a_time = (ROWS / (readings.len() + 1)).max(1);
        for first in (0..self.finals.rows).step_by(at_a_time) {
            let rows: Vec<usize> = (first..self.finals.rows.min(first + at_a_time)).collect();
            let n = rows.len();
            let parts = std::iter::once(&self.finals).chain(readings.iter().copied());
            let data: Vec<f32> = parts.flat_map(|part| part.gather(&rows).data).collect();
            let resid = Mat { rows: n * (readings.len() + 1), cols: self.finals.cols, data };
            let asked = States {
                model: 0,
                normalized: self.model.final_norm(0, &resid),
                tokens: vec![Vec::new(); resid.rows],
                reference: (0..resid.rows).map(|i| i % n).collect(),
                top: 0,
            };
            let said = self.model.next_tokens(&asked)?;
            for (values, said) in found.iter_mut().zip(said[n..].chunks(n)) {
                values.extend(said.iter().map(|s| s.kl));
            }
        }
        Ok(found)
    }
}

/// Mean; NaN of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
