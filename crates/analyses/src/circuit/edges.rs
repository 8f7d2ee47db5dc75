//! Components and edges of all circuits of one target, and how they differ between two of them.

use super::tables::EDGES;
use crate::bootstrap::{Interval, Resampler};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Change, PatchedRun, Receiver, Replacement, Source, Sweep, Unit, edge};
use lorascope_record::{Cell, Table};
use std::collections::BTreeMap;

/// Components that edges are patched between, at most: those with the largest effects. Their number grows with the square.
const MOST: usize = 28;

/// The reader of everything, in tables.
pub(super) const ALL: &str = "all";

/// The members of all circuits of one target, at most [`MOST`]; `alone` is the largest effect of each by itself.
pub(super) fn nodes(circuits: &[(&[Unit], &BTreeMap<Unit, f64>)]) -> Vec<Unit> {
    let mut size: BTreeMap<Unit, f64> = BTreeMap::new();
    for (members, alone) in circuits {
        for unit in *members {
            let own = alone.get(unit).copied().unwrap_or(0.0).abs();
            let known = size.entry(*unit).or_insert(0.0);
            *known = known.max(own);
        }
    }
    let mut all: Vec<(Unit, f64)> = size.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut units: Vec<Unit> = all.into_iter().take(MOST).map(|(unit, _)| unit).collect();
    units.sort_unstable();
    units
}

/// The reader that a component is.
pub(super) fn reader(unit: &Unit) -> Receiver {
    match unit.head() {
        Some(head) => Receiver::Head { layer: unit.layer, head },
        None => Receiver::Mlp { layer: unit.layer },
    }
}

/// Edges between the nodes and to the logits.
fn edges(nodes: &[Unit]) -> Vec<(Unit, Receiver)> {
    let readers: Vec<Receiver> = nodes.iter().map(reader).chain([Receiver::Logits]).collect();
    let pairs = nodes.iter().flat_map(|s| readers.iter().map(move |r| (*s, *r)));
    pairs.filter(|(s, r)| r.comes_after(s)).collect()
}

/// Patches every node and edge from one source.
pub(super) fn patch(
    context: &Context,
    sweep: &Sweep,
    (source, target): (usize, usize),
    nodes: &[Unit],
    prompts: &[usize],
) -> Result<Table> {
    let subject = context.subject;
    let spec = subject.model.spec();
    let edges = edges(nodes);
    let (mut runs, mut names) = (Vec::new(), Vec::new());
    for &prompt in prompts {
        let position = sweep.decision_position(prompt);
        let from = Source { model: source, prompt, position };
        for unit in nodes {
            let units = unit.values(spec, position);
            let change =
                Change { point: unit.point(), units, position, replacement: Replacement::From(from) };
            runs.push(PatchedRun { model: target, prompt, changes: vec![change] });
            names.push((unit.to_string(), ALL.to_owned()));
        }
        for (sender, receiver) in &edges {
            let changes = edge(spec, sender, *receiver, from, (target, prompt));
            runs.push(PatchedRun { model: target, prompt, changes });
            names.push((sender.to_string(), receiver.to_string()));
        }
    }
    let found = sweep.run("circuit: edges", &runs, context.progress)?;
    let mut table = Table::new(&EDGES);
    for ((run, (sender, receiver)), &patched) in runs.iter().zip(names).zip(&found.patched) {
        let cells: [Cell; 6] = [
            subject.model.name(source).into(),
            subject.model.name(target).into(),
            sender.into(),
            receiver.into(),
            subject.prompts[run.prompt].id().into(),
            (patched - found.plain[&(target, run.prompt)]).into(),
        ];
        table.push(&cells)?;
    }
    Ok(table)
}

/// Sender and receiver.
pub(super) type Edge = (String, String);

/// Changes by prompt of every edge of one source and target, and the mean with its interval.
pub(super) struct Measured {
    pub by_prompt: BTreeMap<Edge, Vec<f64>>,
    pub mean: BTreeMap<Edge, Interval>,
}

/// Reads what was measured of one source and target; prompts are in the order of `ids`.
pub(super) fn measured(
    table: &Table,
    names: (&str, &str),
    ids: &[&str],
    resampler: &Resampler,
) -> Result<Measured> {
    let (sources, targets) = (table.texts("source")?, table.texts("target")?);
    let (senders, receivers) = (table.texts("sender")?, table.texts("receiver")?);
    let (prompts, change) = (table.texts("prompt_id")?, table.floats("change")?);
    let place: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let mut by_prompt: BTreeMap<Edge, Vec<f64>> = BTreeMap::new();
    for i in (0..table.n_rows()).filter(|&i| (sources[i], targets[i]) == names) {
        let edge = (senders[i].to_owned(), receivers[i].to_owned());
        by_prompt.entry(edge).or_insert_with(|| vec![0.0; ids.len()])[place[prompts[i]]] = change[i];
    }
    let mean = by_prompt.iter().map(|(edge, values)| (edge.clone(), resampler.mean(values))).collect();
    Ok(Measured { by_prompt, mean })
}

/// Two circuits of one target.
pub(super) struct Two<'a> {
    pub sources: (&'a str, &'a str),
    pub target: &'a str,
    pub measured: (&'a Measured, &'a Measured),
    /// Names of members.
    pub members: (&'a [String], &'a [String]),
}

/// What was gained, lost and re-weighted from one circuit to another.
pub(super) fn differences(two: &Two, resampler: &Resampler, table: &mut Table) -> Result<()> {
    let clear = |i: &Interval| i.lo * i.hi > 0.0;
    for (edge, one) in &two.measured.0.by_prompt {
        let Some(other) = two.measured.1.by_prompt.get(edge) else { continue };
        let difference: Vec<f64> = one.iter().zip(other).map(|(a, b)| b - a).collect();
        let difference = resampler.mean(&difference);
        let (mean_one, mean_other) = (two.measured.0.mean[edge], two.measured.1.mean[edge]);
        let status = match (clear(&mean_one), clear(&mean_other), clear(&difference)) {
            (true, true, true) => "reweighted",
            (true, true, false) => "shared",
            (true, false, true) => "lost",
            (false, true, true) => "gained",
            _ => "unclear",
        };
        let is_member = |members: &[String]| (edge.1 == ALL).then(|| members.contains(&edge.0));
        let cells: [Cell; 13] = [
            two.sources.0.into(),
            two.sources.1.into(),
            two.target.into(),
            edge.0.as_str().into(),
            edge.1.as_str().into(),
            status.into(),
            is_member(two.members.0).into(),
            is_member(two.members.1).into(),
            mean_one.mean.into(),
            mean_other.mean.into(),
            difference.mean.into(),
            difference.lo.into(),
            difference.hi.into(),
        ];
        table.push(&cells)?;
    }
    Ok(())
}
