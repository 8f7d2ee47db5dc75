//! Which heads and MLPs that push the decision one way in one model were suppressed in another, and how?
//!
//! One adapter is the *reference* (a selfish one, say); every other is held against it. On prompt p both differ by
//! `d = delta_reference − delta_model`, and everything is counted in the reference's direction, `s = sign(d)`, as a share of
//! `Σ |d|`. What a component writes directly ([direct logit attribution](crate::dla)) is its *push*, `Σ s·c / Σ |d|`; the difference of
//! the pushes of all components adds up to 1. `index = 1 − Σ s·c_model / Σ s·c_reference` is 0 where a component pushes as before, 1
//! where it is silent, above 1 where it pushes the other way. What it does causally is patched, both ways: the reference's output
//! put into the model (*restored*), and the model's into the reference (*removed*).
//!
//! A component that is said to be unchanged has passed an equivalence test in all three; one that writes the same as before along the
//! decision and yet acts is called rerouted: later components read what it writes.

mod classes;
mod figures;
mod measure;
mod tables;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many, single};
use crate::interventions::{Sweep, distinct, model_of, models_of};
use crate::subject::Subject;
use lorascope_record::{Table, TableSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::{CHANGES, SUPPRESSION, TOTALS};

pub(crate) struct Suppression;

const NAME: &str = "suppression";

/// Settings of the suppression.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The adapter whose components may have been suppressed; the first one if null.
    #[serde(deserialize_with = "single")]
    reference: Option<String>,
    /// Models that are held against it; all other adapters that are no controls if empty.
    #[serde(deserialize_with = "one_or_many")]
    model: Vec<String>,
    /// Share of the difference between both models within which a component counts as unchanged.
    margin: f64,
    /// How many components of each model the report lists.
    top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reference: None, model: Vec::new(), margin: 0.05, top: 12 }
    }
}

impl Settings {
    /// The reference, and the models that are held against it.
    fn models(&self, subject: &Subject) -> Result<(usize, Vec<usize>)> {
        let fine_tunes = subject.fine_tunes();
        let reference = match (&self.reference, fine_tunes.first()) {
            (Some(name), _) => model_of(NAME, name, subject)?,
            (None, Some(&first)) => first,
            (None, None) => return refuse("there is no adapter to compare; load one".to_owned()),
        };
        let given = distinct(models_of(NAME, &self.model, subject)?);
        // With a single adapter, what is left to compare it with is the base.
        let all = if fine_tunes.len() > 1 { fine_tunes } else { vec![0, reference] };
        let models: Vec<usize> =
            if given.is_empty() { all } else { given }.into_iter().filter(|m| *m != reference).collect();
        if models.is_empty() {
            let name = subject.model.name(reference);
            return refuse(format!("no model is left to be held against `{name}`"));
        }
        Ok((reference, models))
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}

const FLAGS: &[Flag] = &[
    Flag {
        name: "reference",
        value: "MODEL",
        help: "The adapter whose heads may have been suppressed (default: the first)",
    },
    Flag {
        name: "model",
        value: "MODEL",
        help: "Hold this model against it; may be repeated (default: all other adapters)",
    },
];

static TABLES: &[&TableSpec] = &[&SUPPRESSION, &TOTALS, &CHANGES];

impl Analysis for Suppression {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Suppression"
    }
    fn question(&self) -> &'static str {
        "Which heads and MLPs that push one model's way are suppressed, turned round or rerouted in the others?"
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
        if !(settings.margin > 0.0 && settings.margin < 1.0) {
            return refuse(format!("margin is {}; it must lie between 0 and 1", settings.margin));
        }
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings: Settings = read_settings(NAME, settings)?;
        settings.models(subject).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let (reference, models) = settings.models(context.subject)?;
        let sweep = Sweep::new(context.subject, context.memory)?;
        let changes = measure::patched(context, &sweep, reference, &models)?;
        let values = crate::dla::contributions(context, "suppression-dla")?;
        let (mut components, mut totals) = (Table::new(&SUPPRESSION), Table::new(&TOTALS));
        classes::fill(
            context,
            &settings,
            (reference, &models),
            (&values, &changes),
            (&mut components, &mut totals),
        )?;
        let mut section = figures::section(self, context, &settings, reference, &components, &totals)?;
        section.notes.extend(sweep.caveat());
        Ok(Findings { tables: vec![components, totals, changes], section })
    }
}
