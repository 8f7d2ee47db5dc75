//! What is looked for, where, and how it is judged.

use super::NAME;
use crate::activations::Reading;
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "target",
        value: "KEY",
        help: "What to look for: a key of the prompts, or decision for each model's own; may be repeated (default: every key that \
               varies within templates, and decision)",
    },
    Flag {
        name: "site",
        value: "SITE",
        help: "resid_pre, resid_mid, resid_post, attn_out or mlp_out; may be repeated (default: resid_post)",
    },
    Flag { name: "layer", value: "LAYER", help: "Only this layer; may be repeated" },
    Flag {
        name: "position",
        value: "POSITION",
        help: "decision, the name of a span (its last token), or a share of the way to the decision point such as 50%; may be \
               repeated (default: decision)",
    },
];

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Empty: every key that varies within templates, and the decision.
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub site: Vec<String>,
    /// Empty: all.
    #[serde(deserialize_with = "one_or_many")]
    pub layer: Vec<usize>,
    #[serde(deserialize_with = "one_or_many")]
    pub position: Vec<String>,
    /// Folds, of whole templates; as many inside each for choosing the strength.
    pub folds: usize,
    /// Penalties per coordinate to choose from.
    pub strengths: Vec<f64>,
    /// Shuffles of the labels for the control.
    pub controls: usize,
    /// Whether adapters are compared with each other too.
    pub pairs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: Vec::new(),
            site: vec!["resid_post".to_owned()],
            layer: Vec::new(),
            position: vec!["decision".to_owned()],
            folds: 5,
            strengths: vec![0.001, 0.01, 0.1, 1.0, 10.0, 100.0],
            controls: 5,
            pairs: false,
        }
    }
}

impl Settings {
    /// What can be checked without models.
    pub fn check(&self) -> Result<()> {
        if self.folds < 2 {
            return wrong(format!("folds is {}; it must be at least 2", self.folds));
        }
        let usable = |s: &f64| s.is_finite() && *s > 0.0;
        if self.strengths.is_empty() || !self.strengths.iter().all(usable) {
            return wrong(format!("strengths is {:?}; it must hold positive numbers", self.strengths));
        }
        if self.controls == 0 {
            return wrong(
                "controls is 0; a probe without a control says little, so it must be at least 1".to_owned(),
            );
        }
        Ok(())
    }

    /// The places that are read.
    pub fn reading(&self, subject: &Subject) -> Result<Reading> {
        Reading::new(NAME, subject, &self.site, &self.layer, &self.position)
    }
}

/// An error of the settings of this analysis.
pub(super) fn wrong<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}
