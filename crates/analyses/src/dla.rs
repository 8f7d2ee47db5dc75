//! Which components carry the decision? Direct logit attribution (Elhage et al. 2021), exact, per head.
//!
//! With the final norm frozen at its actual scale σ, the final residual is a sum of components, and each contributes
//! `c = w · component / σ` to the difference of the two deciding logits, w being the difference of their output rows taken back
//! through the norm's weight. Gemma's norms after attention and MLP are frozen likewise, so heads stay additive. Contributions
//! come from weights taken back ([`lorascope_engine::Model::pull_back`]): no component's output is computed.
//!
//! Work goes block by block of prompts. Besides what the forward pass takes, a block holds the heads' z and the MLPs' inner values at
//! one row per prompt and model: 4·N·(heads·d_head + d_mlp) bytes each.

mod attribute;
mod figures;
mod slices;
mod summary;
mod tables;
mod words;

pub(crate) use summary::Values;
pub(crate) use tables::{Component, Kind};

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use lorascope_record::TableSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::{CHECK, CONTRIBUTIONS, DIFFERENCES, MEANS};

pub(crate) struct Dla;

const NAME: &str = "dla";

/// Settings of direct logit attribution.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// How many neurons of each layer are listed.
    neurons: Neurons,
    /// Whether adapters are compared with each other too, not only with the base.
    pairs: bool,
    /// How many components in favour of each answer the report lists.
    top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { neurons: Neurons::Top(0), pairs: false, top: 20 }
    }
}

/// How many neurons of each layer are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Neurons {
    /// Those with the largest contributions.
    Top(usize),
    /// Every one.
    All(All),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum All {
    All,
}

static TABLES: &[&TableSpec] = &[&CONTRIBUTIONS, &CHECK, &MEANS, &DIFFERENCES];

impl Analysis for Dla {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Direct logit attribution"
    }
    fn question(&self) -> &'static str {
        "Which heads and MLPs carry the decision, and which of them changed?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        if let Some(neurons) = given.get("neurons")
            && serde_json::from_value::<Neurons>(neurons.clone()).is_err()
        {
            let why = format!("neurons is {neurons}; it must be a whole number from 0, or \"all\"");
            return Err(Error::Settings { analysis: NAME, why });
        }
        let settings: Settings = read_settings(NAME, given)?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        let primary = &subject.primary_pairs()?;
        let blocks = subject.blocks();
        // Taking directions back takes about as long as a few layers' products.
        let layers = subject.model.spec().n_layers as u64;
        context.progress.begin("attributing logits", 2 * layers * blocks.len() as u64);
        let names: Vec<[String; 2]> =
            (0..blocks.len()).map(|b| [format!("dla-{b:05}"), format!("dla-check-{b:05}")]).collect();
        let [mut contributions, mut check] =
            context.parts_together(&names, [&CONTRIBUTIONS, &CHECK], |b| {
                let at = |done: usize| context.progress.at(2 * b as u64 * layers + done as u64);
                attribute::block(subject, &blocks[b], primary, settings.neurons, &at).map(Into::into)
            })?;
        context.progress.end();
        contributions.sort_by_keys();
        check.sort_by_keys();
        context.progress.begin("comparing models", 1);
        let values = summary::Values::new(subject, &contributions)?;
        let (means, differences) = summary::summarise(context, &values, settings.pairs)?;
        context.progress.end();
        let section = figures::section(context, &settings, &check, &means, &differences, &values)?;
        Ok(Findings { tables: vec![contributions, check, means, differences], section })
    }
}

/// Contributions of all components on all prompts, for other analyses: as this one has left them in the run folder, else
/// computed and kept under the name `parts`.
pub(crate) fn contributions(context: &Context, parts: &str) -> Result<Values> {
    let subject = context.subject;
    let primary = &subject.primary_pairs()?;
    let blocks = subject.blocks();
    let layers = subject.model.spec().n_layers as u64;
    context.progress.begin("attributing logits", 2 * layers * blocks.len() as u64);
    let name = |b: usize| {
        let own = format!("dla-{b:05}");
        Ok(if context.kept(&own)?.is_some() { own } else { format!("{parts}-{b:05}") })
    };
    let names: Vec<String> = (0..blocks.len()).map(name).collect::<Result<_>>()?;
    let mut table = context.parts(&names, &CONTRIBUTIONS, |b| {
        let at = |done: usize| context.progress.at(2 * b as u64 * layers + done as u64);
        attribute::block(subject, &blocks[b], primary, Neurons::Top(0), &at).map(|b| b.0)
    })?;
    context.progress.end();
    table.sort_by_keys();
    Values::new(subject, &table)
}
