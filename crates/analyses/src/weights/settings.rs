//! Settings of the analysis of weights.

use super::NAME;
use crate::context::read_settings;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// How many of the largest singular vectors of W + ΔW are looked at; 0 leaves intruder dimensions out.
    pub intruders: usize,
    /// A singular vector is an intruder if no singular vector of W has a larger cosine with it.
    pub intruder_cosine: f64,
    /// Modules whose smaller side is longer are left out of it: the time grows with its cube.
    pub intruder_width: usize,
    /// Components of each update that are listed.
    pub components: usize,
    /// Tokens that are listed on each side of a component.
    pub tokens: usize,
    /// Pairs of deciding tokens whose direction is compared with what updates write: the most frequent ones.
    pub directions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            intruders: 10,
            intruder_cosine: 0.5,
            intruder_width: 1536,
            components: 3,
            tokens: 8,
            directions: 2,
        }
    }
}

impl Settings {
    pub fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        let refuse = |why: String| Err(Error::Settings { analysis: NAME, why });
        let cosine = settings.intruder_cosine;
        if !(cosine > 0.0 && cosine < 1.0) {
            return refuse(format!("intruder_cosine is {cosine}; it must lie between 0 and 1"));
        }
        if settings.directions == 0 {
            return refuse("directions is 0; it must be at least 1".to_owned());
        }
        Ok(settings)
    }
}
