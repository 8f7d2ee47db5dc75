//! Settings of the analysis of trajectories.

use super::NAME;
use crate::context::read_settings;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Prompts whose delta the whole training moves by less (in nats) are left out of recovery.
    pub floor: f64,
    /// Orders of the steps that a change point is held against.
    pub permutations: usize,
    /// How often a curve without order may have a change point.
    pub level: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { floor: 0.01, permutations: 999, level: 0.05 }
    }
}

impl Settings {
    pub fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        let refuse = |why: String| Err(Error::Settings { analysis: NAME, why });
        let (floor, level, permutations) = (settings.floor, settings.level, settings.permutations);
        if !(floor.is_finite() && floor >= 0.0) {
            return refuse(format!("floor is {floor}; it must be 0 or more"));
        }
        if !(level > 0.0 && level < 1.0) {
            return refuse(format!("level is {level}; it must lie between 0 and 1"));
        }
        // Not even the most extreme order would be rare enough.
        if level * (permutations as f64 + 1.0) < 1.0 {
            return refuse(format!(
                "permutations is {permutations}; at level {level} it must be at least {}",
                (1.0 / level).ceil() - 1.0
            ));
        }
        Ok(settings)
    }
}
