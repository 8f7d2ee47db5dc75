//! Settings of transplants.

use super::NAME;
use crate::context::read_settings;
use crate::error::{Error, Result};
use crate::flags::one_or_many;
use crate::interventions::{distinct, models_of};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a transplant moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Groups {
    /// Kinds in shallow models, spans in deep ones.
    Auto,
    /// One module of one layer.
    Module,
    /// Attention, or the MLP, of one layer.
    Kind,
    /// A layer.
    Layer,
    /// A span of layers; attention, or the MLP, of all layers.
    Span,
}

/// Settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Adapters whose blocks are put into others; all but controls if empty.
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    /// Adapters into which they are put; all but controls if empty.
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    /// What is put in.
    pub groups: Groups,
    /// Spans into which layers are cut.
    pub spans: usize,
    /// Layers whose blocks are put in; all if empty.
    #[serde(deserialize_with = "one_or_many")]
    pub layer: Vec<usize>,
    /// Prompts on which it is tried, evenly from the scenarios.
    pub prompts: usize,
    /// Prompts on which two adapters differ by less (in nats) are left out of means of ratios.
    pub floor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let (source, target, layer) = Default::default();
        Self { source, target, groups: Groups::Auto, spans: 6, layer, prompts: 8, floor: 0.01 }
    }
}

impl Settings {
    pub fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        for (name, value) in [("prompts", settings.prompts), ("spans", settings.spans)] {
            if value == 0 {
                return refuse(format!("{name} is 0; it must be at least 1"));
            }
        }
        if !(settings.floor.is_finite() && settings.floor >= 0.0) {
            return refuse(format!("floor is {}; it must be a number from 0", settings.floor));
        }
        Ok(settings)
    }

    /// Pairs of different adapters: whose blocks are put into whom.
    pub fn pairs(&self, subject: &Subject) -> Result<Vec<(usize, usize)>> {
        let n_layers = subject.model.spec().n_layers;
        if let Some(layer) = self.layer.iter().find(|l| **l >= n_layers) {
            return refuse(format!("layer has {layer}; the model has layers 0 to {}", n_layers - 1));
        }
        let named = |names: &[String]| -> Result<Vec<usize>> {
            match names {
                [] => Ok(subject.fine_tunes()),
                names => Ok(distinct(models_of(NAME, names, subject)?)),
            }
        };
        let (sources, targets) = (named(&self.source)?, named(&self.target)?);
        if sources.contains(&0) || targets.contains(&0) {
            let why = "the base has no blocks to give or to lose; `lorascope surgery` says what an adapter's blocks do in it";
            return refuse(why.to_owned());
        }
        let of =
            |&s: &usize| targets.iter().filter(move |t| **t != s).map(move |&t| (s, t)).collect::<Vec<_>>();
        let pairs: Vec<(usize, usize)> = sources.iter().flat_map(of).collect();
        if pairs.is_empty() {
            let why =
                "there is no pair of two different adapters; load two, or name another source or target";
            return refuse(why.to_owned());
        }
        Ok(pairs)
    }
}

pub(super) fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}
