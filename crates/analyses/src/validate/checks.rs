//! The list of checks, with a verdict each.

use super::Settings;
use super::sensitivity::{UNRESOLVED, WORDING};
use super::tables::CHECKS;
use crate::error::Result;
use crate::scenarios::n_clusters;
use crate::subject::Subject;
use crate::twins::label_twins;
use lorascope_record::Table;
use std::collections::BTreeSet;

/// Two ways of scoring the same answers may differ by so much of max(1, |delta|): rounding of f32 logits.
const ROUNDING: f64 = 1e-5;
/// Templates below which intervals mean little; with fewer than two there are none.
const TEMPLATES: [f64; 2] = [6.0, 2.0];

/// How a value is judged.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    warn: Option<f64>,
    fail: Option<f64>,
    /// Whether small values are bad.
    low: bool,
}

impl Bounds {
    fn falls([warn, fail]: [f64; 2]) -> Self {
        Self { warn: Some(warn), fail: Some(fail), low: true }
    }

    fn rises([warn, fail]: [f64; 2]) -> Self {
        Self { warn: Some(warn), fail: Some(fail), low: false }
    }

    /// A value on a bound is still good. What can't be told is worth a warning.
    fn verdict(&self, value: Option<f64>) -> &'static str {
        let Some(value) = value else { return "warn" };
        let beyond = |bound: Option<f64>| bound.is_some_and(|b| if self.low { value < b } else { value > b });
        if beyond(self.fail) {
            "fail"
        } else if beyond(self.warn) {
            "warn"
        } else {
            "ok"
        }
    }
}

struct Checks {
    table: Table,
}

impl Checks {
    fn push(
        &mut self,
        model: Option<&str>,
        check: &str,
        meaning: &str,
        value: Option<f64>,
        bounds: Bounds,
    ) -> Result<()> {
        self.table.push(&[
            model.into(),
            check.into(),
            bounds.verdict(value).into(),
            meaning.into(),
            value.into(),
            bounds.warn.into(),
            bounds.fail.into(),
        ])?;
        Ok(())
    }
}

pub(super) fn checks(
    subject: &Subject,
    settings: &Settings,
    samples: &Table,
    tests: &Table,
    sensitivity: &Table,
) -> Result<Table> {
    let mut checks = Checks { table: Table::new(&CHECKS) };
    of_prompts(&mut checks, subject)?;
    for name in subject.model.names() {
        of_model(&mut checks, name, settings, samples, tests)?;
        of_wording(&mut checks, name, sensitivity)?;
    }
    checks.table.sort_by_keys();
    Ok(checks.table)
}

fn of_prompts(checks: &mut Checks, subject: &Subject) -> Result<()> {
    let prompts = &subject.prompts;
    let all: Vec<usize> = (0..prompts.len()).collect();
    let templates = n_clusters(prompts, &all) as f64;
    checks.push(
        None,
        "templates",
        "number of templates: intervals resample them",
        Some(templates),
        Bounds::falls(TEMPLATES),
    )?;
    let twins = 2.0 * label_twins(prompts).len() as f64 / prompts.len() as f64;
    let bounds = Bounds { warn: Some(1.0), fail: None, low: true };
    let meaning = "share of prompts that are given under both labellings: without it a preference for a string looks like one \
                   for a meaning";
    checks.push(None, "both_labellings", meaning, Some(twins), bounds)?;
    let distinct: BTreeSet<_> =
        prompts.iter().map(|p| (&p.tokens.ids, &p.answers.text_a, &p.answers.text_b)).collect();
    let doubles = (prompts.len() - distinct.len()) as f64;
    let meaning = "prompts that are the same tokens and answers as another one";
    checks.push(
        None,
        "duplicates",
        meaning,
        Some(doubles),
        Bounds { warn: None, fail: Some(0.0), low: false },
    )?;
    let longest = prompts.iter().map(|p| p.tokens.ids.len() + p.answers.longest()).max().unwrap_or(0);
    let context = subject.model.spec().n_ctx as f64;
    let meaning =
        "tokens of the longest prompt with its answer, against the model's context: nothing is cut off";
    checks.push(
        None,
        "context",
        meaning,
        Some(longest as f64),
        Bounds { warn: None, fail: Some(context), low: false },
    )
}

fn of_model(
    checks: &mut Checks,
    name: &str,
    settings: &Settings,
    samples: &Table,
    tests: &Table,
) -> Result<()> {
    let own =
        |models: Vec<&str>| -> Vec<usize> { (0..models.len()).filter(|&r| models[r] == name).collect() };
    let rows = own(samples.texts("model")?);
    let mean = |column| -> Result<f64> {
        let values = samples.floats(column)?;
        Ok(rows.iter().map(|&r| values[r]).sum::<f64>() / rows.len() as f64)
    };
    let (of, q, drawn) = (tests.texts("of")?, tests.floats("q")?, tests.ints("draws")?);
    let p_of = |wanted: &str, models: Vec<&str>| {
        own(models).into_iter().find(|&r| of[r] == wanted && drawn[r] > 0).map(|r| q[r])
    };
    let level = Bounds { warn: None, fail: Some(settings.level), low: true };
    let meaning = "corrected p-value of: B is as frequent among drawn answers as p_b says";
    checks.push(Some(name), "calibration", meaning, p_of("p_b", tests.texts("model")?), level)?;
    let meaning = "corrected p-value of: either answer is as frequent among all draws as legal_mass says";
    checks.push(
        Some(name),
        "legal_calibration",
        meaning,
        p_of("legal_mass", tests.texts("model")?),
        level,
    )?;

    let (delta, by_token) = (samples.floats("delta")?, samples.floats("delta_by_token")?);
    let off = |r: usize| (delta[r] - by_token[r]).abs() / delta[r].abs().max(1.0);
    let worst = rows.iter().map(|&r| off(r)).fold(0.0, f64::max);
    let meaning = "largest difference of delta in one pass and token by token, as a share of max(1, delta)";
    let bounds = Bounds { warn: None, fail: Some(ROUNDING), low: false };
    checks.push(Some(name), "token_by_token", meaning, Some(worst), bounds)?;

    let meaning = "mean probability of either answer";
    checks.push(
        Some(name),
        "legal_mass",
        meaning,
        Some(mean("legal_mass")?),
        Bounds::falls(settings.legal),
    )?;
    let meaning = "mean share of it that the spelling holds at which components are measured";
    checks.push(
        Some(name),
        "pair_share",
        meaning,
        Some(mean("pair_share")?),
        Bounds::falls(settings.pair),
    )?;

    let count = |column| -> Result<i64> {
        let values = samples.ints(column)?;
        Ok(rows.iter().map(|&r| values[r]).sum())
    };
    let (scored, unscored) = (count("a")? + count("b")?, count("a_unscored")? + count("b_unscored")?);
    let share = (scored + unscored > 0).then(|| unscored as f64 / (scored + unscored) as f64);
    let meaning = "share of drawn answers that are written in tokens that are not scored";
    checks.push(Some(name), "unscored_spellings", meaning, share, Bounds::rises(settings.unscored))
}

/// Whether wording moves more than fine-tuning; a warning, no failure: averages over wordings may still be sound.
fn of_wording(checks: &mut Checks, name: &str, sensitivity: &Table) -> Result<()> {
    let Some(row) = sensitivity.texts("model")?.iter().position(|m| *m == name) else { return Ok(()) };
    let ratio = sensitivity.floats_or_null("ratio")?[row];
    let verdict = sensitivity.texts("verdict")?[row];
    let meaning =
        "change by fine-tuning over difference of wordings; it warns where the interval is not above this";
    let sure = verdict != WORDING && verdict != UNRESOLVED;
    checks.table.push(&[
        name.into(),
        "prompt_sensitivity".into(),
        (if sure { "ok" } else { "warn" }).into(),
        meaning.into(),
        ratio.into(),
        1.0.into(),
        None::<f64>.into(),
    ])?;
    Ok(())
}

/// What failed, for the head of a report.
pub(super) fn warnings(checks: &Table) -> Result<Vec<String>> {
    let failed = with_verdict(checks, "fail")?;
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "Validation failed ({}): read the section Validation before drawing any conclusion from the rest.",
        failed.join(", ")
    )])
}

/// Checks of a verdict with the models that they are of: `calibration of base and moral`.
pub(super) fn with_verdict(checks: &Table, verdict: &str) -> Result<Vec<String>> {
    let (models, names) = (checks.texts_or_null("model")?, checks.texts("check")?);
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for (row, given) in checks.texts("verdict")?.into_iter().enumerate() {
        if given != verdict {
            continue;
        }
        let at = found.iter().position(|(name, _)| *name == names[row]).unwrap_or_else(|| {
            found.push((names[row], Vec::new()));
            found.len() - 1
        });
        found[at].1.extend(models[row].as_deref());
    }
    let words = |(name, models): (&str, Vec<&str>)| {
        let name = name.replace('_', " ");
        if models.is_empty() { name } else { format!("{name} of {}", models.join(" and ")) }
    };
    Ok(found.into_iter().map(words).collect())
}
