//! Patched runs over prompts: mean change and recovery of each thing that was patched, with intervals.

use crate::bootstrap::Interval;
use crate::context::Context;
use crate::decide::column;
use crate::error::Result;
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use crate::words::signed_percent;
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int};
use lorascope_record::{Cell, ColumnSpec, Table, TableSpec};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The columns of a table that [`average`] makes: the keys, then the averages. `N` is the number of both.
pub(crate) const fn with_averages<const KEYS: usize, const N: usize>(
    keys: [ColumnSpec; KEYS],
) -> [ColumnSpec; N] {
    assert!(N == KEYS + AVERAGES.len(), "a table of averages has its keys and all averages");
    let mut columns = [AVERAGES[0]; N];
    let mut i = 0;
    while i < N {
        columns[i] = if i < KEYS { keys[i] } else { AVERAGES[i - KEYS] };
        i += 1;
    }
    columns
}

/// The columns that [`average`] writes after the keys, in this order.
const AVERAGES: [ColumnSpec; 15] = [
    column("n", Int, "", "Patched runs behind the row."),
    column("n_clusters", Int, "", "Clusters of prompts behind it."),
    column("n_flipped", Int, "", "Runs in which the preferred answer changed."),
    column("change", Float, "logit", "Mean of delta_patched − delta_target."),
    column("change_lo", Float, "logit", "Lower end of its 95% bootstrap interval over prompt clusters."),
    column("change_hi", Float, "logit", "Upper end of its interval."),
    column(
        "recovery",
        FloatOrNull,
        "",
        "Share of the difference between source and target that the patch brings: Σ change·sign(d) / Σ |d| with d = delta_source \
         − delta_target, so that prompts with small differences do not dominate; null without a source, or where there is \
         no difference.",
    ),
    column("recovery_lo", FloatOrNull, "", "Lower end of its interval."),
    column("recovery_hi", FloatOrNull, "", "Upper end of its interval."),
    column(
        "recovery_p",
        FloatOrNull,
        "",
        "Two-sided p-value of the sign-flip test of change·sign(d), whole clusters flipped together: prompts that are changed in \
         opposite directions, as their models differ, do not cancel as they do in `change`.",
    ),
    column(
        "recovery_q",
        FloatOrNull,
        "",
        "recovery_p after Benjamini and Hochberg's correction for all rows of the same source and target that have one.",
    ),
    column(
        "p",
        Float,
        "",
        "Two-sided p-value of the sign-flip test of the change, whole clusters flipped together.",
    ),
    column(
        "q",
        Float,
        "",
        "p after Benjamini and Hochberg's correction for all rows of the same source and target.",
    ),
    column(
        "effect_size",
        FloatOrNull,
        "",
        "Mean over standard deviation of the changes; null where they do not vary.",
    ),
    column("n_tests", Int, "", "Rows of the same source and target: the family of the correction."),
];

/// One row of `spec` for each combination of its key columns, which are those before [`AVERAGES`], in `patches`; a table
/// with `prompt_id`, `delta_source`, `delta_target`, `delta_patched` and `change`.
pub(crate) fn average(context: &Context, patches: &Table, spec: &'static TableSpec) -> Result<Table> {
    let n_keys = spec.columns.len() - AVERAGES.len();
    let keys = spec.columns[..n_keys].iter().map(|c| patches.cells(c.name));
    let keys: Vec<Vec<Cell>> = keys.collect::<std::result::Result<_, _>>()?;
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in 0..patches.n_rows() {
        let key: Vec<String> = keys.iter().map(|column| format!("{:?}", column[row])).collect();
        groups.entry(key.join("\u{1f}")).or_default().push(row);
    }
    let prompts = &context.subject.prompts;
    let cluster: BTreeMap<&str, &str> = prompts.iter().map(|p| (p.id(), p.item.cluster())).collect();
    let ids = patches.texts("prompt_id")?;
    let (change, target) = (patches.floats("change")?, patches.floats("delta_target")?);
    let (source, patched) = (patches.floats_or_null("delta_source")?, patches.floats("delta_patched")?);
    // Groups over the same prompts share their draws.
    let mut designs: BTreeMap<Vec<&str>, Design> = BTreeMap::new();
    let clusters_of = |rows: &[usize]| -> Vec<&str> { rows.iter().map(|&r| cluster[ids[r]]).collect() };
    for rows in groups.values() {
        let clusters = clusters_of(rows);
        designs.entry(clusters).or_insert_with_key(|clusters| Design::new(clusters, context.seed));
    }
    let one = |rows: Vec<usize>| {
        let design = &designs[&clusters_of(&rows)];
        let changes: Vec<f64> = rows.iter().map(|&r| change[r]).collect();
        let spans: Option<Vec<f64>> = rows.iter().map(|&r| source[r].map(|s| s - target[r])).collect();
        let recovery = spans.filter(|s| s.iter().any(|d| *d != 0.0)).map(|spans| {
            let aligned: Vec<f64> = changes.iter().zip(&spans).map(|(c, d)| c * d.signum()).collect();
            let sizes: Vec<f64> = spans.iter().map(|d| d.abs()).collect();
            (design.ratio(&aligned, &sizes), design.compare(&aligned).p)
        });
        let flipped = rows.iter().filter(|&&r| (patched[r] > 0.0) != (target[r] > 0.0)).count();
        let counts = (rows.len(), design.n_clusters(), flipped);
        let cells = keys.iter().map(|column| column[rows[0]].clone()).collect();
        let comparison = design.compare(&changes);
        (cells, Averaged { counts, comparison, recovery, q: 1.0, recovery_q: None, n_tests: 0 })
    };
    let mut averaged: Vec<(Vec<Cell>, Averaged)> =
        groups.into_values().collect::<Vec<_>>().into_par_iter().map(one).collect();
    correct(&mut averaged);
    let mut table = Table::new(spec);
    for (mut cells, one) in averaged {
        cells.extend(one.cells());
        table.push(&cells)?;
    }
    table.sort_by_keys();
    Ok(table)
}

/// What is known of one row of averages.
struct Averaged {
    /// Runs, clusters, flipped answers.
    counts: (usize, usize, usize),
    comparison: Comparison,
    /// With the p-value of the aligned changes.
    recovery: Option<(Interval, f64)>,
    q: f64,
    recovery_q: Option<f64>,
    n_tests: usize,
}

impl Averaged {
    fn cells(&self) -> [Cell; 15] {
        let ((n, n_clusters, flipped), mean) = (self.counts, self.comparison.mean);
        let recovery = self.recovery.map(|(interval, _)| interval);
        [
            n.into(),
            n_clusters.into(),
            flipped.into(),
            mean.mean.into(),
            mean.lo.into(),
            mean.hi.into(),
            recovery.map(|r| r.mean).into(),
            recovery.map(|r| r.lo).filter(|v| v.is_finite()).into(),
            recovery.map(|r| r.hi).filter(|v| v.is_finite()).into(),
            self.recovery.map(|(_, p)| p).into(),
            self.recovery_q.into(),
            self.comparison.p.into(),
            self.q.into(),
            self.comparison.effect.into(),
            self.n_tests.into(),
        ]
    }
}

/// Corrects the p-values of each source and target, the first two keys, for their number.
fn correct(averaged: &mut [(Vec<Cell>, Averaged)]) {
    let mut families: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, (cells, _)) in averaged.iter().enumerate() {
        families.entry(format!("{:?}", &cells[..2.min(cells.len())])).or_default().push(i);
    }
    for rows in families.into_values() {
        let p: Vec<f64> = rows.iter().map(|&i| averaged[i].1.comparison.p).collect();
        for (&i, q) in rows.iter().zip(benjamini_hochberg(&p)) {
            (averaged[i].1.q, averaged[i].1.n_tests) = (q, rows.len());
        }
        let (tested, p): (Vec<usize>, Vec<f64>) =
            rows.iter().filter_map(|&i| averaged[i].1.recovery.map(|(_, p)| (i, p))).unzip();
        for (i, q) in tested.into_iter().zip(benjamini_hochberg(&p)) {
            averaged[i].1.recovery_q = Some(q);
        }
    }
}

/// Mean change with its interval, and recovery with its own, of one row of averages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    pub change: (f64, f64, f64),
    /// Null without a source, or where source and target do not differ.
    pub recovery: Option<f64>,
    recovery_interval: Option<(f64, f64)>,
    /// p-value of the recovery, else of the mean change, corrected for the number of places.
    q: f64,
}

impl Effect {
    /// `+0.123 [+0.100, +0.150]`.
    pub fn text(&self) -> String {
        let (mean, lo, hi) = self.change;
        format!("{mean:+.3} [{lo:+.3}, {hi:+.3}]")
    }

    /// Recovery with its interval: `+42% [+31%, +50%]`; empty where there is none.
    pub fn recovery_text(&self) -> String {
        let interval = |(lo, hi)| format!(" [{}, {}]", signed_percent(lo), signed_percent(hi));
        let text = |share| signed_percent(share) + &self.recovery_interval.map_or(String::new(), interval);
        self.recovery.map_or(String::new(), text)
    }

    /// What effects are ordered by: recovery, in which prompts that are changed in opposite directions (as different scenarios
    /// are) do not cancel; the mean change where there is no recovery.
    pub fn size(&self) -> f64 {
        self.recovery.unwrap_or(self.change.0).abs()
    }

    /// Whether it stands after correction for the number of places.
    pub fn is_clear(&self) -> bool {
        self.q <= 0.05
    }
}

/// What a figure of effects shows: recovery if all of them have one, else the mean change; with its unit.
pub(crate) fn shown<'e>(
    effects: impl Iterator<Item = &'e Effect> + Clone,
) -> (fn(&Effect) -> f64, &'static str) {
    if effects.clone().all(|effect| effect.recovery.is_some()) {
        (|effect| effect.recovery.unwrap_or(f64::NAN), "recovery")
    } else {
        (|effect| effect.change.0, "change of delta (logit)")
    }
}

/// The effects of a table that [`average`] made, row by row.
pub(crate) fn effects_of(averages: &Table) -> Result<Vec<Effect>> {
    let (change, lo, hi) =
        (averages.floats("change")?, averages.floats("change_lo")?, averages.floats("change_hi")?);
    let (recovery, q) = (averages.floats_or_null("recovery")?, averages.floats("q")?);
    let (least, most) = (averages.floats_or_null("recovery_lo")?, averages.floats_or_null("recovery_hi")?);
    let recovery_q = averages.floats_or_null("recovery_q")?;
    let effect = |i: usize| Effect {
        change: (change[i], lo[i], hi[i]),
        recovery: recovery[i],
        recovery_interval: least[i].zip(most[i]),
        q: recovery_q[i].unwrap_or(q[i]),
    };
    Ok((0..averages.n_rows()).map(effect).collect())
}
