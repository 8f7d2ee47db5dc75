//! Decisions by checkpoint: means, recovery, and paired tests against the base and the checkpoint before.

use super::Trajectory;
use super::tables::BEHAVIOUR;
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::decide::by_prompt;
use crate::error::Result;
use crate::scenarios::{ALL_PROMPTS, Scenario, scenarios};
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use lorascope_engine::BASE;
use lorascope_record::{Table, row};
use std::collections::BTreeMap;

/// What every checkpoint decides on every prompt.
#[derive(Debug)]
pub(super) struct Decided {
    pub base: Values,
    /// By step.
    pub steps: Vec<Values>,
}

/// One model's decisions, in the order of prompts.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub delta: Vec<f64>,
    pub p_b: Vec<f64>,
    pub legal_mass: Vec<f64>,
}

impl Decided {
    /// From the table of decisions.
    pub fn new(context: &Context, decisions: &Table, trajectory: &Trajectory) -> Result<Self> {
        let columns = ["delta", "p_b", "legal_mass"].map(|column| by_prompt(decisions, column));
        let [delta, p_b, legal] = columns;
        let (delta, p_b, legal) = (delta?, p_b?, legal?);
        let model = &context.subject.model;
        let of = |name: &str| {
            let column = |values: &BTreeMap<(&str, &str), f64>| {
                context.subject.prompts.iter().map(|p| values[&(name, p.id())]).collect()
            };
            Values { delta: column(&delta), p_b: column(&p_b), legal_mass: column(&legal) }
        };
        let steps = trajectory.models.iter().map(|&m| of(model.name(m))).collect();
        Ok(Self { base: of(BASE), steps })
    }
}

/// All prompts, then each scenario if there are several.
pub(super) fn groups(context: &Context) -> Vec<Scenario> {
    let found = scenarios(&context.subject.prompts);
    let all = (0..context.subject.prompts.len()).collect();
    let all = Scenario { name: ALL_PROMPTS.to_owned(), prompts: all };
    let several = if found.len() > 1 { found } else { Vec::new() };
    std::iter::once(all).chain(several).collect()
}

/// A row of the table before correction for the number of tests.
#[derive(Clone, Debug)]
pub(super) struct BehaviourRow {
    pub trajectory: String,
    /// `None`: the base.
    pub step: Option<u64>,
    pub scenario: String,
    n: usize,
    n_clusters: usize,
    pub delta: Interval,
    pub p_b: Interval,
    legal_mass: f64,
    pub recovery: Option<Interval>,
    pub from_base: Option<Comparison>,
    pub from_previous: Option<Comparison>,
    pub base_q: Option<f64>,
    pub previous_q: Option<f64>,
}

/// Rows of one trajectory.
pub(super) fn rows(
    context: &Context,
    trajectory: &Trajectory,
    decided: &Decided,
    floor: f64,
) -> Vec<BehaviourRow> {
    let prompts = &context.subject.prompts;
    let mut found = Vec::new();
    for group in groups(context) {
        let clusters: Vec<&str> = group.prompts.iter().map(|&i| prompts[i].item.cluster()).collect();
        let design = Design::new(&clusters, context.seed);
        let of = |values: &[f64]| group.prompts.iter().map(|&i| values[i]).collect::<Vec<f64>>();
        let base = of(&decided.base.delta);
        let minus =
            |one: &[f64], other: &[f64]| -> Vec<f64> { one.iter().zip(other).map(|(a, b)| a - b).collect() };
        let way = decided.steps.last().map_or_else(Vec::new, |last| minus(&of(&last.delta), &base));
        let steps = decided.steps.iter().zip(&trajectory.steps).map(|(values, &step)| (values, Some(step)));
        let mut previous: Option<Vec<f64>> = None;
        for (values, step) in std::iter::once((&decided.base, None)).chain(steps) {
            let delta = of(&values.delta);
            let legal = of(&values.legal_mass);
            let moved = minus(&delta, &base);
            found.push(BehaviourRow {
                trajectory: trajectory.name.clone(),
                step,
                scenario: group.name.clone(),
                n: delta.len(),
                n_clusters: design.n_clusters(),
                delta: design.mean(&delta),
                p_b: design.mean(&of(&values.p_b)),
                legal_mass: legal.iter().sum::<f64>() / legal.len() as f64,
                recovery: recovery(&design, &moved, &way, floor),
                from_base: step.map(|_| design.compare(&moved)),
                from_previous: previous.as_ref().map(|before| design.compare(&minus(&delta, before))),
                base_q: None,
                previous_q: None,
            });
            // The base is no checkpoint.
            previous = step.map(|_| delta);
        }
    }
    found
}

/// How far along the way from the base to the last checkpoint.
fn recovery(design: &Design, moved: &[f64], way: &[f64], floor: f64) -> Option<Interval> {
    let counts = |d: &f64| d.abs() >= floor && *d != 0.0;
    let over: Vec<f64> =
        moved.iter().zip(way).map(|(m, d)| if counts(d) { m * d.signum() } else { 0.0 }).collect();
    let under: Vec<f64> = way.iter().map(|d| if counts(d) { d.abs() } else { 0.0 }).collect();
    let ratio = |sums: &[f64]| if sums[1] > 0.0 { sums[0] / sums[1] } else { f64::NAN };
    design.resampler().statistic(&[&over, &under], ratio)
}

/// Corrects all tests together.
pub(super) fn correct(rows: &mut [BehaviourRow]) -> usize {
    let tests = |r: &BehaviourRow| [r.from_base.map(|c| c.p), r.from_previous.map(|c| c.p)];
    let p: Vec<f64> = rows.iter().flat_map(tests).flatten().collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    for row in rows {
        row.base_q = row.from_base.and_then(|_| q.next());
        row.previous_q = row.from_previous.and_then(|_| q.next());
    }
    p.len()
}

/// The table, corrected.
pub(super) fn table(rows: &[BehaviourRow], family: usize) -> Result<Table> {
    let mut table = Table::new(&BEHAVIOUR);
    for r in rows {
        let (base, previous, recovery) = (r.from_base, r.from_previous, r.recovery);
        table.push(&row![
            r.trajectory.as_str(),
            r.step,
            r.scenario.as_str(),
            r.n,
            r.n_clusters,
            family,
            r.delta.mean,
            r.delta.lo,
            r.delta.hi,
            r.p_b.mean,
            r.p_b.lo,
            r.p_b.hi,
            r.legal_mass,
            recovery.map(|i| i.mean),
            recovery.map(|i| i.lo),
            recovery.map(|i| i.hi),
            base.map(|c| c.mean.mean),
            base.map(|c| c.mean.lo),
            base.map(|c| c.mean.hi),
            base.map(|c| c.p),
            r.base_q,
            base.and_then(|c| c.effect),
            previous.map(|c| c.mean.mean),
            previous.map(|c| c.mean.lo),
            previous.map(|c| c.mean.hi),
            previous.map(|c| c.p),
            r.previous_q,
            previous.and_then(|c| c.effect)
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}
