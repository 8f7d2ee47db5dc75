//! What is patched into what, where, and at which positions.

use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::interventions::{
    PlaceKind, Unit, at_least_one, distinct, model_of, model_pairs, models_of, parse_site, units_of,
};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use std::fmt;

pub(super) const NAME: &str = "patch";

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "source",
        value: "MODEL",
        help: "Take activations from this model (base, an adapter's name), or zero, mean, resample to ablate; may be repeated",
    },
    Flag { name: "target", value: "MODEL", help: "Put them into this model; may be repeated" },
    Flag {
        name: "site",
        value: "SITE",
        help: "Kind of place: z, result, q, k, v, pattern, attn_out, mlp_out, resid_pre, resid_mid, resid_post, mlp_post, \
               neuron, adapter, adapter_head, adapter_rank; may be repeated (default: z, attn_out, mlp_out)",
    },
    Flag { name: "layer", value: "LAYER", help: "Only this layer; may be repeated" },
    Flag {
        name: "position",
        value: "POSITION",
        help: "decision, all, each, a number, or the name of a span; may be repeated (default: decision)",
    },
    Flag {
        name: "joint",
        value: "UNITS",
        help: "Patch these units together, e.g. z:3.1+mlp_out:5; may be repeated",
    },
    Flag {
        name: "between",
        value: "FROM:TO",
        help: "Patch between prompts of one model: from prompts of scenario FROM into those of scenario TO that have the same \
               variant, length and decision point; may be repeated",
    },
];

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Models whose activations are taken, or ablations. Empty: see [`Settings::pairs`].
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    /// Models that they are put into.
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub site: Vec<String>,
    /// Empty: all.
    #[serde(deserialize_with = "one_or_many")]
    pub layer: Vec<usize>,
    #[serde(deserialize_with = "one_or_many")]
    pub position: Vec<PositionName>,
    #[serde(deserialize_with = "one_or_many")]
    pub joint: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub between: Vec<String>,
    /// Recovery is null where |delta_source − delta_target| is below this, in logits.
    pub floor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let texts = |all: &[&str]| all.iter().map(|&t| t.to_owned()).collect();
        Self {
            source: Vec::new(),
            target: Vec::new(),
            site: texts(&["z", "attn_out", "mlp_out"]),
            layer: Vec::new(),
            position: vec![PositionName::Name("decision".to_owned())],
            joint: Vec::new(),
            between: Vec::new(),
            floor: 0.1,
        }
    }
}

/// A position as it is written: a number, alone or as text, or a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, from = "Written")]
pub(crate) enum PositionName {
    Number(usize),
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a position must be decision, all, each, a whole number from 0, or a span")]
enum Written {
    Number(usize),
    Text(String),
}

impl fmt::Display for PositionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl std::convert::From<Written> for PositionName {
    fn from(written: Written) -> Self {
        match written {
            Written::Number(n) => Self::Number(n),
            Written::Text(text) => text.parse().map_or(Self::Name(text), Self::Number),
        }
    }
}

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum From {
    Model(usize),
    Zero,
    Mean,
    Resample,
}

impl From {
    pub fn name(self, subject: &Subject) -> String {
        match self {
            Self::Model(m) => subject.model.name(m).to_owned(),
            Self::Zero => "zero".to_owned(),
            Self::Mean => "mean".to_owned(),
            Self::Resample => "resample".to_owned(),
        }
    }

    /// The model, unless it is an ablation.
    pub fn model(self) -> Option<usize> {
        if let Self::Model(m) = self { Some(m) } else { None }
    }

    fn parse(name: &str, subject: &Subject) -> Result<Self> {
        Ok(match name {
            "zero" => Self::Zero,
            "mean" => Self::Mean,
            "resample" => Self::Resample,
            _ => Self::Model(model_of(NAME, name, subject)?),
        })
    }
}

pub(super) fn refused(why: String) -> Error {
    Error::Settings { analysis: NAME, why }
}

impl Settings {
    /// What can be checked without models.
    pub fn check(&self) -> Result<()> {
        for site in &self.site {
            parse_site(site).map_err(refused)?;
        }
        if !(self.floor.is_finite() && self.floor >= 0.0) {
            return Err(refused(format!("floor is {}; it must be a number from 0", self.floor)));
        }
        if self.position.is_empty() {
            return Err(refused(
                "position is empty; give decision, all, each, a number or a span".to_owned(),
            ));
        }
        if let Some(wrong) = self.between.iter().find(|b| b.split_once(':').is_none()) {
            return Err(refused(format!("between is `{wrong}`; it must be FROM:TO, two scenarios")));
        }
        Ok(())
    }

    /// Pairs of source and target, in order. Without either: every adapter into the base, and the base into every adapter;
    /// between prompts: every model into itself.
    pub fn pairs(&self, subject: &Subject) -> Result<Vec<(From, usize)>> {
        let n = subject.model.n_models();
        let sources = self.source.iter().map(|s| From::parse(s, subject)).collect::<Result<Vec<_>>>()?;
        let targets = models_of(NAME, &self.target, subject)?;
        let all_targets = if targets.is_empty() { (0..n).collect() } else { targets.clone() };
        if !self.between.is_empty() && sources.is_empty() {
            return Ok(all_targets.into_iter().map(|m| (From::Model(m), m)).collect());
        }
        let models: Vec<usize> = sources.iter().filter_map(|s| s.model()).collect();
        let ablations = sources.iter().filter(|s| s.model().is_none());
        let mut pairs: Vec<(From, usize)> =
            ablations.flat_map(|&s| all_targets.iter().map(move |&t| (s, t))).collect();
        if !self.between.is_empty() {
            pairs.extend(models.iter().flat_map(|&s| all_targets.iter().map(move |&t| (From::Model(s), t))));
        } else if !models.is_empty() || sources.is_empty() {
            let both_ways = (1..n).flat_map(|m| [(m, 0), (0, m)]).collect();
            let found = model_pairs(&models, &targets, n, both_ways);
            pairs.extend(found.into_iter().map(|(s, t)| (From::Model(s), t)));
        }
        at_least_one(NAME, pairs)
    }

    /// Sets of units that are patched, each set together: every unit of the sites by itself, then the joint sets; none twice.
    /// Neither model of a pair need have any.
    pub fn sets(&self, subject: &Subject, pair: (From, usize)) -> Result<Vec<Vec<Unit>>> {
        let spec = subject.model.spec();
        if let Some(layer) = self.layer.iter().find(|&&l| l >= spec.n_layers) {
            return Err(refused(format!(
                "layer {layer} does not exist; layers are 0 to {}",
                spec.n_layers - 1
            )));
        }
        let mut kinds: Vec<PlaceKind> = Vec::new();
        for site in &self.site {
            kinds.extend(parse_site(site).map_err(refused)?);
        }
        let models: Vec<usize> = pair.0.model().into_iter().chain([pair.1]).collect();
        let layers = (!self.layer.is_empty()).then_some(&self.layer[..]);
        let mut sets: Vec<Vec<Unit>> =
            units_of(subject, &kinds, layers, &models).into_iter().map(|u| vec![u]).collect();
        for joint in &self.joint {
            let units = joint.split('+').map(|u| Unit::parse(u.trim(), spec).map_err(refused));
            sets.push(distinct(units.collect::<Result<_>>()?));
        }
        Ok(distinct(sets))
    }
}
