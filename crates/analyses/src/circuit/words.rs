//! Circuits in words: a sentence for each, and the table of its tests.

use super::Found;
use super::figures::{Basis, label};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::Unit;
use crate::words::percent;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::BTreeMap;

/// A member is called stable from this share of bootstrap samples on.
const STABLE: f64 = 0.8;

/// What was found in one test of one circuit.
#[derive(Clone, Copy, Debug)]
struct Test {
    value: Option<f64>,
    interval: Option<(f64, f64)>,
    /// Mean over random circuits.
    random: Option<f64>,
    p: Option<f64>,
}

/// Tests by source, target and name.
fn by_name(tests: &Table) -> Result<BTreeMap<(&str, &str, &str), Test>> {
    let (source, target, test) = (tests.texts("source")?, tests.texts("target")?, tests.texts("test")?);
    let (value, p) = (tests.floats_or_null("value")?, tests.floats_or_null("p")?);
    let (lo, hi) = (tests.floats_or_null("value_lo")?, tests.floats_or_null("value_hi")?);
    let random = tests.floats_or_null("null_mean")?;
    let found = |i: usize| Test { value: value[i], interval: lo[i].zip(hi[i]), random: random[i], p: p[i] };
    Ok((0..tests.n_rows()).map(|i| ((source[i], target[i], test[i]), found(i))).collect())
}

/// A paragraph for each circuit.
pub(super) fn sentences(
    context: &Context,
    found: &[Found],
    tests: &Table,
    basis: &Basis,
) -> Result<Vec<String>> {
    let tests = by_name(tests)?;
    let model = &context.subject.model;
    let paragraph = |one: &Found| {
        let (source, target) = (model.name(one.source), model.name(one.target));
        let test = |name: &str| tests.get(&(source, target, name)).copied();
        let what = match one.members.len() {
            0 if one.alone.is_empty() => {
                "the two decide alike on all prompts for growing; there is no circuit.".to_owned()
            }
            0 => "no component brings the source's behaviour nearer; there is no circuit.".to_owned(),
            _ => {
                let parts = [
                    test("faithfulness").map(|f| faithful(&one.members, f)),
                    test("complement")
                        .and_then(|c| c.value)
                        .map(|c| format!("Everything else brings {}.", percent(c))),
                    test("stability").and_then(halves),
                    test("bootstrap").and_then(|b| samples(one, b, basis)),
                ];
                parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
        };
        format!("{source} into {target}: {what}")
    };
    Ok(found.iter().map(paragraph).collect())
}

fn names<'u>(units: impl IntoIterator<Item = &'u Unit>) -> String {
    units.into_iter().map(label).collect::<Vec<_>>().join(", ")
}

/// How much the circuit brings.
fn faithful(members: &[Unit], test: Test) -> String {
    let who = match members {
        [one] => format!("1 component ({}) brings", label(one)),
        _ => format!("{} components ({}) bring", members.len(), names(members)),
    };
    let Some(value) = test.value else {
        return format!(
            "{who} its behaviour on the prompts for growing; on the held-out prompts the two decide alike."
        );
    };
    let interval =
        test.interval.map_or(String::new(), |(lo, hi)| format!(" [{}, {}]", percent(lo), percent(hi)));
    let random = test.random.zip(test.p).map_or(String::new(), |(random, p)| {
        format!("; random circuits of that size bring {} (p = {p:.3})", percent(random))
    });
    format!("{who} {}{interval} of the behaviour on held-out prompts{random}.", percent(value))
}

/// How far circuits of two halves of the prompts agree.
fn halves(test: Test) -> Option<String> {
    let (value, random) = test.value.zip(test.random)?;
    Some(format!(
        "Circuits grown on two halves of the prompts have {} of their members in common (of those in either; random circuits \
         {}).",
        percent(value),
        percent(random)
    ))
}

/// How far circuits of bootstrap samples agree, and which members come back.
fn samples(found: &Found, test: Test, basis: &Basis) -> Option<String> {
    let (value, random) = test.value.zip(test.random)?;
    let stable = found.members.iter().filter(|u| found.frequency.get(u).is_some_and(|f| *f >= STABLE));
    let stable = names(stable);
    let (value, random, often) = (percent(value), percent(random), percent(STABLE));
    let stable = if stable.is_empty() { "none".to_owned() } else { stable };
    Some(format!(
        "Circuits of {} bootstrap samples of the {} prompts have {value} in common, two by two on average (random circuits {random}); \
         members in at least {often} of the samples: {stable}.",
        basis.n_samples, basis.n_grow
    ))
}

/// The tests of all circuits.
pub(super) fn summary(tests: &Table) -> Result<SummaryTable> {
    let (source, target, test) = (tests.texts("source")?, tests.texts("target")?, tests.texts("test")?);
    let (value, p) = (tests.floats_or_null("value")?, tests.floats_or_null("p")?);
    let (lo, hi) = (tests.floats_or_null("value_lo")?, tests.floats_or_null("value_hi")?);
    let (mean, null_lo) = (tests.floats_or_null("null_mean")?, tests.floats_or_null("null_lo")?);
    let null_hi = tests.floats_or_null("null_hi")?;
    let range = |lo: Option<f64>, hi: Option<f64>| match (lo, hi) {
        (Some(lo), Some(hi)) => format!(" [{lo:.2}, {hi:.2}]"),
        _ => String::new(),
    };
    let row = |i: usize| {
        vec![
            source[i].to_owned(),
            target[i].to_owned(),
            test[i].to_owned(),
            value[i].map_or("undefined".to_owned(), |v| format!("{v:.2}{}", range(lo[i], hi[i]))),
            mean[i].map_or(String::new(), |m| format!("{m:.2}{}", range(null_lo[i], null_hi[i]))),
            p[i].map_or(String::new(), |p| format!("{p:.3}")),
        ]
    };
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    Ok(SummaryTable {
        title: "Tests of the circuits".to_owned(),
        rows: (0..tests.n_rows()).map(row).collect(),
        columns: vec![
            column("source", "Model whose behaviour the circuit brings.", false),
            column("target", "Model that it is brought into.", false),
            column("test", "What is tested; docs/tables.md explains each.", false),
            column("value", "What was measured, with 95% interval.", true),
            column("random", "Mean over random circuits, with 95% range.", true),
            column("p", "Share of random circuits that do as well.", true),
        ],
    })
}
