//! The section of the report: maps of direct and causal shares, and the components with the largest.

use super::{NAME, Settings, Suppression};
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::dla::Component;
use crate::error::Result;
use crate::words::signed_percent;
use lorascope_record::Table;
use lorascope_report::{
    BarPanel, BarSeries, ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, Section, SummaryColumn,
    SummaryTable,
};
use std::collections::{BTreeMap, BTreeSet};

/// A share with its interval; nothing where the models decide alike.
type Share = Option<(f64, f64, f64)>;

/// One row of the table.
struct Row<'t> {
    model: &'t str,
    layer: i64,
    head: Option<i64>,
    class: &'t str,
    push: Share,
    push_model: Share,
    index: Share,
    direct: Share,
    restored: Share,
    removed: Share,
}

impl Row<'_> {
    fn label(&self) -> String {
        Component::unit(self.layer, self.head).label()
    }

    /// What the list is ordered by.
    fn size(&self) -> f64 {
        let of = |share: Share| share.map_or(0.0, |s| s.0.abs());
        of(self.direct).max(of(self.restored)).max(of(self.removed))
    }
}

fn rows(table: &Table) -> Result<Vec<Row<'_>>> {
    let share = |name: &str| -> Result<Vec<Share>> {
        let mean = table.floats_or_null(name)?;
        let (lo, hi) =
            (table.floats_or_null(&format!("{name}_lo"))?, table.floats_or_null(&format!("{name}_hi"))?);
        let one = |i: usize| mean[i].map(|m| (m, lo[i].unwrap_or(m), hi[i].unwrap_or(m)));
        Ok((0..table.n_rows()).map(one).collect())
    };
    let (models, layers) = (table.texts("model")?, table.ints("layer")?);
    let (heads, classes) = (table.ints_or_null("head")?, table.texts("class")?);
    let (push, push_model, index) = (share("push")?, share("push_model")?, share("index")?);
    let (direct, restored, removed) = (share("direct")?, share("restored")?, share("removed")?);
    let row = |i: usize| Row {
        model: models[i],
        layer: layers[i],
        head: heads[i],
        class: classes[i],
        push: push[i],
        push_model: push_model[i],
        index: index[i],
        direct: direct[i],
        restored: restored[i],
        removed: removed[i],
    };
    Ok((0..table.n_rows()).map(row).collect())
}

fn with_interval(share: Share) -> String {
    let text =
        |(m, lo, hi)| format!("{} [{}, {}]", signed_percent(m), signed_percent(lo), signed_percent(hi));
    share.map_or(String::new(), text)
}

pub(super) fn section(
    analysis: &Suppression,
    context: &Context,
    settings: &Settings,
    reference: usize,
    components: &Table,
    totals: &Table,
) -> Result<Section> {
    let rows = rows(components)?;
    let reference = context.subject.model.name(reference);
    let names = context.subject.model.names();
    let models: Vec<&str> = names.iter().copied().filter(|n| rows.iter().any(|r| r.model == *n)).collect();
    let n = context.subject.prompts.len();
    let basis = format!(
        "{n} prompts, each counted in the direction in which {reference} differs from the model on it; 1 is the whole difference of \
         the two models' deltas. 95% intervals over prompt templates ({RESAMPLES} resamples) are in the table suppression."
    );
    let map = |name: &str, title: &str, caption: &str, value: fn(&Row) -> Share| Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: format!("{caption} {basis}"),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "component".to_owned(),
            panels: models.iter().map(|m| panel(&rows, (reference, m), value)).collect(),
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: "share of the difference".to_owned(),
            annotate: false,
        },
    };
    let figures = vec![
        map(
            "suppression_direct",
            "Where the models part: what components write directly",
            "What a component writes along the decision in the reference, less what it writes in the model. Over all components, \
             embedding and biases included, it adds up to 1.",
            |r| r.direct,
        ),
        map(
            "suppression_restored",
            "What the reference's output brings back",
            "Share of the difference that returns when the reference's output of one component is put into the model at the decision \
             point. These do not add up.",
            |r| r.restored,
        ),
        largest_bars(&rows, (reference, &models), &names, settings.top, &basis),
    ];
    let paragraphs = models.iter().map(|m| sentence(&rows, totals, (reference, m))).collect::<Result<_>>()?;
    let notes = vec![
        format!(
            "Unchanged means an equivalence test passed: directly and causally, both ways, the component makes up less than {:.0}% of \
             the difference: a change may be certain and still be as small as that. Where no test says anything, it says not resolved.",
            100.0 * settings.margin
        ),
        "What a component writes directly and what it does causally differ where later components read it, or make up for it."
            .to_owned(),
    ];
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs,
        figures,
        tables: vec![largest_table(&rows, &models, settings.top)],
        notes,
    })
}

/// Layers from the last to the first, columns heads, then the MLP.
fn panel(rows: &[Row], (reference, model): (&str, &str), value: fn(&Row) -> Share) -> HeatmapPanel {
    let of_model: Vec<&Row> = rows.iter().filter(|r| r.model == model).collect();
    let layers: BTreeSet<i64> = of_model.iter().map(|r| r.layer).collect();
    let columns: BTreeSet<(bool, Option<i64>)> =
        of_model.iter().map(|r| (r.head.is_none(), r.head)).collect();
    let values: BTreeMap<(i64, Option<i64>), Option<f64>> =
        of_model.iter().map(|r| ((r.layer, r.head), value(r).map(|s| s.0))).collect();
    let row = |layer: &i64| columns.iter().map(|c| values.get(&(*layer, c.1)).copied().flatten()).collect();
    HeatmapPanel {
        title: format!("{reference} against {model}"),
        rows: layers.iter().rev().map(|l| format!("L{l}")).collect(),
        cols: columns.iter().map(|c| c.1.map_or("MLP".to_owned(), |h| format!("H{h}"))).collect(),
        values: layers.iter().rev().map(row).collect(),
        intervals: Vec::new(),
    }
}

/// The rows of a model, the largest share first.
fn by_size<'r, 't>(rows: &'r [Row<'t>], model: &str) -> Vec<&'r Row<'t>> {
    let mut of_model: Vec<&Row> = rows.iter().filter(|r| r.model == model).collect();
    of_model.sort_by(|a, b| {
        b.size().total_cmp(&a.size()).then((a.layer, a.head.is_none(), a.head).cmp(&(
            b.layer,
            b.head.is_none(),
            b.head,
        )))
    });
    of_model
}

fn largest_bars(
    rows: &[Row],
    (reference, models): (&str, &[&str]),
    names: &[&str],
    top: usize,
    basis: &str,
) -> Figure {
    let panel = |model: &&str| {
        let largest: Vec<&Row> = by_size(rows, model).into_iter().take(top).collect();
        let series = |name: String, color: ColorKey, of: fn(&Row) -> Share| BarSeries {
            name,
            color,
            values: largest.iter().map(|r| of(r).map(|s| s.0)).collect(),
            intervals: largest.iter().map(|r| of(r).map(|s| (s.1, s.2))).collect(),
        };
        let place = names.iter().position(|n| n == model).unwrap_or_default();
        let color = place.checked_sub(1).map_or(ColorKey::Reference(0), ColorKey::Model);
        BarPanel {
            title: format!("{reference} against {model}"),
            groups: largest.iter().map(|r| format!("{} {}", r.label(), r.class)).collect(),
            series: vec![
                series("written directly".to_owned(), ColorKey::Base, |r| r.direct),
                series(format!("restored in {model}"), color, |r| r.restored),
            ],
        }
    };
    Figure {
        name: "suppression_components".to_owned(),
        title: "The components in which the models differ most".to_owned(),
        caption: format!("The largest shares, direct or causal, with 95% intervals. {basis}"),
        by_prompt: None,
        kind: FigureKind::HorizontalBars {
            x_label: "share of the difference".to_owned(),
            panels: models.iter().map(panel).collect(),
        },
    }
}

fn sentence(rows: &[Row], totals: &Table, (reference, model): (&str, &str)) -> Result<String> {
    let of_model: Vec<&Row> = rows.iter().filter(|r| r.model == model).collect();
    if of_model.iter().all(|r| r.direct.is_none()) {
        return Ok(format!(
            "{reference} and {model} decide alike on every prompt: there is nothing to explain."
        ));
    }
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for row in &of_model {
        counts.entry(row.class).or_default()[usize::from(row.head.is_none())] += 1;
    }
    let order =
        ["suppressed", "inverted", "counteracting", "strengthened", "rerouted", "unchanged", "not resolved"];
    let counted = |of: usize, what: &str| {
        let found = order.iter().filter_map(|class| Some((class, counts.get(class)?[of])));
        let parts: Vec<String> =
            found.filter(|(_, n)| *n > 0).map(|(class, n)| format!("{n} {class}")).collect();
        let n: usize = counts.values().map(|c| c[of]).sum();
        format!("Of {n} {what}: {}.", parts.join(", "))
    };
    let (models, kinds) = (totals.texts("model")?, totals.texts("kind")?);
    let (direct, lo, hi) = (
        totals.floats_or_null("direct")?,
        totals.floats_or_null("direct_lo")?,
        totals.floats_or_null("direct_hi")?,
    );
    let of_kind = |kind: &str| {
        let row = (0..totals.n_rows()).find(|&i| models[i] == model && kinds[i] == kind)?;
        Some((direct[row]?, lo[row]?, hi[row]?))
    };
    let all = by_size(rows, model);
    let largest = all.iter().max_by(|a, b| {
        let of = |r: &Row| r.restored.map_or(0.0, |s| s.0.abs());
        of(a).total_cmp(&of(b))
    });
    let causal = largest.map_or(String::new(), |r| {
        format!(
            " The largest causal share is that of {} ({}): put into {model} it restores {}, taken from {model} into {reference} it \
             removes {}.",
            r.label(),
            r.class,
            with_interval(r.restored),
            with_interval(r.removed)
        )
    });
    Ok(format!(
        "{reference} against {model}: heads write {} of the difference directly, MLPs {}. {} {}{causal}",
        with_interval(of_kind("heads")),
        with_interval(of_kind("mlps")),
        counted(0, "heads"),
        counted(1, "MLPs"),
    ))
}

fn largest_table(rows: &[Row], models: &[&str], top: usize) -> SummaryTable {
    let row = |r: &Row| {
        let index = r.index.map_or(String::new(), |(m, lo, hi)| format!("{m:.2} [{lo:.2}, {hi:.2}]"));
        vec![
            r.model.to_owned(),
            r.label(),
            r.class.to_owned(),
            with_interval(r.push),
            with_interval(r.push_model),
            index,
            with_interval(r.restored),
            with_interval(r.removed),
        ]
    };
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    SummaryTable {
        title: format!("The {top} components of each model with the largest shares"),
        rows: models.iter().flat_map(|m| by_size(rows, m).into_iter().take(top).map(row)).collect(),
        columns: vec![
            column("model", "What the reference is held against.", false),
            column("component", "Layer and head, or MLP.", false),
            column("class", "What became of it.", false),
            column("push", "Share of the difference that it writes directly in the reference.", true),
            column("push in the model", "The same in the model.", true),
            column(
                "suppression index",
                "0: pushes as in the reference; 1: silent; above 1: pushes the other way. Empty where it does not clearly push in the \
                 reference.",
                true,
            ),
            column("restored", "Share that returns when it is put into the model.", true),
            column("removed", "Share that goes when the model's is put into the reference.", true),
        ],
    }
}
