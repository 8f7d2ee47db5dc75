//! Settings of surgery.

use super::NAME;
use crate::context::read_settings;
use crate::error::{Error, Result};
use crate::flags::one_or_many;
use crate::interventions::{distinct, models_of};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Size {
    /// The finest that gives few enough blocks.
    Auto,
    /// One module of one layer.
    Module,
    /// Attention, or the MLP, of one layer.
    Kind,
    /// A layer.
    Layer,
}

/// Settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Adapters that are taken apart; all but controls if empty.
    #[serde(deserialize_with = "one_or_many")]
    pub adapter: Vec<String>,
    /// What a block is.
    pub blocks: Size,
    /// Prompts on which sets are chosen, and as many others on which they are tested.
    pub prompts: usize,
    /// Share of the adapter's behaviour that the smallest set recovers.
    pub share: f64,
    /// Most blocks that are tried at each step of the greedy order: those with the largest last known gains, as long as one of them may
    /// still add most; 0 for all.
    pub candidates: usize,
    /// Random orders.
    pub orders: usize,
    /// Sizes at which orders are measured.
    pub points: usize,
    /// Whether random orders are measured at every size, which gives Shapley values.
    pub shapley: bool,
    /// Factors of the whole adapter.
    pub scales: Vec<f64>,
    /// Prompts whose delta an adapter moves by less (in nats) are left out of means of ratios.
    pub floor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            adapter: Vec::new(),
            blocks: Size::Auto,
            prompts: 8,
            share: 0.9,
            candidates: 6,
            orders: 20,
            points: 2,
            shapley: false,
            scales: vec![0.0, 0.25, 0.5, 0.75, 1.0, 1.5],
            floor: 0.01,
        }
    }
}

impl Settings {
    pub fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        let refuse = |why: String| Err(Error::Settings { analysis: NAME, why });
        for (name, value) in
            [("prompts", settings.prompts), ("points", settings.points), ("orders", settings.orders)]
        {
            if value == 0 {
                return refuse(format!("{name} is 0; it must be at least 1"));
            }
        }
        if !(settings.share > 0.0 && settings.share <= 1.0) {
            return refuse(format!("share is {}; it must lie above 0 and not above 1", settings.share));
        }
        if let Some(scale) = settings.scales.iter().find(|s| !s.is_finite()) {
            return refuse(format!("scales has {scale}; factors must be finite numbers"));
        }
        if !(settings.floor.is_finite() && settings.floor >= 0.0) {
            return refuse(format!("floor is {}; it must be a number from 0", settings.floor));
        }
        Ok(settings)
    }

    /// The adapters, as models of the subject.
    pub fn adapters(&self, subject: &Subject) -> Result<Vec<usize>> {
        let refuse = |why: String| Err(Error::Settings { analysis: NAME, why });
        let chosen = match &self.adapter[..] {
            [] => subject.fine_tunes(),
            names => distinct(models_of(NAME, names, subject)?),
        };
        if chosen.contains(&0) {
            return refuse("the base has nothing to take apart; name adapters".to_owned());
        }
        if chosen.is_empty() {
            return refuse(
                "there is no adapter to take apart; load one with `--adapter NAME=FOLDER`".to_owned(),
            );
        }
        Ok(chosen)
    }
}
