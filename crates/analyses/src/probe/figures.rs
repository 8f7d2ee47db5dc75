//! The section of the report: curves over layers, with what the probes are held against.

use super::slices::{Shown, sliced};
use super::words::{Found, Words};
use super::{NAME, Probing};
use crate::Analysis;
use crate::activations::Reading;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{ColorKey, Figure, FigureKind, LinePanel, Section, Series};

/// A figure of each metric: its name, what it shows, the lines that it is held against, and the kind of target.
struct Kind {
    metric: &'static str,
    title: &'static str,
    y: &'static str,
    caption: &'static str,
    classes: bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        metric: "accuracy",
        title: "Accuracy of linear probes",
        y: "accuracy",
        caption: "Share of prompts whose label is predicted by a probe that was fitted to prompts of other templates. Dashed: \
                  always the larger class. Dotted: probes on shuffled labels, mean over models. Of one prompt: 1 where it is predicted rightly, else 0.",
        classes: true,
    },
    Kind {
        metric: "auc",
        title: "AUC of linear probes",
        y: "AUC",
        caption: "Share of pairs of one prompt of each class, within a fold, that the probe puts in order. Dashed: chance.",
        classes: true,
    },
    Kind {
        metric: "r2",
        title: "R² of linear probes",
        y: "R²",
        caption: "Share of the squared error of the mean that a probe saves on prompts of templates that it was not fitted to. \
                  Dashed: the mean. Dotted: probes on shuffled labels, mean over models.",
        classes: false,
    },
];

/// The section, from finished tables.
pub(super) fn section(
    context: &Context,
    probing: &Probing,
    reading: &Reading,
    predictions: &Table,
    scores: &Table,
    differences: &Table,
) -> Result<Section> {
    let found = Found::new(scores)?;
    let mut figures = Vec::new();
    let several = reading.sites.len() * reading.positions.len() > 1;
    for site in &reading.sites {
        for position in &reading.positions {
            let at = At { site: &site.short_name(), position, several };
            for kind in &KINDS {
                let Some((figure, shown)) = figure(context, probing, reading, &found, kind, &at) else {
                    continue;
                };
                figures.push(match kind.metric {
                    "accuracy" => sliced(figure, context.subject, predictions, &at, &reading.layers, &shown)?,
                    _ => figure,
                });
            }
        }
    }
    let words = Words { context, probing, reading, found: &found };
    let analysis: &dyn Analysis = &super::Probe;
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs: words.paragraphs(differences)?,
        figures,
        tables: vec![words.table()],
        notes: words.notes(),
    })
}

/// Which site and position a figure is about.
pub(super) struct At<'a> {
    pub site: &'a str,
    pub position: &'a str,
    /// Whether there are others.
    several: bool,
}

/// A panel for each target that has the metric, and what each shows; `None` where no target has a value.
fn figure(
    context: &Context,
    probing: &Probing,
    reading: &Reading,
    found: &Found,
    kind: &Kind,
    at: &At,
) -> Option<(Figure, Vec<Shown>)> {
    let model = &context.subject.model;
    let x: Vec<f64> = reading.layers.iter().map(|&l| l as f64).collect();
    let (mut panels, mut shown) = (Vec::new(), Vec::new());
    for (t, target) in probing.targets.iter().enumerate() {
        if target.is_classes() != kind.classes {
            continue;
        }
        let values = |m: usize, metric: &str, of: fn(&super::words::Score) -> Option<f64>| -> Vec<f64> {
            let one = |&layer: &usize| {
                found.of(model.name(m), &target.name, at.site, layer, at.position, metric).and_then(of)
            };
            reading.layers.iter().map(one).map(|v| v.unwrap_or(f64::NAN)).collect()
        };
        let mut series = Vec::new();
        let mut known = Vec::new();
        for m in 0..model.n_models() {
            let y = values(m, kind.metric, |s| s.value);
            if y.iter().any(|v| v.is_finite()) {
                known.push(m);
                let (lo, hi) = (values(m, kind.metric, |s| s.lo), values(m, kind.metric, |s| s.hi));
                series.push(
                    Series::new(model.name(m), context.subject.color(m), x.clone(), &y)
                        .with_interval(&lo, &hi),
                );
            }
        }
        if known.is_empty() {
            continue;
        }
        let mean = |metric: &str| -> Vec<f64> {
            let all: Vec<Vec<f64>> = known.iter().map(|&m| values(m, metric, |s| s.value)).collect();
            (0..x.len()).map(|i| all.iter().map(|v| v[i]).sum::<f64>() / all.len() as f64).collect()
        };
        let level = match kind.metric {
            "accuracy" => mean("majority"),
            "auc" => vec![0.5; x.len()],
            _ => vec![0.0; x.len()],
        };
        let name = match kind.metric {
            "accuracy" => "larger class",
            "auc" => "chance",
            _ => "mean",
        };
        series.push(Series::new(name, ColorKey::Reference(0), x.clone(), &level));
        if kind.metric != "auc" {
            series.push(Series::new("shuffled labels", ColorKey::Reference(1), x.clone(), &mean("control")));
        }
        let n = probing.folds(t).prompts.len();
        panels.push(LinePanel { title: format!("{} ({n} prompts)", target.name), series });
        shown.push(Shown { target: target.name.clone(), models: known });
    }
    if panels.is_empty() {
        return None;
    }
    let suffix = if at.several { format!("_{}_{}", at.site, named(at.position)) } else { String::new() };
    let figure = Figure {
        name: format!("probe_{}{suffix}", kind.metric),
        title: format!("{}: {}, {}", kind.title, at.site, place(at.position)),
        caption: format!(
            "{} At {} of each layer, {}. With 95% bootstrap intervals over prompt templates ({RESAMPLES} resamples).",
            kind.caption,
            at.site,
            place(at.position)
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: kind.y.to_owned(),
            panels,
            zero_line: false,
        },
    };
    Some((figure, shown))
}

/// A position for readers.
pub(super) fn place(position: &str) -> String {
    match position {
        "decision" => "at the decision point".to_owned(),
        share if share.ends_with('%') => format!("{share} of the way to the decision point"),
        span => format!("at the last token of {span}"),
    }
}

/// A position in a file's name.
fn named(position: &str) -> String {
    position.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
