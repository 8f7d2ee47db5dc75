//! The section of the report: where heads attend, where that changed, and what kind of heads they are.

use super::summary::Values;
use super::words::{self, Comparison, Head};
use super::{NAME, Settings};
use crate::Analysis;
use crate::bootstrap::{Interval, RESAMPLES};
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::ALL_PROMPTS;
use crate::statistics::Design;
use lorascope_record::Table;
use lorascope_report::{BarPanel, BarSeries, Figure, FigureKind, HeatmapPanel, HeatmapScale, Section};

/// Finished tables.
pub(super) struct Found<'a> {
    pub means: &'a Table,
    pub differences: &'a Table,
    pub scores: &'a Table,
    pub writes: &'a Table,
    pub heads: &'a Table,
    pub check: &'a Table,
    pub score_parts: &'static [&'static str],
}

pub(super) fn section(
    context: &Context,
    settings: &Settings,
    values: &Values,
    found: &Found,
) -> Result<Section> {
    let mass = words::comparisons(context, found, "mass")?;
    let mut figures = vec![span_bars(context, values)];
    let (mut paragraphs, mut tables) = (vec![where_heads_attend(context, values)], Vec::new());
    if !mass.is_empty() {
        figures.push(heat_map(context, &mass));
        figures.push(largest(context, &mass, settings.top));
        paragraphs.extend(mass.iter().map(|c| words::difference(c, settings.margin)));
        for comparison in &mass {
            paragraphs.push(words::through(found, comparison)?);
            tables.push(words::score_table(found, comparison, settings.top)?);
            tables.push(words::write_table(found, comparison, settings.top)?);
        }
    }
    figures.extend(kinds(context, found.heads, values.spans.n_named() > 0)?);
    paragraphs.extend(words::kinds(context, found.heads)?);
    let analysis: &dyn Analysis = &super::Attention;
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs,
        figures,
        tables,
        notes: words::notes(context, found, settings.margin, values.spans.n_named())?,
    })
}

/// The named span on which the most attention moved, summed over heads.
fn most_changed(comparison: &Comparison) -> Option<String> {
    let mut sums: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for change in comparison.named() {
        *sums.entry(&change.span).or_default() += change.mean.abs();
    }
    sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0))).map(|(span, _)| span.to_owned())
}

/// A head's share on each span, averaged over all heads of a model, by prompt.
fn overall(values: &Values, prompts: &[usize], model: usize, span: usize) -> Vec<f64> {
    let layout = values.layout;
    let of_prompt = |&p: &usize| {
        let heads = (0..layout.n_layers).flat_map(|l| (0..layout.n_heads).map(move |h| (l, h)));
        let sum: f64 = heads.map(|h| values.mass(p, model, h, span)).sum();
        sum / layout.heads() as f64
    };
    prompts.iter().map(of_prompt).collect()
}

fn span_means(context: &Context, values: &Values, span: usize) -> Option<Vec<Interval>> {
    let all = &context.subject.prompts;
    let prompts: Vec<usize> = (0..all.len()).filter(|&p| values.spans.has(p, span)).collect();
    let clusters: Vec<&str> = prompts.iter().map(|&p| all[p].item.cluster()).collect();
    let design = (!prompts.is_empty()).then(|| Design::new(&clusters, context.seed))?;
    Some((0..values.layout.n_models).map(|m| design.mean(&overall(values, &prompts, m, span))).collect())
}

fn span_bars(context: &Context, values: &Values) -> Figure {
    // Where there are named spans, the first token and the rest would dwarf them.
    let shown = if values.spans.n_named() > 0 { values.spans.n_named() } else { values.spans.n() };
    let means: Vec<(usize, Vec<Interval>)> =
        (0..shown).filter_map(|s| Some((s, span_means(context, values, s)?))).collect();
    let series = |model: usize| BarSeries {
        name: context.subject.model.name(model).to_owned(),
        color: context.subject.color(model),
        values: means.iter().map(|(_, m)| Some(m[model].mean)).collect(),
        intervals: means.iter().map(|(_, m)| Some((m[model].lo, m[model].hi))).collect(),
    };
    let panel = BarPanel {
        title: String::new(),
        groups: means.iter().map(|(s, _)| words::span_words(&values.spans.names[*s])).collect(),
        series: (0..values.layout.n_models).map(series).collect(),
    };
    Figure {
        name: "attention_spans".to_owned(),
        title: "Where attention goes from the decision point".to_owned(),
        caption: format!(
            "Attention mass on each named span, averaged over all {} heads of a model and over the prompts that have the span, with 95% \
             intervals over templates ({RESAMPLES} resamples). An average over heads hides what single heads do: see the next \
             figures. A token counts for the innermost span that holds it; the rest is on other tokens and the first token.",
            values.layout.heads()
        ),
        by_prompt: None,
        kind: FigureKind::HorizontalBars { x_label: "share of attention".to_owned(), panels: vec![panel] },
    }
}

fn where_heads_attend(context: &Context, values: &Values) -> String {
    let part = |span: usize| {
        let means = span_means(context, values, span)?;
        Some((
            means[0].mean,
            format!(
                "{} {:.3} [{:.3}, {:.3}]",
                words::span_words(&values.spans.names[span]),
                means[0].mean,
                means[0].lo,
                means[0].hi
            ),
        ))
    };
    let mut parts: Vec<(f64, String)> = (0..values.spans.n()).filter_map(part).collect();
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named: Vec<String> = parts.into_iter().take(5).map(|p| p.1).collect();
    format!(
        "From the decision point the base's heads attend most to: {} (mean mass over all heads and {} prompts).",
        named.join(", "),
        context.subject.prompts.len()
    )
}

/// Layers from the last to the first, heads across.
fn panel(context: &Context, title: String, values: impl Iterator<Item = (Head, f64)>) -> HeatmapPanel {
    let spec = context.subject.model.spec();
    let mut cells = vec![vec![None; spec.n_heads]; spec.n_layers];
    for ((layer, head), value) in values {
        let place = usize::try_from(layer).ok().zip(usize::try_from(head).ok());
        if let Some(cell) = place.and_then(|(l, h)| cells.get_mut(l)?.get_mut(h)) {
            *cell = Some(value);
        }
    }
    cells.reverse();
    HeatmapPanel {
        title,
        rows: (0..spec.n_layers).rev().map(|l| format!("L{l}")).collect(),
        cols: (0..spec.n_heads).map(|h| format!("H{h}")).collect(),
        values: cells,
        intervals: Vec::new(),
    }
}

fn heads_figure(
    name: &str,
    title: String,
    caption: String,
    panels: Vec<HeatmapPanel>,
    scale: HeatmapScale,
    unit: &str,
) -> Figure {
    Figure {
        name: name.to_owned(),
        title,
        caption,
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "head".to_owned(),
            panels,
            scale,
            unit: unit.to_owned(),
            annotate: false,
        },
    }
}

fn heat_map(context: &Context, mass: &[Comparison]) -> Figure {
    let of = |c: &Comparison| {
        let span = most_changed(c).unwrap_or_default();
        let changes = c.changes.iter().filter(|c| c.span == span).map(|c| (c.head, c.mean));
        panel(context, format!("{}: {}", c.short_title(), words::span_words(&span)), changes)
    };
    heads_figure(
        "attention_change",
        "Changes of attention".to_owned(),
        "Mean difference of each head's attention mass from the decision point on the named span on which the most attention moved \
         (it stands above each panel, with the model that is compared with the base, or both models), over all prompts that have \
         it; red where the first model attends more. Intervals and tests, and all other spans, are in attention_differences."
            .to_owned(),
        mass.iter().map(of).collect(),
        HeatmapScale::Diverging { center: 0.0, reach: None },
        "attention mass",
    )
}

/// The heads and spans with the largest changes, a panel for each comparison.
fn largest(context: &Context, mass: &[Comparison], top: usize) -> Figure {
    let names = context.subject.model.names();
    let of = |c: &Comparison| {
        let changes = c.largest(top.max(1));
        let model = names.iter().position(|n| *n == c.model).unwrap_or_default();
        BarPanel {
            title: c.title(),
            groups: changes
                .iter()
                .map(|c| format!("{} {}", words::label(c.head), words::span_words(&c.span)))
                .collect(),
            series: vec![BarSeries {
                name: c.title(),
                color: context.subject.color(model),
                values: changes.iter().map(|c| Some(c.mean)).collect(),
                intervals: changes.iter().map(|c| Some((c.lo, c.hi))).collect(),
            }],
        }
    };
    Figure {
        name: "attention_largest".to_owned(),
        title: "Largest changes of attention".to_owned(),
        caption: format!(
            "Heads and named spans whose attention mass from the decision point changed most, with 95% bootstrap intervals over templates \
             ({RESAMPLES} resamples; {ALL_PROMPTS}). They were picked as the largest of many, so that their sizes are more likely \
             over- than underestimated; tests corrected for all of them are in the tables."
        ),
        by_prompt: None,
        kind: FigureKind::HorizontalBars {
            x_label: "change of attention mass".to_owned(),
            panels: mass.iter().map(of).collect(),
        },
    }
}

fn kinds(context: &Context, heads: &Table, with_copying: bool) -> Result<Vec<Figure>> {
    let (models, kinds, mean) = (heads.texts("model")?, heads.texts("kind")?, heads.floats("mean")?);
    let place: Vec<Head> = heads.ints("layer")?.into_iter().zip(heads.ints("head")?).collect();
    let of = |kind: &str, title: &str| {
        let base = context.subject.model.name(0);
        let rows = (0..heads.n_rows()).filter(|&i| models[i] == base && kinds[i] == kind);
        panel(context, title.to_owned(), rows.map(|i| (place[i], mean[i])))
    };
    let mut figures = vec![heads_figure(
        "attention_kinds",
        "Kinds of heads in the base".to_owned(),
        "Previous-token score: mean attention to the token before. Induction score: mean attention to what came after the same \
         token the first time. Both on random tokens that repeat (Olsson et al. 2022). Intervals, and the adapters' changes, are \
         in attention_heads."
            .to_owned(),
        vec![of("previous_token", "previous token"), of("induction", "induction")],
        HeatmapScale::Sequential { min: 0.0, max: 1.0 },
        "mean attention",
    )];
    if with_copying {
        figures.push(heads_figure(
            "attention_copying",
            "Copying heads in the base".to_owned(),
            "How much each head's write at the decision point raises the logits of the tokens of named spans that it attends to, \
             above the mean over all tokens of spans, with the final norm frozen. Red: it copies; blue: it suppresses what it \
             attends to."
                .to_owned(),
            vec![of("span_copying", "span copying")],
            HeatmapScale::Diverging { center: 0.0, reach: None },
            "logit",
        ));
    }
    Ok(figures)
}
