//! The section of the report: heat maps of layer × head, and the places with the largest effects.

use super::Patch;
use super::effects::{Key, keys};
use super::settings::{From, Settings};
use super::slices::{ByPlace, Cells};
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Effect, effects_of, shown};
use lorascope_record::Table;
use lorascope_report::{
    Figure, FigureKind, HeatmapPanel, HeatmapScale, Section, SummaryColumn, SummaryTable,
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of the list of largest effects, per pair.
const LARGEST: usize = 10;

pub(super) fn section(
    patch: &Patch,
    context: &Context,
    settings: &Settings,
    pairs: &[(From, usize)],
    patches: &Table,
    effects: &Table,
) -> Result<Section> {
    let found: BTreeMap<Key, Effect> = keys(effects)?.into_iter().zip(effects_of(effects)?).collect();
    let subject = context.subject;
    let names: Vec<(String, String)> =
        pairs.iter().map(|(s, t)| (s.name(subject), subject.model.name(*t).to_owned())).collect();
    let n_prompts = patches.texts("prompt_id")?.into_iter().collect::<BTreeSet<_>>().len();
    let meanings = &subject.meanings;
    let (value, unit) = shown(found.values());
    let all_recover = found.values().all(|e| e.recovery.is_some());
    let by_place = ByPlace::new(patches, if all_recover { "recovery" } else { "change" })?;
    let what = if all_recover {
        "Share of the difference in delta between source and target that arrives, prompts weighted by its size (1: all of it; \
         negative: away from the source),"
            .to_owned()
    } else {
        format!("Mean change in delta (logit of {} minus logit of {})", meanings.b, meanings.a)
    };
    let basis = format!(
        "{what} when the place alone takes the source's activation; {n_prompts} prompts; 95% intervals over prompt templates \
         ({RESAMPLES} resamples) are in the table patch_effects."
    );
    let mut figures = Vec::new();
    let positions: BTreeSet<&str> = found.keys().map(|k| k.position.as_str()).collect();
    for (i, position) in positions.iter().filter(|p| p.parse::<usize>().is_err()).enumerate() {
        let mut cells = Cells::new();
        let mut panels: Vec<HeatmapPanel> = Vec::new();
        for pair in &names {
            panels.extend(panel(&found, pair, position, value, |row, col, key| {
                cells.insert((panels.len(), row, col), key);
            }));
        }
        if panels.is_empty() {
            continue;
        }
        let name = if i == 0 { "patch_map".to_owned() } else { format!("patch_map_{i}") };
        let columns = "Columns are heads, then whole attention and MLP outputs.";
        let figure = Figure {
            name,
            title: format!("Effect of patching one place at: {position}"),
            caption: format!("{basis} {columns} A panel is a pair source → target."),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "layer".to_owned(),
                col_label: "place".to_owned(),
                panels,
                scale: HeatmapScale::Diverging { center: 0.0, reach: None },
                unit: unit.to_owned(),
                annotate: false,
            },
        };
        figures.push(by_place.sliced(figure, &cells, &subject.prompts));
    }
    let paragraphs = names.iter().filter_map(|pair| sentence(&found, pair, meanings)).collect();
    let mut notes = vec![
        "Effects of single places do not add up: what two of them do together may be more or less than the sum.".to_owned(),
        "Mean changes cancel where a place pushes different prompts in opposite directions, as it does where a model decides \
         differently in different scenarios; recovery counts every prompt in the direction of its own difference."
            .to_owned(),
    ];
    let small = patches.floats_or_null("recovery")?.iter().filter(|r| r.is_none()).count();
    if small > 0 {
        notes.push(format!(
            "In {small} of {} patched runs recovery is undefined: source and target differ by less than {} there, or the run \
             has no source.",
            patches.n_rows(),
            settings.floor
        ));
    }
    Ok(Section {
        id: patch.name().to_owned(),
        title: patch.title().to_owned(),
        question: patch.question().to_owned(),
        paragraphs,
        figures,
        tables: vec![largest(&found, &names)],
        notes,
    })
}

fn of_pair<'f>(
    found: &'f BTreeMap<Key, Effect>,
    pair: &'f (String, String),
) -> impl Iterator<Item = (&'f Key, &'f Effect)> {
    found.iter().filter(move |(k, _)| k.source == pair.0 && k.target == pair.1)
}

/// Layers from the last to the first, columns heads then whole vectors; `note` is told what stands in each cell.
fn panel(
    found: &BTreeMap<Key, Effect>,
    pair: &(String, String),
    position: &str,
    value: fn(&Effect) -> f64,
    mut note: impl FnMut(usize, usize, Key),
) -> Option<HeatmapPanel> {
    let cells: Vec<(&Key, &Effect)> = of_pair(found, pair)
        .filter(|(k, _)| k.position == position && k.layer.is_some() && k.component.is_none())
        .collect();
    let layers: BTreeSet<i64> = cells.iter().filter_map(|(k, _)| k.layer).collect();
    let column = |k: &Key| (k.head.is_none(), k.site.clone(), k.head);
    let columns: BTreeSet<(bool, String, Option<i64>)> = cells.iter().map(|(k, _)| column(k)).collect();
    if cells.is_empty() {
        return None;
    }
    let n_sites = columns.iter().filter(|c| !c.0).map(|c| &c.1).collect::<BTreeSet<_>>().len();
    let label = |(_, site, head): &(bool, String, Option<i64>)| match head {
        Some(h) if n_sites == 1 => format!("H{h}"),
        Some(h) => format!("{site} {h}"),
        None => site.clone(),
    };
    for (key, _) in &cells {
        let row = layers.iter().rev().position(|layer| Some(*layer) == key.layer);
        let col = columns.iter().position(|c| *c == column(key));
        if let (Some(row), Some(col)) = (row, col) {
            note(row, col, (*key).clone());
        }
    }
    let values: BTreeMap<_, f64> = cells.iter().map(|(k, e)| ((k.layer, column(k)), value(e))).collect();
    let row = |&layer: &i64| columns.iter().map(|c| values.get(&(Some(layer), c.clone())).copied()).collect();
    Some(HeatmapPanel {
        title: format!("{} → {}", pair.0, pair.1),
        rows: layers.iter().rev().map(|l| format!("L{l}")).collect(),
        cols: columns.iter().map(label).collect(),
        values: layers.iter().rev().map(row).collect(),
        intervals: Vec::new(),
    })
}

/// Effects of a pair, the largest first.
fn by_size<'f>(found: &'f BTreeMap<Key, Effect>, pair: &'f (String, String)) -> Vec<(&'f Key, &'f Effect)> {
    let mut all: Vec<_> = of_pair(found, pair).collect();
    all.sort_by(|a, b| b.1.size().total_cmp(&a.1.size()));
    all
}

fn sentence(
    found: &BTreeMap<Key, Effect>,
    pair: &(String, String),
    meanings: &crate::subject::Meanings,
) -> Option<String> {
    let all = by_size(found, pair);
    let (key, effect) = all.first()?;
    let clear = all.iter().filter(|(_, e)| e.is_clear()).count();
    let share = match effect.recovery {
        Some(_) => format!("{} of the difference between the two, ", effect.recovery_text()),
        None => String::new(),
    };
    Some(format!(
        "{} into {}: the largest single effect is at {} ({}): {share}a mean change of {} logits (positive towards {}). {clear} \
         of {} places differ from zero at a false discovery rate of 5% (sign-flip test over clusters).",
        pair.0,
        pair.1,
        key.place(),
        key.position,
        effect.text(),
        meanings.b,
        all.len()
    ))
}

fn largest(found: &BTreeMap<Key, Effect>, names: &[(String, String)]) -> SummaryTable {
    let row = |(key, effect): (&Key, &Effect)| {
        vec![
            key.source.clone(),
            key.target.clone(),
            key.place(),
            key.position.clone(),
            effect.text(),
            effect.recovery_text(),
        ]
    };
    let rows =
        names.iter().flat_map(|pair| by_size(found, pair).into_iter().take(LARGEST).map(row)).collect();
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    SummaryTable {
        title: format!("The {LARGEST} largest effects of each pair"),
        rows,
        columns: vec![
            column("source", "Where the activation comes from.", false),
            column("target", "Where it is put in.", false),
            column("place", "Layer, head and site.", false),
            column("position", "Token position.", false),
            column("change", "Mean change of delta in logits, with 95% interval.", true),
            column(
                "recovery",
                "Share of the difference between source and target, with 95% interval; the list is ordered by it.",
                true,
            ),
        ],
    }
}
