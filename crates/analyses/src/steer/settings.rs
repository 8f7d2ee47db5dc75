//! What vectors are made, where they are added, how strongly, and what they are held against.

use super::NAME;
use crate::activations::Reading;
use crate::context::read_settings;
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::interventions::{distinct, models_of};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "source",
        value: "MODEL",
        help: "Make the vectors of this adapter (with --contrast of any model); may be repeated (default: all)",
    },
    Flag {
        name: "target",
        value: "MODEL",
        help: "Add what an adapter added to this model; may be repeated (default: base)",
    },
    Flag {
        name: "contrast",
        value: "KEY",
        help: "Also make vectors between two classes of prompts within each model, which is steered with its own: a key of the \
               prompts that has two values, or decision; may be repeated",
    },
    Flag {
        name: "site",
        value: "SITE",
        help: "resid_pre, resid_mid, resid_post, attn_out or mlp_out; may be repeated (default: resid_post)",
    },
    Flag {
        name: "layer",
        value: "LAYER",
        help: "Only this layer; may be repeated (default: a few, evenly spaced)",
    },
];

/// Where vectors are added; they are made at the decision point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    /// At the decision point.
    Decision,
    /// At every token up to it.
    All,
}

impl Position {
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::All => "all",
        }
    }
}

/// Settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Models whose vectors are made; every adapter if empty, and for contrasts every model.
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    /// Models to which an adapter's vector is added.
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    /// Keys of the prompts that have two values, or `decision`.
    #[serde(deserialize_with = "one_or_many")]
    pub contrast: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub site: Vec<String>,
    /// Empty: as many as `depths`, evenly spaced.
    #[serde(deserialize_with = "one_or_many")]
    pub layer: Vec<usize>,
    /// Number of layers where none is named.
    pub depths: usize,
    pub position: Position,
    /// Multiples of the vector.
    #[serde(deserialize_with = "one_or_many")]
    pub strengths: Vec<f64>,
    /// Random directions of the same norm.
    pub random: usize,
    /// Differences of means of random groups of prompts, brought to the same norm.
    pub shuffled: usize,
    /// Texts on which side effects are measured.
    pub texts: usize,
    /// How many of the random directions are added there, too.
    pub text_controls: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            target: vec!["base".to_owned()],
            contrast: Vec::new(),
            site: vec!["resid_post".to_owned()],
            layer: Vec::new(),
            depths: 4,
            position: Position::Decision,
            strengths: vec![-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0],
            random: 20,
            shuffled: 10,
            texts: 16,
            text_controls: 4,
        }
    }
}

/// An error of these settings.
pub(super) fn wrong<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}

impl Settings {
    /// With strengths in ascending order.
    pub fn read(given: &Value) -> Result<Self> {
        let mut settings: Self = read_settings(NAME, given)?;
        if let Some(strength) = settings.strengths.iter().find(|s| !s.is_finite() || s.abs() > 1e6) {
            return wrong(format!("strengths has {strength}; they must be numbers between -1e6 and 1e6"));
        }
        settings.strengths.sort_by(f64::total_cmp);
        settings.strengths.dedup();
        // Minus zero is zero.
        settings.strengths.iter_mut().for_each(|s| *s += 0.0);
        settings.strengths.dedup();
        if settings.strengths.iter().all(|s| *s == 0.0) {
            return wrong("strengths has nothing but 0, which steers nothing; give others".to_owned());
        }
        if settings.random == 0 {
            return wrong(
                "random is 0; a direction says little without others of its norm, so it must be at least 1"
                    .to_owned(),
            );
        }
        if settings.depths == 0 {
            return wrong("depths is 0; it must be at least 1".to_owned());
        }
        if settings.target.is_empty() {
            return wrong("target is empty; name the models that are steered, e.g. base".to_owned());
        }
        settings.text_controls = settings.text_controls.min(settings.random);
        Ok(settings)
    }

    /// Places where vectors are made and added.
    pub fn reading(&self, subject: &Subject) -> Result<Reading> {
        let n = subject.model.spec().n_layers;
        let layers = if self.layer.is_empty() { spaced(n, self.depths) } else { self.layer.clone() };
        Reading::new(NAME, subject, &self.site, &layers, &["decision".to_owned()])
    }

    /// Adapters whose difference from the base is a vector, and the models to which it is added.
    pub fn between_models(&self, subject: &Subject) -> Result<(Vec<usize>, Vec<usize>)> {
        let named = distinct(models_of(NAME, &self.source, subject)?);
        let all = || (1..subject.model.n_models()).collect();
        let sources = if named.is_empty() { all() } else { named.into_iter().filter(|&m| m != 0).collect() };
        Ok((sources, distinct(models_of(NAME, &self.target, subject)?)))
    }

    /// Models within which classes of prompts are contrasted.
    pub fn within_models(&self, subject: &Subject) -> Result<Vec<usize>> {
        match distinct(models_of(NAME, &self.source, subject)?) {
            named if named.is_empty() => Ok((0..subject.model.n_models()).collect()),
            named => Ok(named),
        }
    }
}

/// `k` layers of `n`, evenly spaced; the last is one of them.
fn spaced(n: usize, k: usize) -> Vec<usize> {
    let k = k.min(n);
    (1..=k).map(|i| (i * n).div_ceil(k) - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_are_spaced_evenly_and_end_with_the_last() {
        assert_eq!(spaced(30, 4), [7, 14, 22, 29]);
        assert_eq!(spaced(4, 4), [0, 1, 2, 3]);
        assert_eq!(spaced(3, 8), [0, 1, 2]);
        assert_eq!(spaced(26, 1), [25]);
    }

    #[test]
    fn strengths_are_put_in_order_and_impossible_ones_refused() {
        let settings = Settings::read(&json!({"strengths": [2, -0.0, 1, 0, 1]})).expect("good ones");
        assert_eq!(settings.strengths, [0.0, 1.0, 2.0]);
        for (given, said) in [
            (json!({"strengths": [0]}), "nothing but 0"),
            (json!({"strengths": []}), "nothing but 0"),
            (json!({"strengths": [1e9]}), "between -1e6 and 1e6"),
            (json!({"random": 0}), "random is 0"),
            (json!({"depths": 0}), "depths is 0"),
            (json!({"target": []}), "target is empty"),
            (json!({"position": "last"}), "unknown variant"),
        ] {
            let why = Settings::read(&given).expect_err(said).to_string();
            assert!(why.contains(said), "{why}");
        }
    }
}
