//! What can be set about the tuned lens.

use super::{NAME, text, wrong};
use crate::context::read_settings;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings of the tuned lens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// File of documents to train on, relative to where the program runs; the built-in text where there is none.
    pub text: Option<String>,
    /// Its SHA-256, filled in when the settings are resolved, so that a run knows which text it was begun with.
    pub text_sha256: Option<String>,
    /// Positions to train on, at most; documents beyond that are not read.
    pub rows: usize,
    /// Positions by which the penalty is chosen, at most.
    pub validation_rows: usize,
    /// Held-out positions, at most.
    pub heldout_rows: usize,
    /// Penalties to choose from, from small to large; the mean square of an input is 1, and so is that of what is fitted.
    pub ridges: Vec<f64>,
    /// Steps down the divergence after that; 0 for the closed form alone.
    pub steps: usize,
    /// Positions per step.
    pub batch: usize,
    /// Adam's rate at the first step.
    pub rate: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            text: None,
            text_sha256: None,
            rows: 8192,
            validation_rows: 256,
            heldout_rows: 256,
            ridges: vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0],
            steps: 32,
            batch: 64,
            rate: 3e-4,
        }
    }
}

impl Settings {
    /// Reads and checks them; fills in the hash of the text file.
    ///
    /// # Errors
    /// An unknown key, an impossible value, or a text file that can't be trained on.
    pub fn read(given: &Value) -> Result<Self> {
        let mut settings: Self = read_settings(NAME, given)?;
        let counts = [
            ("rows", settings.rows),
            ("validation_rows", settings.validation_rows),
            ("heldout_rows", settings.heldout_rows),
            ("batch", settings.batch),
        ];
        if let Some((name, _)) = counts.iter().find(|c| c.1 == 0) {
            return wrong(format!("{name} is 0; it must be 1 at least"));
        }
        let mut numbers = settings.ridges.iter().copied().chain([settings.rate]);
        if let Some(bad) = numbers.find(|v| !(v.is_finite() && *v > 0.0)) {
            return wrong(format!("ridges and rate must be positive numbers, and `{bad}` is not"));
        }
        if settings.ridges.is_empty() || !settings.ridges.is_sorted_by(|a, b| a < b) {
            return wrong("ridges must be a list of numbers from small to large, one at least".to_owned());
        }
        match &settings.text {
            Some(path) => {
                text::documents(&settings)?;
                settings.text_sha256 = Some(text::sha256(path)?);
            }
            None if settings.text_sha256.is_some() => {
                return wrong("text_sha256 is the hash of a text file, and no `text` is given".to_owned());
            }
            None => {}
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn impossible_values_are_refused() {
        for (given, said) in [
            (json!({"rows": 0}), "rows is 0"),
            (json!({"ridges": [0.1, -1.0]}), "`-1` is not"),
            (json!({"ridges": [0.1, 0.01]}), "from small to large"),
            (json!({"ridges": []}), "one at least"),
            (json!({"text_sha256": "00"}), "no `text` is given"),
            (json!({"patience": 3}), "unknown field"),
        ] {
            let error = Settings::read(&given).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
