//! The section of the report: curves, circuits as graphs, and what tells two of them apart.

use super::edges::{ALL, Measured};
use super::words::{sentences, summary};
use super::{Circuit, Found};
use crate::Analysis;
use crate::bootstrap::{Interval, RESAMPLES};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Receiver, Unit};
use lorascope_record::Table;
use lorascope_report::{
    Change, Figure, FigureKind, GraphEdge, GraphNode, GraphPanel, GraphPlace, LinePanel, Section, Series,
};
use std::collections::BTreeMap;

/// Edges drawn in a panel, at most: the strongest clear ones.
const MOST_EDGES: usize = 40;

/// What everything in the section rests on.
pub(super) struct Basis {
    /// Prompts that circuits were grown on.
    pub n_grow: usize,
    /// Prompts that they were tested on.
    pub n_test: usize,
    /// Bootstrap samples of the prompts for growing.
    pub n_samples: usize,
    /// Whether no cluster of prompts is in both.
    pub is_clean: bool,
}

pub(super) fn section(
    circuit: &Circuit,
    context: &Context,
    found: &[Found],
    tests: &Table,
    curve: &Table,
    differences: &Table,
    basis: &Basis,
) -> Result<Section> {
    let n_test = basis.n_test;
    let mut figures = vec![curves(context, found, curve, n_test)?];
    let panels: Vec<GraphPanel> =
        found.iter().filter(|f| !f.members.is_empty()).map(|f| graph(context, f)).collect();
    let measured = format!(
        "Mean change of delta in logits (positive towards {}) over {n_test} held-out prompts when the source's output of the \
         component (or of this one edge) replaces the target's at the decision point; changes of prompts in opposite directions \
         cancel, as they do where a source decides differently in different scenarios. 95% intervals over prompt templates \
         ({RESAMPLES} resamples) are in the tables.",
        context.subject.meanings.b
    );
    if !panels.is_empty() {
        figures.push(graph_figure(
            "circuit_graphs",
            "Circuits of each source",
            format!(
                "Members of each circuit (outlined; colour: their effect by themselves), and the {MOST_EDGES} strongest edges \
                 between them whose intervals exclude zero (width: effect of the single edge). {measured}"
            ),
            panels,
        ));
    }
    let compared = compare(context, found, differences)?;
    if !compared.is_empty() {
        figures.push(graph_figure(
            "circuit_differences",
            "What tells two circuits apart",
            format!(
                "Members of either circuit and their edges; colour and width show the second source's effect minus the first's. \
                 Gained, lost and re-weighted parts differ with an interval that excludes zero. {measured}"
            ),
            compared,
        ));
    }
    let mut notes = vec![
        "Circuits are estimates: other prompts or another order of growth may give other members (see the tests stability and \
         bootstrap, and the columns in_half_a and frequency of circuit_components)."
            .to_owned(),
        format!("Grown on {} prompts, tested on {n_test} others.", basis.n_grow),
    ];
    if !basis.is_clean {
        notes.push(
            "The prompts are too few clusters to keep growing and testing apart: held-out figures are optimistic.".to_owned(),
        );
    }
    Ok(Section {
        id: circuit.name().to_owned(),
        title: circuit.title().to_owned(),
        question: circuit.question().to_owned(),
        paragraphs: sentences(context, found, tests, basis)?,
        figures,
        tables: vec![summary(tests)?],
        notes,
    })
}

fn graph_figure(name: &str, title: &str, caption: String, panels: Vec<GraphPanel>) -> Figure {
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption,
        by_prompt: None,
        kind: FigureKind::Graph {
            panels,
            node_unit: "change of delta (logit)".to_owned(),
            node_reach: None,
            edge_unit: "change of delta (logit)".to_owned(),
            edge_reach: None,
        },
    }
}

/// `L5.H3`, `L7.MLP`.
pub(super) fn label(unit: &Unit) -> String {
    match unit.head() {
        Some(head) => format!("L{}.H{head}", unit.layer),
        None => format!("L{}.MLP", unit.layer),
    }
}

fn place(unit: &Unit) -> GraphPlace {
    if unit.head().is_some() { GraphPlace::Attention(unit.layer) } else { GraphPlace::Mlp(unit.layer) }
}

fn name_of_source(context: &Context, found: &Found) -> String {
    let model = &context.subject.model;
    format!("{} → {}", model.name(found.source), model.name(found.target))
}

fn graph(context: &Context, found: &Found) -> GraphPanel {
    let spec = context.subject.model.spec();
    let by_name: BTreeMap<String, &Unit> = found.members.iter().map(|u| (u.to_string(), u)).collect();
    let nodes = found.members.iter().map(|unit| {
        let effect = found.measured.mean.get(&(unit.to_string(), ALL.to_owned()));
        node(unit, effect, None, true)
    });
    let mut edges: Vec<(GraphEdge, f64)> = Vec::new();
    for ((sender, receiver), effect) in &found.measured.mean {
        let (Some(from), Some(to)) = (by_name.get(sender), reader_label(receiver, &by_name, spec)) else {
            continue;
        };
        if effect.lo * effect.hi > 0.0 {
            edges.push((connection(label(from), to, effect, None), effect.mean.abs()));
        }
    }
    GraphPanel {
        title: name_of_source(context, found),
        nodes: nodes.chain([logits()]).collect(),
        edges: strongest(edges),
    }
}

fn strongest(mut edges: Vec<(GraphEdge, f64)>) -> Vec<GraphEdge> {
    edges.sort_by(|a, b| b.1.total_cmp(&a.1));
    edges.into_iter().take(MOST_EDGES).map(|(edge, _)| edge).collect()
}

fn logits() -> GraphNode {
    GraphNode {
        id: "logits".to_owned(),
        place: GraphPlace::Logits,
        weight: None,
        interval: None,
        member: true,
        change: None,
    }
}

fn node(unit: &Unit, effect: Option<&Interval>, change: Option<Change>, member: bool) -> GraphNode {
    GraphNode {
        id: label(unit),
        place: place(unit),
        weight: effect.map(|e| e.mean),
        interval: effect.map(|e| (e.lo, e.hi)),
        member,
        change,
    }
}

fn connection(from: String, to: String, effect: &Interval, change: Option<Change>) -> GraphEdge {
    GraphEdge {
        from,
        to,
        input: None,
        weight: Some(effect.mean),
        interval: Some((effect.lo, effect.hi)),
        change,
    }
}

/// The node of a receiver, if it is one of these.
fn reader_label(
    receiver: &str,
    nodes: &BTreeMap<String, &Unit>,
    spec: &lorascope_engine::ModelSpec,
) -> Option<String> {
    let receiver = Receiver::parse(receiver, spec).ok()?;
    if receiver == Receiver::Logits {
        return Some("logits".to_owned());
    }
    nodes.values().find(|unit| super::edges::reader(unit) == receiver).map(|unit| label(unit))
}

/// A panel for every two circuits of one target.
fn compare(context: &Context, found: &[Found], differences: &Table) -> Result<Vec<GraphPanel>> {
    let (one, other) = (differences.texts("source_one")?, differences.texts("source_other")?);
    let (target, status) = (differences.texts("target")?, differences.texts("status")?);
    let (sender, receiver) = (differences.texts("sender")?, differences.texts("receiver")?);
    let (mean, lo) = (differences.floats("difference")?, differences.floats("difference_lo")?);
    let hi = differences.floats("difference_hi")?;
    let model = &context.subject.model;
    let spec = model.spec();
    let mut panels = Vec::new();
    for (i, a) in found.iter().enumerate() {
        for b in found[i + 1..].iter().filter(|b| b.target == a.target) {
            let names = (model.name(a.source), model.name(b.source), model.name(a.target));
            let rows: Vec<usize> =
                (0..differences.n_rows()).filter(|&r| (one[r], other[r], target[r]) == names).collect();
            let mut units: Vec<&Unit> = a.members.iter().chain(&b.members).collect();
            units.sort_unstable();
            units.dedup();
            let by_name: BTreeMap<String, &Unit> = units.iter().map(|u| (u.to_string(), *u)).collect();
            let interval = |r: usize| Interval { mean: mean[r], lo: lo[r], hi: hi[r] };
            let (mut nodes, mut edges) = (vec![logits()], Vec::new());
            for &r in &rows {
                let Some(from) = by_name.get(sender[r]) else { continue };
                if receiver[r] == ALL {
                    nodes.push(node(from, Some(&interval(r)), change(status[r]), true));
                } else if let (Some(to), Some(change)) =
                    (reader_label(receiver[r], &by_name, spec), change(status[r]))
                    && change != Change::Shared
                {
                    edges.push((connection(label(from), to, &interval(r), Some(change)), mean[r].abs()));
                }
            }
            if nodes.len() > 1 {
                let title = format!("from {} to {}", names.0, names.1);
                panels.push(GraphPanel { title, nodes, edges: strongest(edges) });
            }
        }
    }
    Ok(panels)
}

fn change(status: &str) -> Option<Change> {
    Some(match status {
        "shared" => Change::Shared,
        "gained" => Change::Gained,
        "lost" => Change::Lost,
        "reweighted" => Change::Reweighted,
        _ => return None,
    })
}

fn curves(context: &Context, found: &[Found], curve: &Table, n_test: usize) -> Result<Figure> {
    let (source, target) = (curve.texts("source")?, curve.texts("target")?);
    let (size, f) = (curve.ints("size")?, curve.floats_or_null("faithfulness")?);
    let (lo, hi) = (curve.floats_or_null("faithfulness_lo")?, curve.floats_or_null("faithfulness_hi")?);
    let random = curve.floats_or_null("random")?;
    let model = &context.subject.model;
    let mut panels = Vec::new();
    for one in found {
        let names = (model.name(one.source), model.name(one.target));
        let rows: Vec<usize> = (0..curve.n_rows()).filter(|&i| (source[i], target[i]) == names).collect();
        let values =
            |of: &[Option<f64>]| rows.iter().map(|&i| of[i].unwrap_or(f64::NAN)).collect::<Vec<f64>>();
        // Sizes span two orders of magnitude: the axis is logarithmic, with 0 at its left end.
        let x: Vec<f64> = rows.iter().map(|&i| ((size[i] + 1) as f64).log10()).collect();
        let own = Series::new(
            "circuit order",
            context.subject.color(one.source.max(one.target)),
            x.clone(),
            &values(f),
        )
        .with_interval(&values(lo), &values(hi));
        let null = Series::new("random order", lorascope_report::ColorKey::Base, x, &values(random));
        panels.push(LinePanel { title: name_of_source(context, one), series: vec![own, null] });
    }
    Ok(Figure {
        name: "circuit_curve".to_owned(),
        title: "How many components bring how much of the behaviour".to_owned(),
        caption: format!(
            "Faithfulness on {n_test} held-out prompts of the first components in the circuit's order (members in the order of \
             growth, then the others by their single effects) and of components in random order; 1 is all that the source does. \
             Bands are 95% bootstrap intervals over prompt templates ({RESAMPLES} resamples)."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "log10(1 + number of components)".to_owned(),
            y_label: "faithfulness".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

/// Names of members as tables have them.
pub(super) fn member_names(members: &[Unit]) -> Vec<String> {
    members.iter().map(Unit::to_string).collect()
}

/// For a source that was measured nothing.
pub(super) fn nothing() -> Measured {
    Measured { by_prompt: BTreeMap::new(), mean: BTreeMap::new() }
}
