//! The section of the report: estimates beside exact values, and what they are worth.

use super::Attribution;
use super::settings::{ESTIMATORS, Settings};
use super::verify::{Family, families, family_of_rows};
use crate::Analysis;
use crate::context::Context;
use crate::error::Result;
use crate::patch::keys;
use lorascope_record::Table;
use lorascope_report::{
    BarPanel, BarSeries, ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, Section, SummaryColumn,
    SummaryTable,
};
use std::collections::{BTreeMap, BTreeSet};

/// Places in the figure of bars.
const SHOWN: usize = 12;

pub(super) fn section(
    attribution: &Attribution,
    context: &Context,
    settings: &Settings,
    places: &Table,
    accuracy: &Table,
) -> Result<Section> {
    let meanings = &context.subject.meanings;
    let all: Vec<Family> = families(places)?.into_iter().collect();
    // Whole-prompt families by number of position would be hundreds of panels; the tables have them.
    let shown: Vec<&Family> = all.iter().filter(|f| f.3.parse::<usize>().is_err()).collect();
    let asked: Vec<&str> = settings.estimators().into_iter().map(|(name, _)| name).collect();
    let n_prompts = context.subject.prompts.len();
    let unit = format!("logit of {} minus logit of {}", meanings.b, meanings.a);
    let mut figures = Vec::new();
    let maps: Vec<HeatmapPanel> = shown
        .iter()
        .map(|f| map(places, f, asked[0]))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    if !maps.is_empty() {
        figures.push(Figure {
            name: "attribution_map".to_owned(),
            title: format!("Estimated effect of patching each place ({})", asked[0]),
            caption: format!(
                "Mean over {n_prompts} prompts of the estimated change in delta ({unit}) when a place alone takes the source's \
                 activation; prompts on which it goes either way cancel in the mean. Estimates, not measurements: the next figure \
                 and the table of accuracy say how far off they are. A \
                 panel is a pair source → target."
            ),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "layer".to_owned(),
                col_label: "place".to_owned(),
                panels: maps,
                scale: HeatmapScale::Diverging { center: 0.0, reach: None },
                unit: "estimated change of delta (logit)".to_owned(),
                annotate: false,
            },
        });
    }
    let bars: Vec<BarPanel> = shown
        .iter()
        .map(|f| beside(places, f, &asked))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    if !bars.is_empty() {
        figures.push(Figure {
            name: "attribution_exact".to_owned(),
            title: "Estimates beside exact values".to_owned(),
            caption: format!(
                "The {SHOWN} places of each pair with the largest exact effects among those that were patched, mean over \
                 {n_prompts} prompts: the change in delta ({unit}) by the patch itself (grey) and by each estimator."
            ),
            by_prompt: None,
            kind: FigureKind::HorizontalBars { x_label: "change of delta (logit)".to_owned(), panels: bars },
        });
    }
    Ok(Section {
        id: attribution.name().to_owned(),
        title: attribution.title().to_owned(),
        question: attribution.question().to_owned(),
        paragraphs: sentences(accuracy)?,
        figures,
        tables: vec![summary(accuracy)?],
        notes: vec![
            "An estimate is exact where delta depends linearly on what is patched. Large patches, saturated softmaxes and norms bend it; \
             where the worst error is as large as the effects, trust the exact values only."
                .to_owned(),
        ],
    })
}

fn title(family: &Family) -> String {
    let at = if family.3 == "decision" { String::new() } else { format!(" at {}", family.3) };
    format!("{} → {}{at}", family.0, family.1)
}

/// Layers from the last to the first, columns heads then whole vectors.
fn map(places: &Table, family: &Family, estimator: &str) -> Result<Option<HeatmapPanel>> {
    let (of_place, names, values) =
        (family_of_rows(places)?, keys(places)?, places.floats_or_null(estimator)?);
    let mut cells = BTreeMap::new();
    let mut columns = BTreeSet::new();
    for i in (0..places.n_rows()).filter(|&i| of_place[i] == *family) {
        let key = &names[i];
        if let (Some(layer), None) = (key.layer, key.component) {
            let column = (key.head.is_none(), key.site.clone(), key.head);
            columns.insert(column.clone());
            cells.insert((layer, column), values[i]);
        }
    }
    let layers: BTreeSet<i64> = cells.keys().map(|(layer, _)| *layer).collect();
    let label = |(_, site, head): &(bool, String, Option<i64>)| match head {
        Some(head) => format!("{site} {head}"),
        None => site.clone(),
    };
    let row =
        |&layer: &i64| columns.iter().map(|c| cells.get(&(layer, c.clone())).copied().flatten()).collect();
    Ok((!cells.is_empty()).then(|| HeatmapPanel {
        title: title(family),
        rows: layers.iter().rev().map(|l| format!("L{l}")).collect(),
        cols: columns.iter().map(label).collect(),
        values: layers.iter().rev().map(row).collect(),
        intervals: Vec::new(),
    }))
}

/// Exact values and estimates of the places with the largest exact effects.
fn beside(places: &Table, family: &Family, asked: &[&str]) -> Result<Option<BarPanel>> {
    let (of_place, names, exact) = (family_of_rows(places)?, keys(places)?, places.floats_or_null("exact")?);
    let mut rows: Vec<(usize, f64)> = (0..places.n_rows())
        .filter(|&i| of_place[i] == *family)
        .filter_map(|i| Some((i, exact[i]?)))
        .collect();
    rows.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    rows.truncate(SHOWN);
    if rows.is_empty() {
        return Ok(None);
    }
    let series = |name: &str, color: ColorKey, column: &str| -> Result<BarSeries> {
        let values = places.floats_or_null(column)?;
        let values = rows.iter().map(|r| values[r.0]).collect();
        Ok(BarSeries { name: name.to_owned(), color, values, intervals: Vec::new() })
    };
    let mut all = vec![series("exact", ColorKey::Base, "exact")?];
    for name in asked {
        let color = ESTIMATORS.iter().position(|e| e == name).unwrap_or(0);
        all.push(series(name, ColorKey::Model(color), name)?);
    }
    let groups = rows.iter().map(|r| names[r.0].place()).collect();
    Ok(Some(BarPanel { title: title(family), groups, series: all }))
}

/// One sentence for each pair: the estimator that ranks best, and how far off it is.
fn sentences(accuracy: &Table) -> Result<Vec<String>> {
    let (of_row, estimator) = (family_of_rows(accuracy)?, accuracy.texts("estimator")?);
    let (rank, worst) = (accuracy.floats_or_null("rank_correlation")?, accuracy.floats("worst_error")?);
    let (place, bound) = (accuracy.texts("worst_place")?, accuracy.floats_or_null("missed_bound")?);
    let mut sentences = Vec::new();
    for family in families(accuracy)?.into_iter().filter(|f| f.3.parse::<usize>().is_err()) {
        let own = (0..accuracy.n_rows()).filter(|&i| of_row[i] == family);
        let best =
            own.filter_map(|i| Some((i, rank[i]?))).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let Some((i, rank)) = best else { continue };
        let missed = bound[i].map_or(String::new(), |b| {
            format!(
                "; at most {:.0}% of the other places (95% confidence) have an effect that belongs among the largest",
                100.0 * b
            )
        });
        sentences.push(format!(
            "{}: the estimator {} ranks places best (rank correlation with exact patches {rank:.2}; worst error {:.3} logits, at {}){missed}.",
            title(&family),
            estimator[i],
            worst[i],
            place[i]
        ));
    }
    Ok(sentences)
}

fn summary(accuracy: &Table) -> Result<SummaryTable> {
    let (of_row, estimator) = (family_of_rows(accuracy)?, accuracy.texts("estimator")?);
    let (rank, slope) = (accuracy.floats_or_null("rank_correlation")?, accuracy.floats_or_null("slope")?);
    let (mean, worst) = (accuracy.floats("mean_error")?, accuracy.floats("worst_error")?);
    let place = accuracy.texts("worst_place")?;
    let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.2}"));
    let row = |i: usize| {
        vec![
            title(&of_row[i]),
            estimator[i].to_owned(),
            number(rank[i]),
            number(slope[i]),
            format!("{:.3}", mean[i]),
            format!("{:.3}", worst[i]),
            place[i].to_owned(),
        ]
    };
    let shown = (0..accuracy.n_rows()).filter(|&i| of_row[i].3.parse::<usize>().is_err());
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    Ok(SummaryTable {
        title: "Estimates held against exact patches".to_owned(),
        rows: shown.map(row).collect(),
        columns: vec![
            column("pair", "Source and target.", false),
            column("estimator", "How the change was estimated.", false),
            column("rank correlation", "Spearman, over the places that were patched.", true),
            column("slope", "1 where sizes are right, less where underestimated.", true),
            column("mean error", "Mean of |estimated − exact| in logits.", true),
            column("worst error", "The largest of them.", true),
            column("where", "Place of the worst error.", false),
        ],
    })
}
