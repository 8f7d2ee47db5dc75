//! What can be set about the tuned lens.

use super::NAME;
use crate::context::read_settings;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings of the tuned lens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Positions that the closed form is fitted to, at most.
    pub rows: usize,
    /// The first so many of them are those that the steps train on. Their final distributions are kept, in 4 bytes for each
    /// token of the vocabulary.
    pub step_rows: usize,
    /// Positions by which penalty and number of steps are chosen, at most.
    pub validation_rows: usize,
    /// Held-out positions, at most.
    pub heldout_rows: usize,
    /// Penalties of the closed form to choose from; the mean square of an input is 1.
    pub ridges: Vec<f64>,
    /// Steps of Adam on the divergence, at most; 0 for the closed form alone.
    pub steps: usize,
    /// Positions per step.
    pub batch: usize,
    /// Adam's rate at the first step.
    pub rate: f64,
    /// Steps between looks at the validation divergence.
    pub check_every: usize,
    /// Training of a layer ends after so many looks without a new best.
    pub patience: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rows: 3072,
            step_rows: 768,
            validation_rows: 128,
            heldout_rows: 192,
            ridges: vec![1e-3, 1e-2, 1e-1],
            steps: 16,
            batch: 64,
            rate: 1e-3,
            check_every: 4,
            patience: 2,
        }
    }
}

impl Settings {
    /// Reads and checks them.
    pub fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        let wrong = |why: String| Err(Error::Settings { analysis: NAME, why });
        let counts = [
            ("rows", settings.rows),
            ("step_rows", settings.step_rows),
            ("validation_rows", settings.validation_rows),
            ("heldout_rows", settings.heldout_rows),
            ("batch", settings.batch),
            ("check_every", settings.check_every),
            ("patience", settings.patience),
        ];
        if let Some((name, _)) = counts.iter().find(|c| c.1 == 0) {
            return wrong(format!("{name} is 0; it must be 1 at least"));
        }
        let numbers = settings.ridges.iter().chain([&settings.rate]);
        if let Some(bad) = numbers.into_iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return wrong(format!("ridges and rate must be positive numbers, and `{bad}` is not"));
        }
        Ok(settings)
    }
}
