//! Figures of similarity: matrices of models beside those of controls, and pairs of models by module.

use super::figures::{module_names, short};
use super::similarity::ALL_MODULES;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::ControlKind;
use lorascope_record::Table;
use lorascope_report::{Figure, FigureKind, HeatmapPanel, HeatmapScale};
use std::collections::BTreeMap;

/// Models, control, module and measure of a row of the summary.
type Key = (String, String, Option<String>, String, String);
/// Mean with its interval.
type Value = (f64, (f64, f64));

/// The summary by its keys.
pub(super) struct Summary(BTreeMap<Key, Value>);

impl Summary {
    pub fn new(table: &Table) -> Result<Self> {
        let (models, others) = (table.texts("model")?, table.texts("other")?);
        let controls = table.texts_or_null("control")?;
        let (modules, measures) = (table.texts("module")?, table.texts("measure")?);
        let (mean, lo, hi) = (table.floats("mean")?, table.floats("lo")?, table.floats("hi")?);
        let row = |i: usize| {
            let key = (
                models[i].to_owned(),
                others[i].to_owned(),
                controls[i].clone(),
                modules[i].to_owned(),
                measures[i].to_owned(),
            );
            (key, (mean[i], (lo[i], hi[i])))
        };
        Ok(Self((0..table.n_rows()).map(row).collect()))
    }

    /// Of two models, in either order. A control is that of the later model; a model is like itself.
    pub fn get(
        &self,
        one: &str,
        other: &str,
        control: Option<&str>,
        module: &str,
        measure: &str,
    ) -> Option<Value> {
        if one == other && control.is_none() {
            return Some((1.0, (1.0, 1.0)));
        }
        let of = |a: &str, b: &str| {
            let key = (
                a.to_owned(),
                b.to_owned(),
                control.map(str::to_owned),
                module.to_owned(),
                measure.to_owned(),
            );
            self.0.get(&key).copied()
        };
        of(one, other).or_else(|| of(other, one))
    }
}

/// What is compared: the models, and the controls that give the floor.
const COMPARED: [(Option<ControlKind>, &str); 3] =
    [(None, ""), (Some(ControlKind::Shuffled), ", shuffled"), (Some(ControlKind::Random), ", random")];

/// The measures: name, title, whether it has a sign.
const MEASURES: [(&str, &str, bool); 3] =
    [("cosine_whole", "cosine", true), ("overlap_out", "outputs", false), ("overlap_in", "inputs", false)];

fn scale(signed: bool) -> HeatmapScale {
    if signed {
        HeatmapScale::Diverging { center: 0.0, reach: Some(1.0) }
    } else {
        HeatmapScale::Sequential { min: 0.0, max: 1.0 }
    }
}

/// Models × models for cosines and for overlaps, each beside its floors.
pub(super) fn matrices(subject: &Subject, table: &Table) -> Result<Vec<Figure>> {
    let summary = Summary::new(table)?;
    let names: Vec<&str> = subject.model.names()[1..].to_vec();
    let panel = |measure: &str, title: &str, control: Option<ControlKind>, with: &str| {
        let cell = |a: &str, b: &str| summary.get(a, b, control.map(ControlKind::name), ALL_MODULES, measure);
        let row = |a: &&str| -> Vec<Option<Value>> { names.iter().map(|b| cell(a, b)).collect() };
        let rows: Vec<Vec<Option<Value>>> = names.iter().map(row).collect();
        let of_rows = |f: fn(Value) -> f64| -> Vec<Vec<Option<f64>>> {
            rows.iter().map(|row| row.iter().map(|v| v.map(f)).collect()).collect()
        };
        HeatmapPanel {
            title: format!("{title}{with}"),
            rows: names.iter().map(|n| (*n).to_owned()).collect(),
            cols: names.iter().map(|n| (*n).to_owned()).collect(),
            values: of_rows(|v| v.0),
            intervals: Vec::new(),
        }
    };
    let figure = |name: &str, title: &str, caption: &str, signed: bool, unit: &str| Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: format!(
            "{caption} The first matrix compares the models. In the others the later of the two is replaced by a control made from it, which \
             gives the floor; on their diagonal a model meets its own control. Intervals over layers and p-values are in the table \
             weights_similarity_summary."
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: String::new(),
            col_label: String::new(),
            panels: MEASURES
                .iter()
                .filter(|m| m.2 == signed)
                .flat_map(|m| COMPARED.iter().map(|(control, with)| panel(m.0, m.1, *control, with)))
                .collect(),
            scale: scale(signed),
            unit: unit.to_owned(),
            annotate: true,
        },
    };
    Ok(vec![
        figure(
            "weights_cosine",
            "How alike the changes are",
            "Cosine of the changes of two models, all blocks that both adapt taken as one vector: 1 the same change up to its size, 0 unrelated, \
             −1 the opposite.",
            true,
            "cosine",
        ),
        figure(
            "weights_overlap",
            "How far the changes share their spaces",
            "Mean squared cosine of the principal angles between the spaces that two updates of one module write into (outputs) and read \
             (inputs), mean over blocks: 1 the same space, whatever is done in it.",
            false,
            "mean cos²",
        ),
    ])
}

/// Pairs of models × modules, for every measure beside its shuffled floor.
pub(super) fn modules(subject: &Subject, table: &Table) -> Result<Vec<Figure>> {
    let summary = Summary::new(table)?;
    let names: Vec<&str> = subject.model.names()[1..].to_vec();
    let columns = module_names(subject.model.spec());
    let pairs: Vec<(&str, &str)> = (0..names.len())
        .flat_map(|i| (i + 1..names.len()).map(move |j| (i, j)))
        .map(|(i, j)| (names[i], names[j]))
        .collect();
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let panel = |measure: &str, title: &str, control: Option<ControlKind>, with: &str| HeatmapPanel {
        title: format!("{title}{with}"),
        rows: pairs.iter().map(|(a, b)| format!("{a} · {b}")).collect(),
        cols: columns.iter().map(|m| short(m)).collect(),
        values: pairs
            .iter()
            .map(|(a, b)| {
                let value =
                    |m: &&str| summary.get(a, b, control.map(ControlKind::name), m, measure).map(|v| v.0);
                columns.iter().map(value).collect()
            })
            .collect(),
        intervals: Vec::new(),
    };
    let figure = |name: &str, title: &str, signed: bool, unit: &str| {
        Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: "The same by kind of module, over all layers; beside it the floor that controls of the second model with its updates in other \
             layers give."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: String::new(),
            col_label: "module".to_owned(),
            panels: MEASURES
                .iter()
                .filter(|m| m.2 == signed)
                .flat_map(|m| COMPARED.iter().take(2).map(|(control, with)| panel(m.0, m.1, *control, with)))
                .collect(),
            scale: scale(signed),
            unit: unit.to_owned(),
            annotate: true,
        },
    }
    };
    Ok(vec![
        figure("weights_cosine_modules", "How alike the changes of each module are", true, "cosine"),
        figure(
            "weights_overlap_modules",
            "How far each module's changes share their spaces",
            false,
            "mean cos²",
        ),
    ])
}
