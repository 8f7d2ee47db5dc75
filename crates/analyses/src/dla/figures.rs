//! The section of the report: heat maps over layers and heads, and around them what they say in words.

use super::slices::sliced;
use super::summary::Values;
use super::tables::{Component, Kind};
use super::words::{Summary, Words, notes, summaries};
use super::{NAME, Settings};
use crate::Analysis;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::{ALL_PROMPTS, scenarios};
use lorascope_engine::ModelSpec;
use lorascope_record::Table;
use lorascope_report::{Figure, FigureKind, HeatmapPanel, HeatmapScale, Section};
use std::collections::HashMap;

/// The section, from finished tables.
pub(super) fn section(
    context: &Context,
    settings: &Settings,
    check: &Table,
    means: &Table,
    differences: &Table,
    values: &Values,
) -> Result<Section> {
    let names = context.subject.model.names();
    let has_twins = means.texts("part")?.contains(&"meaning");
    let part = if has_twins { "meaning" } else { "all" };
    let read = |table: &Table, scenario: &str, part: &str| -> Result<Vec<Summary>> {
        let mut found = summaries(table, scenario, part)?;
        found.sort_by_key(|s| names.iter().position(|n| *n == s.model));
        Ok(found)
    };
    let models = read(means, ALL_PROMPTS, part)?;
    let changes = read(differences, ALL_PROMPTS, part)?;
    let words = Words::new(context, means, part)?;
    let spec = context.subject.model.spec();
    let [b, a] = words.meanings();

    let unit = format!(
        "in logits of {b}'s deciding token minus {a}'s, with the final norm frozen: red towards {b}, blue towards {a}"
    );
    let named = scenarios(&context.subject.prompts);
    let cancels = match named.len() {
        1 => String::new(),
        n => format!(
            " Averaged over {n} scenarios, between which contributions of opposite sign cancel: see the differences by scenario."
        ),
    };
    let map = |name: &str, title: &str, caption: &str, of: &[Summary], part: &str| {
        sliced(context.subject, values, heat_map(spec, name, title, caption, of), of, part)
    };
    let caption = format!("What each head and MLP contributes, {unit}. {}.{cancels}", words.basis());
    let title = "Contributions to the logit difference";
    let mut figures = vec![map("dla_contributions", title, &caption, &models, part)];
    let mut tables: Vec<_> = models.iter().map(|s| words.table(s, settings.top)).collect();
    let mut paragraphs: Vec<String> = models.iter().map(|s| words.model(s)).collect();
    if !changes.is_empty() {
        let caption = format!(
            "How much more each head and MLP of the first model contributes than that of the second, {unit}. {}.{cancels}",
            words.basis()
        );
        figures.push(map("dla_differences", "What the adapters changed", &caption, &changes, part));
        tables.extend(changes.iter().map(|s| words.table(s, settings.top)));
        paragraphs.extend(changes.iter().map(|s| words.difference(s)));
    }
    if has_twins && !changes.is_empty() {
        let labels = read(differences, ALL_PROMPTS, "label")?;
        let caption = format!(
            "The same differences for the label instead of the meaning: half the difference between the two labellings of each pair, \
             in logits; red towards the label that is answer B in the first prompt of each pair. {}.",
            words.basis()
        );
        let title = "What the adapters changed about the labels";
        figures.push(map("dla_labels", title, &caption, &labels, "label"));
        paragraphs.extend(labels.iter().map(|s| words.label(s)));
    }
    if named.len() > 1 && !changes.is_empty() {
        let mut rows = Vec::new();
        for scenario in &named {
            rows.extend(
                read(differences, &scenario.name, part)?.into_iter().map(|s| (scenario.name.clone(), s)),
            );
        }
        tables.push(words.scenarios(&rows));
    }
    let analysis: &dyn Analysis = &super::Dla;
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs,
        figures,
        tables,
        notes: notes(check, has_twins, words.n_clusters())?,
    })
}

/// What stands in a cell: rows are layers from the last to the first, columns heads and then the MLP.
pub(super) fn component_of(spec: &ModelSpec, row: usize, col: usize) -> Component {
    let layer = spec.n_layers.checked_sub(row + 1);
    match col {
        head if head < spec.n_heads => Component { kind: Kind::Head, layer, head: Some(head) },
        _ => Component { kind: Kind::Mlp, layer, head: None },
    }
}

/// A panel for each summary: layers from the last to the first, columns heads and then the MLP.
fn heat_map(spec: &ModelSpec, name: &str, title: &str, caption: &str, of: &[Summary]) -> Figure {
    let cols: Vec<String> = (0..spec.n_heads).map(|h| format!("H{h}")).chain(["MLP".to_owned()]).collect();
    let panel = |summary: &Summary| {
        let means: HashMap<Component, f64> = summary.entries.iter().map(|e| (e.component, e.mean)).collect();
        let cell = |row: usize, col: usize| means.get(&component_of(spec, row, col)).copied();
        let row = |row: usize| (0..cols.len()).map(|col| cell(row, col)).collect();
        HeatmapPanel {
            title: summary.title(),
            rows: (0..spec.n_layers).rev().map(|l| format!("L{l}")).collect(),
            cols: cols.clone(),
            values: (0..spec.n_layers).map(row).collect(),
            intervals: Vec::new(),
        }
    };
    let panels: Vec<HeatmapPanel> = of.iter().map(panel).collect();
    let mut sizes: Vec<f64> =
        panels.iter().flat_map(|p| p.values.iter().flatten().flatten().map(|v| v.abs())).collect();
    sizes.sort_by(f64::total_cmp);
    // A few large MLPs would leave all heads white.
    let reach = sizes.get(sizes.len().saturating_sub(1) * 99 / 100).copied().filter(|r| *r > 0.0);
    let full = reach.map_or_else(String::new, |r| {
        format!(" Colours are full from ±{r:.3} on, which the largest 1% of the cells pass.")
    });
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: format!(
            "{caption}{full} Intervals are in the tables below, and for every component in dla_means and dla_differences."
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "head".to_owned(),
            panels,
            scale: HeatmapScale::Diverging { center: 0.0, reach },
            unit: "logit".to_owned(),
            annotate: false,
        },
    }
}
