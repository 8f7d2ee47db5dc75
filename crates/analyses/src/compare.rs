//! Where do the models' representations part, how far, and towards what? Activations of two models on the same prompts, held
//! against each other layer by layer.
//!
//! *Cosine* and *relative norm* of the difference, by prompt: high cosines are normal in a residual stream, whose activations
//! share a large common part, so both stand beside the same numbers between different prompts on one model. *CKA* (Kornblith et al. 2019)
//! asks whether prompts lie as they lie in the other model, plain and debiased (Nguyen et al. 2021). The *difference lens* reads the
//! mean difference through the reference's final norm, frozen, and output matrix: the tokens that it promotes; and its component
//! along the decision direction is what it adds to the logit difference directly.
//!
//! Cost of a place: for each model a product of n² inner products of width d, for each pair a few sums over n² numbers and,
//! for the intervals, over the templates of each of the resamples.

mod alignment;
mod figures;
mod measure;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::Analysis;
use crate::activations::{Activations, Reading};
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::subject::Subject;
use lorascope_record::TableSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::{DECISION, SIMILARITY, TOKENS};

pub(crate) struct Compare;

const NAME: &str = "compare";

const FLAGS: &[Flag] = &[
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

/// What is compared, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    #[serde(deserialize_with = "one_or_many")]
    site: Vec<String>,
    /// Empty: all.
    #[serde(deserialize_with = "one_or_many")]
    layer: Vec<usize>,
    #[serde(deserialize_with = "one_or_many")]
    position: Vec<String>,
    /// Whether adapters are compared with each other too, not only with the base.
    pairs: bool,
    /// How many tokens are listed on each side.
    top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            site: vec!["resid_post".to_owned()],
            layer: Vec::new(),
            position: vec!["decision".to_owned()],
            pairs: false,
            top: 10,
        }
    }
}

impl Settings {
    fn reading(&self, subject: &Subject) -> Result<Reading> {
        if subject.model.n_models() < 2 {
            let why = "there is no adapter to compare with the base; load one".to_owned();
            return Err(Error::Settings { analysis: NAME, why });
        }
        Reading::new(NAME, subject, &self.site, &self.layer, &self.position)
    }

    /// Pairs of a model and its reference, in the order of models.
    fn pairs(&self, n_models: usize) -> Vec<(usize, usize)> {
        let first = |m: usize| if self.pairs { m } else { m.min(1) };
        (1..n_models).flat_map(|m| (0..first(m)).map(move |reference| (m, reference))).collect()
    }
}

static TABLES: &[&TableSpec] = &[&SIMILARITY, &DECISION, &TOKENS];

impl Analysis for Compare {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Representations compared"
    }
    fn question(&self) -> &'static str {
        "Where do the models' activations part, how far, and towards what?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn flags(&self) -> &'static [Flag] {
        FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        read_settings::<Settings>(NAME, settings)?.reading(subject).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let reading = settings.reading(context.subject)?;
        let activations = Activations::gather(context, &reading)?;
        let pairs = settings.pairs(context.subject.model.n_models());
        let measured = measure::measure(context, &reading, &activations, &pairs)?;
        let tokens = measure::tokens(context, &measured, settings.top)?;
        let (similarity, decision) = (measured.similarity(context)?, measured.decision(context)?);
        let section = figures::section(context, &reading, &measured, &tokens)?;
        Ok(Findings { tables: vec![similarity, decision, tokens], section })
    }
}
