//! The section of the report: matrices of correlations, of their differences, and of causal interactions.

use super::tables::{CORRELATIONS, DIFFERENCES};
use super::{LEVEL, NAME, Settings};
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::dla::Component;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{
    Figure, FigureKind, HeatmapPanel, HeatmapScale, Section, SummaryColumn, SummaryTable,
};
use std::collections::BTreeMap;

/// Below this number of templates no test can pass a correction.
const FEW: i64 = 6;
/// Pairs that a sentence names.
const NAMED: usize = 3;

/// Finished tables, and what they rest on.
pub(super) struct Found<'a> {
    pub correlations: &'a Table,
    pub differences: &'a Table,
    pub effects: &'a Table,
    pub chosen: &'a [Component],
    /// Whether permutations exchange whole templates.
    pub by_template: bool,
    pub centres_templates: bool,
}

/// A pair with its number, interval and adjusted p-value.
struct Pair<'t> {
    one: &'t str,
    other: &'t str,
    value: f64,
    lo: f64,
    hi: f64,
    q: f64,
}

impl Pair<'_> {
    fn text(&self) -> String {
        format!(
            "{} with {} {:+.3} [{:+.3}, {:+.3}]",
            label(self.one),
            label(self.other),
            self.value,
            self.lo,
            self.hi
        )
    }
}

/// `L3 H1` of `result:3.1`, `L3 MLP` of `mlp_out:3`.
fn label(unit: &str) -> String {
    match unit.split_once(':') {
        Some(("result", place)) => match place.split_once('.') {
            Some((layer, head)) => format!("L{layer} H{head}"),
            None => unit.to_owned(),
        },
        Some((_, layer)) => format!("L{layer} MLP"),
        None => unit.to_owned(),
    }
}

/// Pairs of each group of rows that two key columns (or one) tell apart, in the order of the models.
fn grouped<'t>(
    context: &Context,
    table: &'t Table,
    keys: [&str; 2],
    value: &str,
) -> Result<Vec<(String, Vec<Pair<'t>>)>> {
    let (first, second) = (table.texts(keys[0])?, table.texts(keys[1])?);
    let (one, other) = (table.texts("one")?, table.texts("other")?);
    let (values, lo, hi, q) =
        (table.floats(value)?, table.floats("lo")?, table.floats("hi")?, table.floats("q")?);
    let names = context.subject.model.names();
    let place = |name: &str| names.iter().position(|n| *n == name);
    let mut found: BTreeMap<_, (String, Vec<Pair>)> = BTreeMap::new();
    for i in 0..table.n_rows() {
        let title = match keys {
            [a, b] if a == b => first[i].to_owned(),
            ["source", _] => format!("{} into {}", first[i], second[i]),
            _ => format!("{} − {}", first[i], second[i]),
        };
        let pair = Pair { one: one[i], other: other[i], value: values[i], lo: lo[i], hi: hi[i], q: q[i] };
        found.entry((place(first[i]), place(second[i]))).or_insert_with(|| (title, Vec::new())).1.push(pair);
    }
    Ok(found.into_values().collect())
}

fn largest<'a, 't>(pairs: &'a [Pair<'t>], n: usize) -> Vec<&'a Pair<'t>> {
    let mut order: Vec<&Pair> = pairs.iter().collect();
    order.sort_by(|a, b| {
        b.value.abs().total_cmp(&a.value.abs()).then((a.one, a.other).cmp(&(b.one, b.other)))
    });
    order.truncate(n);
    order
}

fn named(pairs: &[Pair]) -> String {
    largest(pairs, NAMED).into_iter().map(Pair::text).collect::<Vec<_>>().join(", ")
}

pub(super) fn section(context: &Context, settings: &Settings, found: &Found) -> Result<Section> {
    let correlations = grouped(context, found.correlations, ["model", "model"], "r")?;
    let differences = grouped(context, found.differences, ["model", "minus"], "difference")?;
    let effects = grouped(context, found.effects, ["source", "target"], "interaction")?;
    let n = context.subject.prompts.len();
    let resolved = n >= settings.enough;
    let clear = |pairs: &[Pair]| pairs.iter().filter(|p| p.q <= LEVEL).count();
    let claim = |pairs: &[Pair], verb: &str| {
        if resolved {
            format!("{} of {} pairs {verb} at q ≤ {LEVEL}", clear(pairs), pairs.len())
        } else {
            format!("not resolved at this sample size ({n} prompts; {} are asked for)", settings.enough)
        }
    };
    let mut paragraphs = Vec::new();
    for (model, pairs) in &correlations {
        let strongest = if resolved { format!(" Strongest: {}.", named(pairs)) } else { String::new() };
        paragraphs.push(format!(
            "{model}, correlations of contributions: {}.{strongest}",
            claim(pairs, "are correlated")
        ));
    }
    for (title, pairs) in &differences {
        let largest = if resolved { format!(" Largest: {}.", named(pairs)) } else { String::new() };
        paragraphs
            .push(format!("{title}, differences of correlations: {}.{largest}", claim(pairs, "differ")));
    }
    let patched =
        found.effects.ints("n")?.first().copied().zip(found.effects.ints("n_clusters")?.first().copied());
    for (title, pairs) in &effects {
        let (n, clusters) = patched.unwrap_or_default();
        paragraphs.push(format!(
            "{title}: {} of {} pairs of components interact at q ≤ {LEVEL} ({n} prompts of {clusters} templates). Largest effects of \
             both together minus the sum of their single effects, in logits: {}.",
            clear(pairs),
            pairs.len(),
            named(pairs)
        ));
    }
    if let Some((_, clusters)) = patched.filter(|p| p.1 < FEW) {
        paragraphs.push(format!(
            "With {clusters} template(s) the sign-flip test of interactions can give no p-value below {}, and their intervals mean \
             little.",
            0.5f64.powi(i32::try_from(clusters).unwrap_or(1) - 1)
        ));
    }
    let order: Vec<String> = found.chosen.iter().map(|c| c.unit_name()).collect();
    let mut figures = Vec::new();
    let within = if found.centres_templates { "scenario and template" } else { "scenario" };
    let caution = if resolved {
        String::new()
    } else {
        format!(" With {n} prompts no single cell is resolved: noise alone gives such a picture.")
    };
    if !correlations.is_empty() {
        figures.push(matrix(
            "interaction_correlations",
            "Which contributions go together",
            format!(
                "Correlation of the signed contributions of two components over {n} prompts, within {within}; red: they push the \
                 same way on the same prompts.{caution} The {} components with the most varying contributions. Intervals and tests \
                 are in {}.",
                order.len(),
                CORRELATIONS.name
            ),
            correlations.iter().map(|(title, pairs)| panel(title, &order, pairs)).collect(),
            Some(1.0),
            "correlation",
            false,
        ));
    }
    if !differences.is_empty() {
        figures.push(matrix(
            "interaction_differences",
            "Where correlations differ",
            format!(
                "Correlation in the first model minus that in the second, on the same {n} prompts.{caution} Intervals and tests are in \
                 {}.",
                DIFFERENCES.name
            ),
            differences.iter().map(|(title, pairs)| panel(title, &order, pairs)).collect(),
            None,
            "difference of correlations",
            false,
        ));
    }
    if !effects.is_empty() {
        let own = |(title, pairs): &(String, Vec<Pair>)| {
            let mut units: Vec<&str> = Vec::new();
            for unit in pairs.iter().flat_map(|p| [p.one, p.other]) {
                if !units.contains(&unit) {
                    units.push(unit);
                }
            }
            units.sort_by_key(|u| place(u));
            panel(title, &units.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>(), pairs)
        };
        figures.push(matrix(
            "interaction_effects",
            "Effects that do not add up",
            format!(
                "Effect on delta of patching both components at the decision point minus the sum of their single effects, in logits \
                 (positive towards {}), for the components with the largest single effects. Zero: they act independently.",
                context.subject.meanings.b
            ),
            effects.iter().map(own).collect(),
            None,
            "logit",
            effects.iter().all(|(_, pairs)| pairs.len() <= 28),
        ));
    }
    let mut tables = Vec::new();
    for (title, pairs) in effects.iter().filter(|_| settings.top > 0) {
        tables.push(table(
            &format!("Largest interactions: {title}"),
            "interaction",
            "In logits",
            pairs,
            settings.top,
        ));
    }
    for (title, pairs) in differences.iter().filter(|_| resolved && settings.top > 0) {
        let what = "Difference of correlations";
        tables.push(table(
            &format!("Largest differences of correlations: {title}"),
            "difference",
            what,
            pairs,
            settings.top,
        ));
    }
    let analysis: &dyn Analysis = &super::Interactions;
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs,
        figures,
        tables,
        notes: notes(settings, found),
    })
}

fn notes(settings: &Settings, found: &Found) -> Vec<String> {
    let exchanged = if found.by_template {
        "whole templates exchanged, the same way in all scenarios"
    } else {
        "prompts exchanged within their scenario"
    };
    let mut notes = vec![
        format!(
            "Null of a correlation: {} permutations, {exchanged}; Benjamini–Hochberg over the pairs of a model. Intervals are 95% \
             bootstrap intervals over templates ({RESAMPLES} resamples).",
            settings.permutations
        ),
        "A correlation has no direction and may have a common cause; the causal interaction is of one position and one pair of \
         models."
            .to_owned(),
    ];
    if !found.centres_templates {
        notes.push(
            "Every prompt has a template of its own, so that only means of scenarios are removed.".to_owned(),
        );
    }
    if found.effects.n_rows() > 0 {
        notes.push(
            "Components for causal pairs were chosen by their single effects on the same prompts: single effects are likely \
             overestimated, interactions are not chosen by size."
                .to_owned(),
        );
    }
    notes
}

/// Layer, then heads before the MLP.
fn place(unit: &str) -> (usize, usize) {
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    match unit.split_once(':') {
        Some((_, place)) => match place.split_once('.') {
            Some((layer, head)) => (number(layer), number(head)),
            None => (number(place), usize::MAX),
        },
        None => (usize::MAX, usize::MAX),
    }
}

/// A symmetric matrix of pairs.
fn panel(title: &str, order: &[String], pairs: &[Pair]) -> HeatmapPanel {
    let at = |unit: &str| order.iter().position(|o| o == unit);
    let mut values = vec![vec![None; order.len()]; order.len()];
    for pair in pairs {
        if let (Some(i), Some(j)) = (at(pair.one), at(pair.other)) {
            values[i][j] = Some(pair.value);
            values[j][i] = Some(pair.value);
        }
    }
    let names: Vec<String> = order.iter().map(|o| label(o)).collect();
    HeatmapPanel { title: title.to_owned(), rows: names.clone(), cols: names, values, intervals: Vec::new() }
}

fn matrix(
    name: &str,
    title: &str,
    caption: String,
    panels: Vec<HeatmapPanel>,
    reach: Option<f64>,
    unit: &str,
    annotate: bool,
) -> Figure {
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption,
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "component".to_owned(),
            col_label: "component".to_owned(),
            panels,
            scale: HeatmapScale::Diverging { center: 0.0, reach },
            unit: unit.to_owned(),
            annotate,
        },
    }
}

fn table(title: &str, value: &str, doc: &str, pairs: &[Pair], top: usize) -> SummaryTable {
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let row = |p: &Pair| {
        vec![
            label(p.one),
            label(p.other),
            format!("{:+.3} [{:+.3}, {:+.3}]", p.value, p.lo, p.hi),
            format!("{:.3}", p.q),
        ]
    };
    SummaryTable {
        title: title.to_owned(),
        columns: vec![
            column("one", "Layer and head, or MLP.", false),
            column("other", "Layer and head, or MLP.", false),
            column(
                value,
                &format!("{doc}, with 95% bootstrap interval over templates ({RESAMPLES} resamples)."),
                true,
            ),
            column("q", "Benjamini–Hochberg adjusted permutation p-value.", true),
        ],
        rows: largest(pairs, top).into_iter().map(row).collect(),
    }
}
