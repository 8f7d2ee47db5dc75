//! How circuits are grown and tested.

use crate::bootstrap::RESAMPLES;
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use serde::{Deserialize, Serialize};

pub(super) const NAME: &str = "circuit";

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "source",
        value: "MODEL",
        help: "The model whose behaviour the circuit should bring; may be repeated",
    },
    Flag {
        name: "target",
        value: "MODEL",
        help: "The model that it is brought into (default: base); may be repeated",
    },
];

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    /// Prompts that circuits are grown on; at most half of all.
    pub prompts: usize,
    /// Other prompts that they are tested on.
    pub heldout: usize,
    /// Components that growth chooses from: those with the largest effects by themselves.
    pub candidates: usize,
    /// Growth ends at this faithfulness.
    pub faithfulness: f64,
    /// Or at this many components.
    pub max_size: usize,
    /// A component stays if removing it costs more faithfulness than this.
    pub tolerance: f64,
    /// Random circuits of equal size.
    pub random: usize,
    /// Bootstrap samples of the prompts that circuits are grown on, each with a circuit of its own; 0 for none.
    pub samples: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            target: Vec::new(),
            prompts: 16,
            heldout: 16,
            candidates: 40,
            faithfulness: 0.9,
            max_size: 16,
            tolerance: 0.01,
            random: 100,
            samples: 10,
        }
    }
}

impl Settings {
    pub fn check(&self) -> Result<()> {
        let refused = |why: String| Err(Error::Settings { analysis: NAME, why });
        let counts = [
            ("prompts", self.prompts),
            ("heldout", self.heldout),
            ("candidates", self.candidates),
            ("max_size", self.max_size),
            ("random", self.random),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return refused(format!("{name} is 0; it must be a whole number from 1"));
        }
        if self.samples > RESAMPLES {
            return refused(format!(
                "samples is {}; it must be a whole number from 0 to {RESAMPLES}",
                self.samples
            ));
        }
        if !(self.faithfulness > 0.0 && self.faithfulness <= 1.0) {
            return refused(format!("faithfulness is {}; it must be above 0, at most 1", self.faithfulness));
        }
        if !(self.tolerance >= 0.0 && self.tolerance < 1.0) {
            return refused(format!("tolerance is {}; it must be from 0 to below 1", self.tolerance));
        }
        Ok(())
    }
}
