//! The section of the report.

use super::apart::Patient;
use super::blocks::Block;
use super::settings::Settings;
use super::words::{notes, paragraph, rows_of, table};
use super::{NAME, Surgery, Tables};
use crate::Analysis;
use crate::circuit::prompts::Split;
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{
    ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Section, Series,
};

pub(super) fn section(
    surgery: &Surgery,
    context: &Context,
    settings: &Settings,
    split: &Split,
    tables: &Tables,
    patients: &[Patient],
) -> Result<Section> {
    let moved: Vec<&Patient> = patients.iter().filter(|p| p.moved.0 > 0).collect();
    let mut figures = Vec::new();
    if !moved.is_empty() {
        figures.push(curves(context, settings, &tables.curves, &moved)?);
        figures.push(maps(context, &tables.blocks, &moved)?);
        if !settings.scales.is_empty() {
            figures.push(doses(context, &tables.doses, &moved)?);
        }
    }
    let paragraphs =
        patients.iter().map(|p| paragraph(context, settings, tables, p)).collect::<Result<_>>()?;
    Ok(Section {
        id: NAME.to_owned(),
        title: surgery.title().to_owned(),
        question: surgery.question().to_owned(),
        paragraphs,
        figures,
        tables: if tables.sets.n_rows() > 0 { vec![table(tables)?] } else { Vec::new() },
        notes: notes(settings, split, patients),
    })
}

/// Columns of a table at some rows; null is NaN, a gap.
fn column(table: &Table, name: &str, rows: &[usize]) -> Result<Vec<f64>> {
    let values = table.floats_or_null(name)?;
    Ok(rows.iter().map(|&row| values[row].unwrap_or(f64::NAN)).collect())
}

fn curves(context: &Context, settings: &Settings, table: &Table, patients: &[&Patient]) -> Result<Figure> {
    let (orders, shares) = (table.texts("order")?, table.floats("parameter_share")?);
    let mut panels = Vec::new();
    for patient in patients {
        let name = context.subject.model.name(patient.model);
        let all = rows_of(table, name)?;
        let mut series = Vec::new();
        for (order, color) in [
            ("random", ColorKey::Reference(0)),
            ("norm", ColorKey::Reference(1)),
            ("gradient", ColorKey::Reference(2)),
            // There are three patterns of dashes; grey without any is the fourth.
            ("alone", ColorKey::Base),
            ("greedy", ColorKey::Model(patient.model - 1)),
        ] {
            let rows: Vec<usize> = all.iter().copied().filter(|&row| orders[row] == order).collect();
            // All begin with nothing, which is the base.
            let from_base =
                |name: &str| -> Result<Vec<f64>> { Ok([vec![0.0], column(table, name, &rows)?].concat()) };
            let x = std::iter::once(0.0).chain(rows.iter().map(|&row| 100.0 * shares[row])).collect();
            let curve = Series::new(order, color, x, &from_base("recovery")?);
            let band = match order {
                "random" => Some(("random_lo", "random_hi")),
                "greedy" => Some(("recovery_lo", "recovery_hi")),
                _ => None,
            };
            series.push(match band {
                Some((lo, hi)) => curve.with_interval(&from_base(lo)?, &from_base(hi)?),
                None => curve,
            });
        }
        panels.push(LinePanel { title: name.to_owned(), series });
    }
    Ok(Figure {
        name: "surgery_curves".to_owned(),
        title: "Behaviour recovered against parameters".to_owned(),
        caption: format!(
            "Share of what the whole adapter does to the decision that the first blocks of an order recover when only they are on: \
             greedy (the best next block, until {:.0}% are reached; with its 95% interval over prompt clusters), by what blocks \
             recover alone, by a gradient, by the norm of the update, and the mean over random orders (band: 95% of them). 1 is the \
             whole adapter, 0 the base. {} prompts, on which the greedy order was chosen too.",
            100.0 * settings.share,
            patients[0].moved.1
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "parameters that are on (% of the adapter)".to_owned(),
            y_label: "recovery".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

fn maps(context: &Context, table: &Table, patients: &[&Patient]) -> Result<Figure> {
    let mut panels = Vec::new();
    for patient in patients {
        let name = context.subject.model.name(patient.model);
        let rows = rows_of(table, name)?;
        let (left_out, alone) = (column(table, "left_out", &rows)?, column(table, "alone", &rows)?);
        let title = |what: &str| format!("{name}, {what}");
        let names = names(&patient.blocks);
        if let [_] = names[..] {
            // One block a layer: both effects side by side.
            let cells = vec![("left out", left_out), ("alone", alone)];
            panels.push(panel(name.to_owned(), &patient.blocks, cells));
        } else {
            for (what, values) in [("left out", left_out), ("alone", alone)] {
                let of = |kind: &&'static str| -> (&str, Vec<f64>) {
                    let value = |(block, v): (&Block, &f64)| if block.name == *kind { *v } else { f64::NAN };
                    (*kind, patient.blocks.iter().zip(&values).map(value).collect())
                };
                panels.push(panel(title(what), &patient.blocks, names.iter().map(of).collect()));
            }
        }
    }
    Ok(Figure {
        name: "surgery_blocks".to_owned(),
        title: "Single blocks".to_owned(),
        caption: "Left out: share of the adapter's behaviour that is lost when one block alone is off. Alone: share that is there when \
                  one block alone is on, its transplant into the base. Red goes the way of the adapter, blue against it. Intervals \
                  and corrected p-values are in surgery_blocks."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "block".to_owned(),
            panels,
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: "share".to_owned(),
            annotate: false,
        },
    })
}

/// Names of blocks, in the order in which they appear.
fn names(blocks: &[Block]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for block in blocks {
        if !names.contains(&block.name) {
            names.push(block.name);
        }
    }
    names
}

/// Layers from the last to the first, a column for each list of values (one a block).
fn panel(title: String, blocks: &[Block], columns: Vec<(&str, Vec<f64>)>) -> HeatmapPanel {
    let mut layers: Vec<usize> = blocks.iter().map(|b| b.layer).collect();
    layers.dedup();
    layers.reverse();
    let cell = |layer: usize, values: &[f64]| {
        let found = blocks.iter().zip(values).filter(|(b, v)| b.layer == layer && !v.is_nan());
        found.map(|(_, v)| *v).next()
    };
    let row = |layer: &usize| columns.iter().map(|(_, values)| cell(*layer, values)).collect();
    HeatmapPanel {
        title,
        rows: layers.iter().map(|l| format!("L{l}")).collect(),
        cols: columns.iter().map(|(name, _)| name.rsplit('.').next().unwrap_or(name).to_owned()).collect(),
        values: layers.iter().map(row).collect(),
        intervals: Vec::new(),
    }
}

fn doses(context: &Context, table: &Table, patients: &[&Patient]) -> Result<Figure> {
    let scales = table.floats("scale")?;
    let mut series = Vec::new();
    for patient in patients {
        let name = context.subject.model.name(patient.model);
        let mut rows = rows_of(table, name)?;
        rows.sort_by(|&a, &b| scales[a].total_cmp(&scales[b]));
        let x: Vec<f64> = rows.iter().map(|&row| scales[row]).collect();
        let curve =
            Series::new(name, context.subject.color(patient.model), x, &column(table, "recovery", &rows)?);
        let (lo, hi) = (column(table, "recovery_lo", &rows)?, column(table, "recovery_hi", &rows)?);
        series.push(curve.with_interval(&lo, &hi));
    }
    Ok(Figure {
        name: "surgery_doses".to_owned(),
        title: "Dose and response".to_owned(),
        caption: "Share of the adapter's behaviour when everything that it adds is scaled: 0 is the base, 1 the adapter as it was \
                  trained. Bands are 95% intervals over prompt clusters."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "scale of the adapter".to_owned(),
            y_label: "recovery".to_owned(),
            panels: vec![LinePanel { title: String::new(), series }],
            zero_line: true,
        },
    })
}
