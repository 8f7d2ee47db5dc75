//! What is estimated, how, and how much of it is verified.

use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::interventions::Estimator;
use crate::patch::{PositionName, Settings as Patches};
use lorascope_engine::Rules;
use serde::{Deserialize, Serialize};

pub(super) const NAME: &str = "attribution";

/// Estimators by name, in the order of the table's columns.
pub(super) const ESTIMATORS: [&str; 6] = ["gradient", "qk_fix", "gim", "relp", "atp_star", "integrated"];

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "source",
        value: "MODEL",
        help: "As for patch: take activations from here; may be repeated",
    },
    Flag { name: "target", value: "MODEL", help: "Put them into this model; may be repeated" },
    Flag { name: "site", value: "SITE", help: "Kind of place, as for patch; may be repeated" },
    Flag { name: "layer", value: "LAYER", help: "Only this layer; may be repeated" },
    Flag {
        name: "position",
        value: "POSITION",
        help: "decision, all, each, a number, or a span; may be repeated",
    },
    Flag {
        name: "estimator",
        value: "NAME",
        help: "gradient, qk_fix, gim, relp, atp_star or integrated; may be repeated (default: gradient, gim, relp)",
    },
];

/// Settings, with their defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub site: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub layer: Vec<usize>,
    #[serde(deserialize_with = "one_or_many")]
    pub position: Vec<PositionName>,
    #[serde(deserialize_with = "one_or_many")]
    pub joint: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub between: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub estimator: Vec<String>,
    /// Places of each pair and position that are patched exactly: those with the largest estimates of any estimator.
    pub top: usize,
    /// Others that are, drawn at random.
    pub sample: usize,
    /// Points of the path of the integrated estimate.
    pub nodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let Patches { source, target, site, layer, position, joint, between, floor: _ } = Patches::default();
        let estimator = ["gradient", "gim", "relp"].map(str::to_owned).to_vec();
        Self {
            source,
            target,
            site,
            layer,
            position,
            joint,
            between,
            estimator,
            top: 20,
            sample: 20,
            nodes: 8,
        }
    }
}

impl Settings {
    /// The same places as settings of patching.
    pub fn patches(&self) -> Patches {
        Patches {
            source: self.source.clone(),
            target: self.target.clone(),
            site: self.site.clone(),
            layer: self.layer.clone(),
            position: self.position.clone(),
            joint: self.joint.clone(),
            between: self.between.clone(),
            ..Patches::default()
        }
    }

    /// What can be checked without models.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::Settings { analysis: NAME, why });
        if let Some(unknown) = self.estimator.iter().find(|e| !ESTIMATORS.contains(&e.as_str())) {
            return refuse(format!("`{unknown}` is not an estimator; they are {}", ESTIMATORS.join(", ")));
        }
        if self.estimator.is_empty() {
            return refuse(format!("estimator is empty; give some of {}", ESTIMATORS.join(", ")));
        }
        if self.top == 0 {
            return refuse(
                "top is 0; without exact values nobody knows what the estimates are worth".to_owned(),
            );
        }
        if !(1..=64).contains(&self.nodes) {
            return refuse(format!("nodes is {}; it must be from 1 to 64", self.nodes));
        }
        self.patches().check()
    }

    /// Those asked for, in the order of the table's columns.
    pub fn estimators(&self) -> Vec<(&'static str, Estimator)> {
        let of = |name: &'static str| match name {
            "gim" => Estimator::Local(Rules::GIM),
            "relp" => Estimator::Local(Rules::RELP),
            "qk_fix" => Estimator::ExactPatterns,
            "atp_star" => Estimator::AtpStar,
            "integrated" => Estimator::Integrated(self.nodes),
            _ => Estimator::Local(Rules::EXACT),
        };
        let asked = |name: &&str| self.estimator.iter().any(|e| e == name);
        ESTIMATORS.into_iter().filter(asked).map(|name| (name, of(name))).collect()
    }
}
