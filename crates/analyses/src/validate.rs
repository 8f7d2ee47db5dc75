//! May conclusions be drawn? Answers drawn from the models against `p_b`, how much the wording of a prompt moves a decision, and a
//! list of checks with a verdict each.
//!
//! *Calibration.* From each model on each prompt answers are drawn token by token ([`crate::sampler`]). Of `n` draws that begin
//! with a scored spelling of either answer, `k` begin with B; if `p_b` is right, `k` is binomial. The test is the deviance,
//! `Σ 2(k ln(k / n p) + (n − k) ln((n − k) / n(1 − p)))`, against draws from its own null; unlike a sum of squared standardised
//! residuals it is not ruled by one rare answer. `legal_mass` is tested alike. Draws that begin with an answer as text, but
//! in tokens that are not scored, show what the metric misses.
//!
//! *Sensitivity.* Variance components of delta, between scenarios, between templates within, and between the prompts of one template
//! (unbalanced nested analysis of variance, Searle, Casella & McCulloch 1992, section 3.2), and how far fine-tuning moves delta on
//! the same prompt against how far two prompts of one scenario lie apart on the base.
//!
//! *Power.* From the spread of delta's differences over templates: which mean difference of two models a study of this size finds, and
//! how many templates a wanted one takes.
//!
//! Cost: one pass over all prompts on all models, as for `decide`, and a few short steps. Keys and values of as many prompts as
//! fit the memory are kept: `8 · n_layers · n_kv_heads · d_head` bytes for each token and model.

mod calibration;
mod checks;
mod draws;
mod figures;
mod power;
mod sensitivity;
mod tables;
#[cfg(test)]
mod tests;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::decide;
use crate::error::{Error, Result};
use crate::flags::Flag;
use crate::subject::Subject;
use lorascope_record::{Table, TableSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::{BINS, CHECKS, COMPONENTS, POWER, SAMPLES, SENSITIVITY, TESTS};

pub(crate) struct Validate;

const NAME: &str = "validate";

const FLAGS: &[Flag] = &[Flag {
    name: "draws",
    value: "N",
    help: "Answers drawn from each model on each prompt (default: 100)",
}];

/// How much is drawn, and from where on a check warns or fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Answers drawn from each model on each prompt.
    #[serde(deserialize_with = "crate::flags::single")]
    draws: usize,
    /// Tokens of a drawn answer, at most.
    tokens: usize,
    /// Bins of `p_b` of equal width.
    bins: usize,
    /// A test of calibration fails where its corrected p-value is below this.
    level: f64,
    /// Mean legal mass below which decisions are warned of, and below which they fail.
    legal: [f64; 2],
    /// The same for the primary pair's mean share of the legal mass.
    pair: [f64; 2],
    /// Share of drawn answers in tokens that are not scored above which is warned, and above which it fails.
    unscored: [f64; 2],
    /// Mean difference of delta, in nats, that a study should be able to find.
    detect: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            draws: 100,
            tokens: 12,
            bins: 10,
            level: 0.01,
            legal: [0.5, 0.05],
            pair: [0.9, 0.5],
            unscored: [0.05, 0.25],
            detect: 0.5,
        }
    }
}

impl Settings {
    fn read(given: &Value) -> Result<Self> {
        let settings: Self = read_settings(NAME, given)?;
        let wrong = |why: String| Err(Error::Settings { analysis: NAME, why });
        let whole = [("draws", settings.draws), ("tokens", settings.tokens), ("bins", settings.bins)];
        if let Some((name, n)) = whole.into_iter().find(|(_, n)| !(1..=100_000).contains(n)) {
            return wrong(format!("{name} is {n}; it must be from 1 to 100000"));
        }
        let shares = [&[settings.level][..], &settings.legal, &settings.pair, &settings.unscored].concat();
        if let Some(share) = shares.iter().find(|s| !(0.0..=1.0).contains(*s)) {
            return wrong(format!("{share} is not between 0 and 1, as `level` and all bounds must be"));
        }
        if !(settings.detect > 0.0 && settings.detect.is_finite()) {
            return wrong(format!("detect is {}; it must be positive", settings.detect));
        }
        for (name, [warn, fail], falls) in [
            ("legal", settings.legal, true),
            ("pair", settings.pair, true),
            ("unscored", settings.unscored, false),
        ] {
            if (falls && warn < fail) || (!falls && warn > fail) {
                return wrong(format!(
                    "{name} is [{warn}, {fail}]: it would fail before it warns; turn the two round"
                ));
            }
        }
        Ok(settings)
    }
}

static TABLES: &[&TableSpec] = &[&CHECKS, &TESTS, &BINS, &COMPONENTS, &SENSITIVITY, &SAMPLES, &POWER];

impl Analysis for Validate {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Validation"
    }
    fn question(&self) -> &'static str {
        "Do the models answer as the metric says, and may conclusions be drawn from these prompts?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn flags(&self) -> &'static [Flag] {
        FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings = Settings::read(settings)?;
        let long = subject.prompts.iter().find(|p| p.answers.longest() > settings.tokens);
        long.map_or(Ok(()), |p| {
            let why = format!(
                "tokens is {}, but an answer of prompt `{}` has {}; no draw could be that answer, so raise it",
                settings.tokens,
                p.id(),
                p.answers.longest()
            );
            Err(Error::Settings { analysis: NAME, why })
        })
    }

    fn warnings(&self, tables: &[Table]) -> Result<Vec<String>> {
        let checks = tables.iter().find(|t| *t.spec() == CHECKS);
        checks.map_or(Ok(Vec::new()), checks::warnings)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let decisions = decide::decisions(context, "validate-decide")?;
        let samples = draws::samples(context, &settings, &decisions)?;
        context.progress.begin("testing", 1);
        let (tests, bins) = calibration::calibration(context, &settings, &samples)?;
        let components = sensitivity::components(context, &samples)?;
        let sensitivity = sensitivity::sensitivity(context, &samples)?;
        let checks = checks::checks(context.subject, &settings, &samples, &tests, &sensitivity)?;
        let power = power::power(context, &settings, &samples)?;
        context.progress.end();
        let tables = vec![checks, tests, bins, components, sensitivity, samples, power];
        let section = figures::section(context, &settings, &tables)?;
        Ok(Findings { tables, section })
    }
}
