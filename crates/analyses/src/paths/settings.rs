//! Which edges and spans are patched.

use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::interventions::{Estimator, Receiver, Unit, is_sender};
use crate::subject::Subject;
use lorascope_engine::Rules;
use serde::{Deserialize, Serialize};

pub(super) const NAME: &str = "paths";

/// Estimators of edges, in the order of the table's columns.
pub(super) const ESTIMATORS: [&str; 2] = ["gradient", "integrated"];

pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "source", value: "MODEL", help: "Take what senders write from this model; may be repeated" },
    Flag { name: "target", value: "MODEL", help: "Put it into this model; may be repeated" },
    Flag {
        name: "sender",
        value: "UNIT",
        help: "result:LAYER.HEAD, attn_out:LAYER or mlp_out:LAYER; may be repeated (default: those with the largest effects)",
    },
    Flag {
        name: "receiver",
        value: "READER",
        help: "q:LAYER.HEAD, k:…, v:…, head:LAYER.HEAD (all three), mlp:LAYER, logits, logits_frozen; may be repeated",
    },
    Flag {
        name: "span",
        value: "KIND:FIRST-LAST",
        help: "residual, attn or mlp of layers FIRST to LAST together; KIND:FIRST- for every LAST from there; may be repeated",
    },
];

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub target: Vec<String>,
    /// Empty: the `top` heads and MLPs with the largest effects of each pair.
    #[serde(deserialize_with = "one_or_many")]
    pub sender: Vec<String>,
    /// Empty: the same heads and MLPs as readers, and the logits.
    #[serde(deserialize_with = "one_or_many")]
    pub receiver: Vec<String>,
    pub top: usize,
    /// Prompts on which these are chosen, evenly from the scenarios.
    pub prompts: usize,
    #[serde(deserialize_with = "one_or_many")]
    pub span: Vec<String>,
    /// How changes of edges are estimated beside the exact ones: `gradient`, `integrated`.
    #[serde(deserialize_with = "one_or_many")]
    pub estimator: Vec<String>,
    /// Points of the path of the integrated estimate.
    pub nodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (source, target, sender, receiver) = Default::default();
        let span = ["residual:0-", "attn:0-", "mlp:0-"].map(str::to_owned).to_vec();
        let estimator = vec!["gradient".to_owned()];
        Self { source, target, sender, receiver, top: 8, prompts: 24, span, estimator, nodes: 8 }
    }
}

/// Components of consecutive layers that are patched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub attention: bool,
    pub mlp: bool,
    pub first: usize,
    pub last: usize,
}

impl Span {
    pub fn kind(self) -> &'static str {
        match (self.attention, self.mlp) {
            (true, true) => "residual",
            (true, false) => "attn",
            _ => "mlp",
        }
    }

    fn parse(given: &str, n_layers: usize) -> Result<Vec<Self>> {
        let wrong = |why: &str| refused(format!("span `{given}`: {why}"));
        let form = || wrong("it must be residual, attn or mlp with layers, e.g. residual:2-9 or mlp:0-");
        let (kind, layers) = given.split_once(':').ok_or_else(form)?;
        let (attention, mlp) = match kind {
            "residual" => (true, true),
            "attn" => (true, false),
            "mlp" => (false, true),
            _ => return Err(form()),
        };
        let (first, last) = layers.split_once('-').ok_or_else(form)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| form());
        let first = number(first)?;
        let lasts = if last.is_empty() { first..n_layers } else { number(last)?..number(last)? + 1 };
        if lasts.is_empty() || lasts.end > n_layers || first > lasts.start {
            return Err(wrong(&format!("layers are 0 to {}, the first before the last", n_layers - 1)));
        }
        Ok(lasts.map(|last| Self { attention, mlp, first, last }).collect())
    }
}

pub(super) fn refused(why: String) -> Error {
    Error::Settings { analysis: NAME, why }
}

impl Settings {
    /// What can be checked without models.
    pub fn check(&self) -> Result<()> {
        if self.top == 0 && self.chooses() {
            return Err(refused("top is 0; name senders and receivers, or a number from 1".to_owned()));
        }
        if self.prompts == 0 {
            return Err(refused("prompts is 0; senders and readers are chosen on 1 or more".to_owned()));
        }
        if let Some(unknown) = self.estimator.iter().find(|e| !ESTIMATORS.contains(&e.as_str())) {
            let why = format!("`{unknown}` is not an estimator of edges; they are {}", ESTIMATORS.join(", "));
            return Err(refused(why));
        }
        if !(1..=64).contains(&self.nodes) {
            return Err(refused(format!("nodes is {}; it must be from 1 to 64", self.nodes)));
        }
        Ok(())
    }

    /// Whether senders or receivers are left to be chosen by their effects.
    pub fn chooses(&self) -> bool {
        self.sender.is_empty() || self.receiver.is_empty()
    }

    /// For each of [`ESTIMATORS`], how it is done if it was asked for.
    pub fn estimators(&self) -> [Option<Estimator>; 2] {
        let asked = |name: &str| self.estimator.iter().any(|e| e == name);
        [
            asked("gradient").then_some(Estimator::Local(Rules::EXACT)),
            asked("integrated").then_some(Estimator::Integrated(self.nodes)),
        ]
    }

    pub fn senders(&self, subject: &Subject) -> Result<Vec<Unit>> {
        let sender = |given: &String| {
            let unit = Unit::parse(given, subject.model.spec()).map_err(refused)?;
            if is_sender(&unit) {
                return Ok(unit);
            }
            Err(refused(format!(
                "`{given}` adds nothing to the residual stream; use result, attn_out or mlp_out"
            )))
        };
        self.sender.iter().map(sender).collect()
    }

    pub fn receivers(&self, subject: &Subject) -> Result<Vec<Receiver>> {
        self.receiver.iter().map(|r| Receiver::parse(r, subject.model.spec()).map_err(refused)).collect()
    }

    pub fn spans(&self, subject: &Subject) -> Result<Vec<Span>> {
        let n_layers = subject.model.spec().n_layers;
        let mut spans = Vec::new();
        for given in &self.span {
            spans.extend(Span::parse(given, n_layers)?);
        }
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
    }
}
