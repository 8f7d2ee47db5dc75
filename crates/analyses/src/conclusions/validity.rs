//! Whether validation passed.

use super::claim::{Answer, Claim, Verdict};
use super::rows::Selection;
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use std::collections::BTreeMap;

/// As attributions, relative to the decision: both are sums of f32 products.
const LENS_TOLERANCE: f64 = 1e-4;

pub(super) fn claims(context: &Context) -> Result<Answer> {
    let mut claims = vec![validation(context)?];
    claims.extend(complete(context)?);
    claims.extend(lens_ends(context)?);
    Ok(Answer { claims, ..Answer::default() })
}

/// Whether contributions of all components add up to the decision.
fn complete(context: &Context) -> Result<Option<Claim>> {
    let Some(table) = context.finished("dla_check")? else { return Ok(None) };
    let (error, complete) = (table.floats("error")?, table.bools("complete")?);
    let worst = error.iter().fold(0.0f64, |m, e| m.max(e.abs()));
    let missing = complete.iter().filter(|c| !**c).count();
    let statement = match missing {
        0 => format!("Attributions of all {} decisions add up, to {worst:.0e} logits.", error.len()),
        n => format!(
            "Attributions of {n} of {} decisions do not add up: what follows of them is wrong.",
            error.len()
        ),
    };
    let verdict = if missing == 0 { Verdict::Yes } else { Verdict::No };
    Ok(Some(
        Claim::new("attributions_add_up", verdict, statement).value(Some(worst), None).n(error.len()).from(
            "dla_check",
            &Selection::column("error"),
            None,
        ),
    ))
}

/// Whether the lens at the last layer reads what the model itself says.
fn lens_ends(context: &Context) -> Result<Option<Claim>> {
    let (Some(lens), Some(own)) = (context.finished("lens_decisions")?, context.finished("dla_check")?)
    else {
        return Ok(None);
    };
    let by_run = |table: &Table, column: &str| -> Result<BTreeMap<(String, String), f64>> {
        let keys = table.texts("model")?.into_iter().zip(table.texts("prompt_id")?);
        Ok(keys.map(|(m, p)| (m.to_owned(), p.to_owned())).zip(table.floats(column)?).collect())
    };
    let (lens, own) = (by_run(&lens, "final_delta")?, by_run(&own, "delta")?);
    let errors = lens.iter().filter_map(|(key, value)| Some(((value - own.get(key)?).abs(), value.abs())));
    let (worst, off) = errors.fold((0.0f64, 0usize), |(worst, off), (error, size)| {
        (worst.max(error), off + usize::from(error > LENS_TOLERANCE * size.max(1.0)))
    });
    let statement = match off {
        0 => format!("The lens ends at the models' own decisions, to {worst:.0e} logits."),
        n => format!("On {n} of {} decisions the lens does not end at the model's own.", lens.len()),
    };
    let verdict = if off == 0 { Verdict::Yes } else { Verdict::No };
    Ok(Some(
        Claim::new("lens_ends_at_the_decision", verdict, statement)
            .value(Some(worst), None)
            .n(lens.len())
            .from("lens_decisions", &Selection::column("final_delta"), None),
    ))
}

fn validation(context: &Context) -> Result<Claim> {
    let Some(table) = context.finished("validation")? else {
        return Ok(Claim::not_asked("validation", "Validation", "add validate to the analyses"));
    };
    let (models, checks, verdicts) =
        (table.texts_or_null("model")?, table.texts("check")?, table.texts("verdict")?);
    let of = |verdict: &str| -> Vec<String> {
        let rows = (0..table.n_rows()).filter(|&i| verdicts[i] == verdict);
        let name = |i: usize| {
            let model = models[i].as_deref().map_or("the prompts".to_owned(), str::to_owned);
            format!("{} of {model}", checks[i].replace('_', " "))
        };
        rows.map(name).collect()
    };
    let (failed, warned) = (of("fail"), of("warn"));
    let (n, wrong) = (table.n_rows(), failed.len() + warned.len());
    let statement = match (failed.as_slice(), warned.as_slice()) {
        ([], []) => format!("All {n} checks of validation passed."),
        ([], warned) => {
            format!("With reservations: {} of {n} checks warn ({}).", warned.len(), warned.join("; "))
        }
        (failed, _) => format!(
            "Not for everything: {} of {n} checks of validation fail ({}), and {} more warn. What is said of these models below compares \
             answers that they seldom give, or that the metric does not describe.",
            failed.len(),
            failed.join("; "),
            warned.len()
        ),
    };
    let verdict = match (failed.is_empty(), warned.is_empty()) {
        (true, true) => Verdict::Yes,
        (true, false) => Verdict::NotResolved,
        (false, _) => Verdict::No,
    };
    let rows = if wrong == 0 { Selection::column("verdict") } else { Selection::not("verdict", "ok") };
    let claim = Claim::new("validation", verdict, statement).value(Some(wrong as f64), None).n(n);
    Ok(claim.from("validation", &rows, None))
}
