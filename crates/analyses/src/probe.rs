//! From which layer on can a label be read from activations, and do models differ in that? Linear probes (Alain & Bengio 2016),
//! with the controls without which they say little (Hewitt & Liang 2019).
//!
//! At every chosen place of every model a linear probe predicts a label of the prompts: a key that they carry, or the model's own
//! decision. Two classes by logistic regression, numbers by ridge regression, both with an L2 penalty. Prompts made from one
//! template are never on both sides of a split: folds are of whole templates, and so are the folds inside each fold by which
//! the penalty is chosen; features are standardised by the fitted prompts alone. Every probe stands beside the larger class (or
//! the mean) and beside probes of the same strength on shuffled labels: *selectivity* is what remains.
//!
//! Cost of a place: for each of `folds·(folds + 1)` splits one product of n² inner products of width d, and some factors of n×n
//! matrices for each label, whatever d ([`crate::linear`]).

mod figures;
mod fit;
mod folds;
mod settings;
mod slices;
mod summary;
mod tables;
pub(crate) mod targets;
#[cfg(test)]
mod tests;
mod words;

use crate::Analysis;
use crate::activations::Activations;
use crate::context::{Context, Findings, read_settings};
use crate::error::Result;
use crate::flags::Flag;
use crate::subject::Subject;
use fit::{Labels, Outcome, fold_outcomes};
use folds::Folds;
use lorascope_engine::Mat;
use lorascope_record::{Table, TableSpec};
use rayon::prelude::*;
use serde_json::Value;
use settings::Settings;
use tables::{DIFFERENCES, PREDICTIONS, SCORES};
use targets::Target;

pub(crate) struct Probe;

const NAME: &str = "probe";

static TABLES: &[&TableSpec] = &[&PREDICTIONS, &SCORES, &DIFFERENCES];

impl Analysis for Probe {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Probes"
    }
    fn question(&self) -> &'static str {
        "What can be read from each layer's activations, and do the models differ in it?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn flags(&self) -> &'static [Flag] {
        settings::FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        settings.check()?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings: Settings = read_settings(NAME, settings)?;
        settings.reading(subject)?;
        targets::check(&settings.target, subject)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let reading = settings.reading(context.subject)?;
        let activations = Activations::gather(context, &reading)?;
        let probing = Probing::new(context, settings, &activations)?;
        context.progress.begin("probing layers", reading.layers.len() as u64);
        let names: Vec<String> = reading.layers.iter().map(|layer| format!("{NAME}-{layer:05}")).collect();
        let mut predictions = context.parts(&names, &PREDICTIONS, |i| {
            let layer = reading.layers[i];
            let found =
                probing.layer(context, &activations.layer(context, layer)?, &reading.places(layer))?;
            context.progress.at(i as u64 + 1);
            Ok(found)
        })?;
        context.progress.end();
        predictions.sort_by_keys();
        context.progress.begin("comparing models", 1);
        let (scores, differences) = summary::summarise(context, &probing, &reading, &predictions)?;
        context.progress.end();
        let section = figures::section(context, &probing, &reading, &predictions, &scores, &differences)?;
        Ok(Findings { tables: vec![predictions, scores, differences], section })
    }
}

/// What is looked for, with the folds that it is judged by.
#[derive(Debug)]
struct Probing {
    settings: Settings,
    targets: Vec<Target>,
    /// For each target, its folds; targets of the same prompts share them.
    folds_of: Vec<usize>,
    folds: Vec<Folds>,
}

impl Probing {
    fn new(context: &Context, settings: Settings, activations: &Activations) -> Result<Self> {
        let deltas = || activations.deltas(context);
        let targets = targets::targets(&settings.target, context.subject, deltas)?;
        let mut folds: Vec<Folds> = Vec::new();
        let mut folds_of = Vec::new();
        for target in &targets {
            let prompts = target.labelled();
            let known = folds.iter().position(|f| f.prompts == prompts);
            folds_of.push(known.unwrap_or(folds.len()));
            if known.is_none() {
                folds.push(Folds::new(context.subject, prompts, &settings, context.seed));
            }
        }
        Ok(Self { settings, targets, folds_of, folds })
    }

    /// The folds of a target.
    fn folds(&self, target: usize) -> &Folds {
        &self.folds[self.folds_of[target]]
    }

    /// Why a target can't be probed on a model, whatever the place.
    fn problem(&self, target: usize, model: usize) -> Option<String> {
        self.folds(target).problem(&self.targets[target], model)
    }

    /// Predictions at all places of a layer, for all models and targets.
    fn layer(
        &self,
        context: &Context,
        places: &[Mat<f32>],
        names: &[crate::activations::Place],
    ) -> Result<Table> {
        let subject = context.subject;
        let n = subject.prompts.len();
        let mut units = Vec::new();
        for place in 0..places.len() {
            for model in 0..subject.model.n_models() {
                for set in 0..self.folds.len() {
                    let of_set = (0..self.targets.len()).filter(|&t| self.folds_of[t] == set);
                    let asked: Vec<usize> = of_set.filter(|&t| self.problem(t, model).is_none()).collect();
                    if !asked.is_empty() {
                        units.extend(
                            (0..self.folds[set].folds.len()).map(|f| (place, model, set, f, asked.clone())),
                        );
                    }
                }
            }
        }
        let found: Vec<Vec<Option<Vec<Outcome>>>> = units
            .par_iter()
            .map(|(place, model, set, fold, asked)| {
                let rows: Vec<usize> = (model * n..(model + 1) * n).collect();
                let rows = places[*place].gather(&rows);
                let values: Vec<Vec<f64>> = asked.iter().map(|&t| self.values(t, *model)).collect();
                let labels: Vec<Labels> = asked
                    .iter()
                    .zip(&values)
                    .map(|(&t, values)| Labels { classes: self.targets[t].is_classes(), values })
                    .collect();
                fold_outcomes(&rows, &self.folds[*set], *fold, &labels, &self.settings)
            })
            .collect();
        let mut table = Table::new(&PREDICTIONS);
        for ((place, model, _, _, asked), found) in units.iter().zip(found) {
            for (&target, outcomes) in asked.iter().zip(found) {
                let at = (subject.model.name(*model), self.targets[target].name.as_str(), &names[*place]);
                for outcome in outcomes.into_iter().flatten() {
                    push(&mut table, at, subject.prompts[outcome.prompt].id(), &outcome)?;
                }
            }
        }
        Ok(table)
    }

    /// Labels of all prompts; 0 for those without, which no fold holds.
    fn values(&self, target: usize, model: usize) -> Vec<f64> {
        self.targets[target].values(model).iter().map(|v| v.unwrap_or_default()).collect()
    }
}

fn push(
    table: &mut Table,
    (model, target, place): (&str, &str, &crate::activations::Place),
    prompt: &str,
    outcome: &Outcome,
) -> Result<()> {
    table.push(&[
        model.into(),
        target.into(),
        place.site.short_name().into(),
        place.layer.into(),
        place.position.as_str().into(),
        prompt.into(),
        outcome.fold.into(),
        outcome.strength.into(),
        outcome.truth.into(),
        outcome.score.into(),
        outcome.result.into(),
        outcome.baseline.into(),
        outcome.control.into(),
        outcome.control_baseline.into(),
    ])?;
    Ok(())
}
