//! The section of the report: how much growing spans bring, and the strongest edges.

use super::Paths;
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Effect, effects_of, model_of, shown};
use lorascope_record::Table;
use lorascope_report::{
    Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Section, Series, SummaryColumn, SummaryTable,
};
use std::collections::{BTreeMap, BTreeSet};

/// Edges listed for each pair.
const LARGEST: usize = 12;

/// Source and target.
type Pair = (String, String);

pub(super) fn section(
    paths: &Paths,
    context: &Context,
    path_effects: &Table,
    span_effects: &Table,
) -> Result<Section> {
    let edges = edges(path_effects)?;
    let pairs: BTreeSet<&Pair> = edges.keys().map(|(pair, ..)| pair).collect();
    let n = context.subject.prompts.len();
    let mut figures = vec![matrix(&edges, &pairs, n)];
    if span_effects.n_rows() > 0 {
        figures.push(growing_spans(paths, context, span_effects)?);
    }
    let paragraphs = pairs.iter().filter_map(|pair| sentence(&edges, pair)).collect();
    Ok(Section {
        id: paths.name().to_owned(),
        title: paths.title().to_owned(),
        question: paths.question().to_owned(),
        paragraphs,
        figures,
        tables: vec![largest(&edges, &pairs)],
        notes: vec![
            "An edge is patched at the decision point only: what a sender changes at earlier tokens reaches the decision through \
             keys and values there, which these edges leave out."
                .to_owned(),
            "logits_frozen is the direct effect with the final norm's scale frozen: the change of the direct logit attribution, \
             up to the soft cap where the model has one."
                .to_owned(),
        ],
    })
}

type Edges = BTreeMap<(Pair, String, String), Effect>;

fn edges(effects: &Table) -> Result<Edges> {
    let (source, target) = (effects.texts("source")?, effects.texts("target")?);
    let (sender, receiver) = (effects.texts("sender")?, effects.texts("receiver")?);
    let key = |i: usize| {
        ((source[i].to_owned(), target[i].to_owned()), sender[i].to_owned(), receiver[i].to_owned())
    };
    Ok(effects_of(effects)?.into_iter().enumerate().map(|(i, e)| (key(i), e)).collect())
}

/// Names in the order of layers and heads.
fn in_order<'n>(names: impl Iterator<Item = &'n String>) -> Vec<String> {
    let place = |name: &str| {
        let numbers = name.rsplit_once(':').map(|(_, place)| place.split('.').filter_map(|n| n.parse().ok()));
        let numbers: Vec<usize> = numbers.into_iter().flatten().collect();
        (numbers.is_empty(), numbers)
    };
    let distinct: BTreeSet<&String> = names.collect();
    let mut all: Vec<String> = distinct.into_iter().cloned().collect();
    all.sort_by_key(|name| (place(name), name.clone()));
    all
}

/// Senders × receivers.
fn matrix(edges: &Edges, pairs: &BTreeSet<&Pair>, n_prompts: usize) -> Figure {
    let (shown_value, unit) = shown(edges.values());
    let what = if edges.values().all(|e| e.recovery.is_some()) {
        "Share of the difference in delta between source and target that arrives, prompts weighted by its size,"
    } else {
        "Mean change of delta, in logits,"
    };
    let panel = |pair: &&Pair| {
        let own = || edges.keys().filter(|(p, ..)| p == *pair);
        let (rows, cols) = (in_order(own().map(|k| &k.1)), in_order(own().map(|k| &k.2)));
        let value =
            |s: &String, r: &String| edges.get(&((*pair).clone(), s.clone(), r.clone())).map(shown_value);
        HeatmapPanel {
            title: format!("{} → {}", pair.0, pair.1),
            values: rows.iter().map(|s| cols.iter().map(|r| value(s, r)).collect()).collect(),
            rows,
            cols,
            intervals: Vec::new(),
        }
    };
    Figure {
        name: "path_edges".to_owned(),
        title: "Effect of single edges on the decision".to_owned(),
        caption: format!(
            "{what} when one receiver (column) sees the source's output of one sender (row) at the decision point, everything \
             between frozen; {n_prompts} prompts. Crossed cells: the receiver does not come after \
             the sender. 95% intervals over prompt templates ({RESAMPLES} resamples) are in the table path_effects."
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "sender".to_owned(),
            col_label: "receiver".to_owned(),
            panels: pairs.iter().map(panel).collect(),
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: unit.to_owned(),
            annotate: false,
        },
    }
}

/// Recovery against the last layer of the span, for each first layer and kind.
fn growing_spans(paths: &Paths, context: &Context, spans: &Table) -> Result<Figure> {
    let (source, target, kind) = (spans.texts("source")?, spans.texts("target")?, spans.texts("kind")?);
    let (first, last) = (spans.ints("first_layer")?, spans.ints("last_layer")?);
    let recovery = spans.floats_or_null("recovery")?;
    let (lo, hi) = (spans.floats_or_null("recovery_lo")?, spans.floats_or_null("recovery_hi")?);
    /// Rows by source and target.
    type ByPair<'t> = BTreeMap<(&'t str, &'t str), Vec<usize>>;
    let mut curves: BTreeMap<(&str, i64), ByPair> = BTreeMap::new();
    for i in 0..spans.n_rows() {
        curves.entry((kind[i], first[i])).or_default().entry((source[i], target[i])).or_default().push(i);
    }
    let mut panels = Vec::new();
    for ((kind, first), by_pair) in curves {
        let mut series = Vec::new();
        for ((source, target), mut rows) in by_pair {
            rows.sort_by_key(|&i| last[i]);
            let values =
                |of: &[Option<f64>]| rows.iter().map(|&i| of[i].unwrap_or(f64::NAN)).collect::<Vec<_>>();
            let x = rows.iter().map(|&i| last[i] as f64).collect();
            let model =
                model_of(paths.name(), if source == "base" { target } else { source }, context.subject)?;
            let name = format!("{source} → {target}");
            let curve = Series::new(name, context.subject.color(model), x, &values(recovery));
            series.push(curve.with_interval(&values(lo), &values(hi)));
        }
        let what = match kind {
            "residual" => "attention and MLP outputs",
            "attn" => "attention outputs",
            _ => "MLP outputs",
        };
        panels.push(LinePanel { title: format!("{what} from layer {first} on"), series });
    }
    Ok(Figure {
        name: "path_spans".to_owned(),
        title: "Layers patched together, from one layer on".to_owned(),
        caption: format!(
            "Share of the difference between source and target that arrives when all components from the first layer to the one \
             on the axis are patched together at the decision point; mean over {} prompts weighted by the size of the \
             difference, with 95% bootstrap interval over prompt templates ({RESAMPLES} resamples).",
            context.subject.prompts.len()
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "last layer".to_owned(),
            y_label: "recovery".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

fn by_size<'e>(edges: &'e Edges, pair: &'e Pair) -> Vec<(&'e str, &'e str, &'e Effect)> {
    let own = edges.iter().filter(move |((p, ..), _)| p == pair);
    let mut all: Vec<_> = own.map(|((_, s, r), e)| (s.as_str(), r.as_str(), e)).collect();
    all.sort_by(|a, b| b.2.size().total_cmp(&a.2.size()));
    all
}

fn sentence(edges: &Edges, pair: &Pair) -> Option<String> {
    let all = by_size(edges, pair);
    let (sender, receiver, effect) = all.iter().find(|(_, r, _)| !r.starts_with("logits"))?;
    let strength = |e: &Effect| match e.recovery {
        Some(_) => {
            format!("{} of the difference between the two, {} logits on average", e.recovery_text(), e.text())
        }
        None => format!("{} logits on average", e.text()),
    };
    let direct = all.iter().find(|(_, r, _)| *r == "logits");
    let direct = direct.map_or(String::new(), |(s, _, e)| {
        format!("; the strongest direct one is {s} → logits ({})", strength(e))
    });
    Some(format!(
        "{} into {}: the strongest edge between components is {sender} → {receiver} ({}){direct}.",
        pair.0,
        pair.1,
        strength(effect)
    ))
}

fn largest(edges: &Edges, pairs: &BTreeSet<&Pair>) -> SummaryTable {
    let row = |pair: &Pair, (sender, receiver, effect): (&str, &str, &Effect)| {
        let (change, recovery) = (effect.text(), effect.recovery_text());
        vec![pair.0.clone(), pair.1.clone(), sender.to_owned(), receiver.to_owned(), change, recovery]
    };
    let of_pair = |pair: &&Pair| {
        by_size(edges, pair).into_iter().take(LARGEST).map(|e| row(pair, e)).collect::<Vec<_>>()
    };
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    SummaryTable {
        title: format!("The {LARGEST} strongest edges of each pair"),
        rows: pairs.iter().flat_map(of_pair).collect(),
        columns: vec![
            column("source", "Where the sender's output comes from.", false),
            column("target", "Where it is put in.", false),
            column("sender", "What writes, as SITE:LAYER.HEAD.", false),
            column("receiver", "What reads.", false),
            column("change", "Mean change of delta in logits, with 95% interval.", true),
            column(
                "recovery",
                "Share of the difference between source and target, with 95% interval; the list is ordered by it.",
                true,
            ),
        ],
    }
}
