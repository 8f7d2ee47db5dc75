//! Shares with their intervals and tests, and what they say of a component.

use super::Settings;
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::dla::{Component, Kind, Values};
use crate::error::Result;
use crate::statistics::{Design, benjamini_hochberg};
use lorascope_record::{Cell, Table};
use std::collections::BTreeMap;

/// At or below this adjusted p-value something counts as shown.
const LEVEL: f64 = 0.05;

/// Two models over all prompts.
struct Compared {
    model: usize,
    /// Σ |d| is what shares are shares of.
    sizes: Vec<f64>,
    /// Whether they differ at all.
    differ: bool,
}

/// One component in two models; every prompt counted in the reference's direction.
struct Measured {
    model: usize,
    component: Component,
    push: Option<Interval>,
    push_model: Option<Interval>,
    index: Option<Interval>,
    /// Direct, restored, removed.
    shares: [Option<Interval>; 3],
    p: [f64; 3],
    q: [f64; 3],
    p_equivalence: Option<f64>,
    q_equivalence: Option<f64>,
}

/// What is patched, by source, target and component: delta of both, and the changes, by prompt.
type Patches<'t> = BTreeMap<(&'t str, &'t str, &'t str), BTreeMap<&'t str, (f64, f64, f64)>>;

fn patches(table: &Table) -> Result<Patches<'_>> {
    let mut found = Patches::new();
    let (source, target) = (table.texts("source")?, table.texts("target")?);
    let (prompt, component) = (table.texts("prompt_id")?, table.texts("component")?);
    let (from, to) = (table.floats("delta_source")?, table.floats("delta_target")?);
    for (i, change) in table.floats("change")?.into_iter().enumerate() {
        let of = found.entry((source[i], target[i], component[i])).or_default();
        of.insert(prompt[i], (from[i], to[i], change));
    }
    Ok(found)
}

/// Fills both tables.
pub(super) fn fill(
    context: &Context,
    settings: &Settings,
    (reference, models): (usize, &[usize]),
    (values, changes): (&Values, &Table),
    (components, totals): (&mut Table, &mut Table),
) -> Result<()> {
    let subject = context.subject;
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let design = Design::new(&clusters, context.seed);
    let patches = patches(changes)?;
    let name = |m: usize| subject.model.name(m);
    let units: Vec<usize> = (0..values.components.len())
        .filter(|&c| matches!(values.components[c].kind, Kind::Head | Kind::Mlp))
        .collect();
    let mut measured = Vec::new();
    for &model in models {
        let by_prompt = |source: usize, target: usize, unit: &str| -> Vec<(f64, f64, f64)> {
            let of = patches.get(&(name(source), name(target), unit));
            subject.prompts.iter().filter_map(|p| of?.get(p.id()).copied()).collect()
        };
        let first = values.components[units[0]].unit_name();
        let d: Vec<f64> =
            by_prompt(reference, model, &first).iter().map(|(source, target, _)| source - target).collect();
        let sign: Vec<f64> = d.iter().map(|d| if *d == 0.0 { 0.0 } else { d.signum() }).collect();
        let sizes: Vec<f64> = d.iter().map(|d| d.abs()).collect();
        let compared = Compared { model, differ: sizes.iter().any(|d| *d > 0.0), sizes };
        let aligned = |v: &[f64]| -> Vec<f64> { v.iter().zip(&sign).map(|(v, s)| v * s).collect() };
        for &c in &units {
            let unit = values.components[c].unit_name();
            let [own, other] = [reference, model].map(|m| aligned(values.contributions(c, m)));
            let change = |source: usize, target: usize, way: f64| -> Vec<f64> {
                let all = by_prompt(source, target, &unit);
                aligned(&all.iter().map(|(_, _, change)| way * change).collect::<Vec<f64>>())
            };
            let (restored, removed) = (change(reference, model, 1.0), change(model, reference, -1.0));
            measured.push(measure(
                &design,
                &compared,
                settings.margin,
                values.components[c],
                [&own, &other, &restored, &removed],
            ));
        }
        push_totals(
            totals,
            &design,
            &compared,
            values,
            (reference, model),
            [name(reference), name(model)],
            &sign,
        )?;
    }
    correct(&mut measured);
    for one in &measured {
        components.push(&one.cells(name(reference), name(one.model), &design, measured.len()))?;
    }
    components.sort_by_keys();
    totals.sort_by_keys();
    Ok(())
}

fn measure(
    design: &Design,
    compared: &Compared,
    margin: f64,
    component: Component,
    [own, other, restored, removed]: [&Vec<f64>; 4],
) -> Measured {
    let share = |values: &[f64]| {
        compared.differ.then(|| design.ratio(values, &compared.sizes)).filter(|s| s.mean.is_finite())
    };
    let direct: Vec<f64> = own.iter().zip(other).map(|(a, b)| a - b).collect();
    let push = share(own);
    let index = push.filter(|p| p.lo > 0.0).and_then(|_| {
        let ratio = |s: &[f64]| 1.0 - s[1] / s[0];
        design.resampler().statistic(&[own, other], ratio)
    });
    // A share of the difference, in logits.
    let bound = margin * compared.sizes.iter().sum::<f64>() / compared.sizes.len() as f64;
    let tested = [&direct, restored, removed];
    let equivalence = tested.map(|v| design.equivalence(v, bound));
    // A component is unchanged if it is in all three respects.
    let p_equivalence = equivalence
        .into_iter()
        .try_fold(0.0f64, |worst, p| p.map(|p| worst.max(p)))
        .filter(|_| compared.differ);
    Measured {
        model: compared.model,
        component,
        push,
        push_model: share(other),
        index,
        shares: tested.map(|v| share(v)),
        p: tested.map(|v| design.compare(v).p),
        q: [1.0; 3],
        p_equivalence,
        q_equivalence: None,
    }
}

/// Corrects every kind of test for all components of all models.
fn correct(measured: &mut [Measured]) {
    for test in 0..3 {
        let p: Vec<f64> = measured.iter().map(|m| m.p[test]).collect();
        measured.iter_mut().zip(benjamini_hochberg(&p)).for_each(|(m, q)| m.q[test] = q);
    }
    let tested: Vec<usize> = (0..measured.len()).filter(|&i| measured[i].p_equivalence.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&i| measured[i].p_equivalence).collect();
    for (i, q) in tested.into_iter().zip(benjamini_hochberg(&p)) {
        measured[i].q_equivalence = Some(q);
    }
}

impl Measured {
    fn class(&self) -> &'static str {
        let [direct, _, _] = self.shares;
        let (Some(direct), Some(push), Some(push_model)) = (direct, self.push, self.push_model) else {
            return "not resolved";
        };
        if self.q_equivalence.is_some_and(|q| q <= LEVEL) {
            return "unchanged";
        }
        if self.q[0] <= LEVEL {
            return match (push.lo > 0.0, push_model.hi < 0.0) {
                _ if direct.mean < 0.0 => "strengthened",
                (true, true) => "inverted",
                (true, false) => "suppressed",
                (false, _) => "counteracting",
            };
        }
        if self.q[1] <= LEVEL || self.q[2] <= LEVEL { "rerouted" } else { "not resolved" }
    }

    fn cells(&self, reference: &str, model: &str, design: &Design, family: usize) -> Vec<Cell> {
        let mut cells: Vec<Cell> = vec![
            reference.into(),
            model.into(),
            self.component.unit_name().into(),
            self.component.layer.unwrap_or_default().into(),
            self.component.head.into(),
            self.class().into(),
            design.n().into(),
            design.n_clusters().into(),
            family.into(),
        ];
        for interval in [self.push, self.push_model, self.index] {
            cells.extend(ends(interval));
        }
        for (share, q) in self.shares.into_iter().zip(self.q) {
            cells.extend(ends(share));
            cells.push(q.into());
        }
        cells.push(self.q_equivalence.into());
        cells
    }
}

/// Mean and ends; ends that are not finite (a resample without any difference) are undefined.
fn ends(interval: Option<Interval>) -> [Cell; 3] {
    let finite = |value: Option<f64>| value.filter(|v| v.is_finite()).into();
    [finite(interval.map(|i| i.mean)), finite(interval.map(|i| i.lo)), finite(interval.map(|i| i.hi))]
}

fn push_totals(
    table: &mut Table,
    design: &Design,
    compared: &Compared,
    values: &Values,
    (reference, model): (usize, usize),
    names: [&str; 2],
    sign: &[f64],
) -> Result<()> {
    let kind = |c: Component| match c.kind {
        Kind::Head => Some("heads"),
        Kind::Mlp => Some("mlps"),
        Kind::Total => None,
        _ => Some("rest"),
    };
    let mut sums: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (c, component) in values.components.iter().enumerate() {
        let Some(kind) = kind(*component) else { continue };
        let sum = sums.entry(kind).or_insert_with(|| vec![0.0; sign.len()]);
        let both = values.contributions(c, reference).iter().zip(values.contributions(c, model));
        sum.iter_mut().zip(both.zip(sign)).for_each(|(sum, ((a, b), s))| *sum += s * (a - b));
    }
    let difference = compared.sizes.iter().sum::<f64>() / compared.sizes.len() as f64;
    for (kind, sum) in sums {
        let share = compared.differ.then(|| design.ratio(&sum, &compared.sizes));
        let mut cells: Vec<Cell> = vec![
            names[0].into(),
            names[1].into(),
            kind.into(),
            design.n().into(),
            design.n_clusters().into(),
            difference.into(),
        ];
        cells.extend(ends(share));
        table.push(&cells)?;
    }
    Ok(())
}
