//! From predictions to scores with intervals, and to paired differences between models.

use super::Probing;
use super::tables::{DIFFERENCES, SCORES};
use super::targets::Kind;
use crate::activations::{Place, Reading};
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::error::Result;
use crate::linear::Concordance;
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use lorascope_record::Table;
use rayon::prelude::*;
use std::collections::HashMap;

/// Predictions of one target at one place of one model, one of each per labelled prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Predictions {
    pub fold: Vec<usize>,
    pub truth: Vec<f64>,
    pub score: Vec<f64>,
    pub result: Vec<f64>,
    pub baseline: Vec<f64>,
    pub control: Vec<f64>,
    pub control_baseline: Vec<f64>,
}

/// A value with its interval, and for a selectivity its p-value.
type Measured = (&'static str, Option<Interval>, Option<f64>);

impl Predictions {
    /// All metrics of a two-class probe.
    pub fn class_metrics(&self, design: &Design) -> Vec<Measured> {
        let selectivity = design.compare(&minus(&self.result, &self.control));
        let clusters = design.resampler().cluster_of();
        let item = |i: usize| (self.fold[i], clusters[i], self.score[i], self.truth[i] > 0.5);
        let pairs = Concordance::new(&(0..self.truth.len()).map(item).collect::<Vec<_>>());
        vec![
            ("accuracy", Some(design.mean(&self.result)), None),
            ("majority", Some(design.mean(&self.baseline)), None),
            ("control", Some(design.mean(&self.control)), None),
            ("selectivity", Some(selectivity.mean), Some(selectivity.p)),
            ("auc", pairs.interval(design.resampler().draws()), None),
        ]
    }

    /// All metrics of a probe of numbers.
    pub fn number_metrics(&self, design: &Design) -> Vec<Measured> {
        let explained = |errors: &[f64], of: &[f64]| {
            let share = design.ratio(errors, of);
            Interval { mean: 1.0 - share.mean, lo: 1.0 - share.hi, hi: 1.0 - share.lo }
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (own, shuffled) = (mean(&self.baseline), mean(&self.control_baseline));
        let lost = |errors: &[f64], of: f64| errors.iter().map(|e| e / of).collect::<Vec<f64>>();
        let selectivity = design.compare(&minus(&lost(&self.control, shuffled), &lost(&self.result, own)));
        vec![
            ("r2", Some(explained(&self.result, &self.baseline)), None),
            ("control", Some(explained(&self.control, &self.control_baseline)), None),
            ("selectivity", Some(selectivity.mean), Some(selectivity.p)),
            ("correlation", self.correlation(design), None),
        ]
    }

    /// Pearson's correlation of predictions and numbers, both about their means in each fold: predictions of two folds come
    /// from two fits.
    fn correlation(&self, design: &Design) -> Option<Interval> {
        let folds = self.fold.iter().max().map_or(0, |f| f + 1);
        let mut sums: Vec<Vec<f64>> = Vec::with_capacity(6 * folds);
        for fold in 0..folds {
            let of: [fn(f64, f64) -> f64; 6] =
                [|_, _| 1.0, |y, _| y, |_, f| f, |y, _| y * y, |_, f| f * f, |y, f| y * f];
            for of in of {
                let value =
                    |i: usize| if self.fold[i] == fold { of(self.truth[i], self.score[i]) } else { 0.0 };
                sums.push((0..self.truth.len()).map(value).collect());
            }
        }
        let slices: Vec<&[f64]> = sums.iter().map(Vec::as_slice).collect();
        design.resampler().statistic(&slices, |s| {
            let (mut yy, mut ff, mut yf, mut size) = (0.0, 0.0, 0.0, 0.0);
            for s in s.chunks_exact(6).filter(|s| s[0] > 0.0) {
                yy += s[3] - s[1] * s[1] / s[0];
                ff += s[4] - s[2] * s[2] / s[0];
                yf += s[5] - s[1] * s[2] / s[0];
                size += s[4];
            }
            // What does not vary within folds but for rounding has no correlation.
            if yy <= 0.0 || ff <= 1e-12 * size { f64::NAN } else { yf / (yy * ff).sqrt() }
        })
    }
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// All predictions of a table, by model, target and place.
struct Read {
    found: HashMap<(String, String, Place), Predictions>,
}

impl Read {
    fn new(context: &Context, reading: &Reading, table: &Table) -> Result<Self> {
        let order: HashMap<&str, usize> =
            context.subject.prompts.iter().enumerate().map(|(i, p)| (p.id(), i)).collect();
        let (models, targets, sites) = (table.texts("model")?, table.texts("target")?, table.texts("site")?);
        let (layers, positions) = (table.ints("layer")?, table.texts("position")?);
        let (prompts, folds) = (table.texts("prompt_id")?, table.ints("fold")?);
        let numbers = |name: &str| table.floats(name);
        let (truth, score, result) = (numbers("truth")?, numbers("score")?, numbers("result")?);
        let (baseline, control, control_baseline) =
            (numbers("baseline")?, numbers("control")?, numbers("control_baseline")?);
        let mut rows: Vec<usize> = (0..table.n_rows()).collect();
        rows.sort_by_key(|&i| order.get(prompts[i]).copied().unwrap_or(usize::MAX));
        let mut found: HashMap<_, Predictions> = HashMap::new();
        for i in rows {
            let layer = usize::try_from(layers[i]).unwrap_or_default();
            let Some(&site) = reading.sites.iter().find(|site| site.short_name() == sites[i]) else {
                continue;
            };
            let place = Place { site, layer, position: positions[i].to_owned() };
            let one = found.entry((models[i].to_owned(), targets[i].to_owned(), place)).or_default();
            one.fold.push(usize::try_from(folds[i]).unwrap_or_default());
            let into = [
                &mut one.truth,
                &mut one.score,
                &mut one.result,
                &mut one.baseline,
                &mut one.control,
                &mut one.control_baseline,
            ];
            let values = [&truth, &score, &result, &baseline, &control, &control_baseline];
            into.into_iter().zip(values).for_each(|(into, values)| into.push(values[i]));
        }
        Ok(Self { found })
    }

    /// Those of a model, target and place, where every labelled prompt was predicted.
    fn of(&self, model: &str, target: &str, place: &Place, n: usize) -> Option<&Predictions> {
        let key = (model.to_owned(), target.to_owned(), place.clone());
        self.found.get(&key).filter(|p| p.truth.len() == n)
    }
}

/// What is scored: target, place and model.
struct Scored {
    target: usize,
    place: Place,
    model: usize,
}

/// The tables of scores and of differences.
pub(super) fn summarise(
    context: &Context,
    probing: &Probing,
    reading: &Reading,
    predictions: &Table,
) -> Result<(Table, Table)> {
    let read = Read::new(context, reading, predictions)?;
    let designs: Vec<Design> = probing.folds.iter().map(|folds| design(context, &folds.prompts)).collect();
    let places: Vec<Place> = reading.layers.iter().flat_map(|&l| reading.places(l)).collect();
    let n_models = context.subject.model.n_models();
    let mut asked = Vec::new();
    for target in 0..probing.targets.len() {
        for place in &places {
            asked.extend((0..n_models).map(|model| Scored { target, place: place.clone(), model }));
        }
    }
    let scores = scores(context, probing, &read, &designs, &asked)?;
    let differences = differences(context, probing, &read, &designs, &places)?;
    Ok((scores, differences))
}

fn design(context: &Context, prompts: &[usize]) -> Design {
    let clusters: Vec<&str> = prompts.iter().map(|&i| context.subject.prompts[i].item.cluster()).collect();
    Design::new(&clusters, context.seed)
}

fn scores(
    context: &Context,
    probing: &Probing,
    read: &Read,
    designs: &[Design],
    asked: &[Scored],
) -> Result<Table> {
    let model = &context.subject.model;
    let measure = |s: &Scored| -> (String, Vec<Measured>) {
        let target = &probing.targets[s.target];
        let design = &designs[probing.folds_of[s.target]];
        let found = read.of(model.name(s.model), &target.name, &s.place, design.n());
        let (status, found) = match (probing.problem(s.target, s.model), found) {
            (Some(problem), _) => (problem, None),
            (None, None) => ("a fit did not come to an end".to_owned(), None),
            (None, Some(found)) => ("ok".to_owned(), Some(found)),
        };
        let names: &[&'static str] = if target.is_classes() {
            &["accuracy", "majority", "control", "selectivity", "auc"]
        } else {
            &["r2", "control", "selectivity", "correlation"]
        };
        let measured = match found {
            None => names.iter().map(|name| (*name, None, None)).collect(),
            Some(found) if target.is_classes() => found.class_metrics(design),
            Some(found) => found.number_metrics(design),
        };
        (status, measured)
    };
    let measured: Vec<(String, Vec<Measured>)> = asked.par_iter().map(measure).collect();
    let p: Vec<f64> = measured.iter().flat_map(|(_, m)| m).filter_map(|m| m.2).collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    let mut table = Table::new(&SCORES);
    for (s, (status, measured)) in asked.iter().zip(measured) {
        let (target, design) = (&probing.targets[s.target], &designs[probing.folds_of[s.target]]);
        let classes = match &target.kind {
            Kind::Classes(first, second) => serde_json::to_string(&[first, second]).ok(),
            Kind::Number => None,
        };
        for (metric, value, p_value) in measured {
            table.push(&[
                model.name(s.model).into(),
                target.name.as_str().into(),
                s.place.site.short_name().into(),
                s.place.layer.into(),
                s.place.position.as_str().into(),
                metric.into(),
                classes.clone().into(),
                design.n().into(),
                design.n_clusters().into(),
                probing.folds(s.target).folds.len().into(),
                probing.settings.controls.into(),
                p.len().into(),
                status.as_str().into(),
                value.map(|v| v.mean).into(),
                value.map(|v| v.lo).into(),
                value.map(|v| v.hi).into(),
                p_value.into(),
                p_value.and_then(|_| q.next()).into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}

fn differences(
    context: &Context,
    probing: &Probing,
    read: &Read,
    designs: &[Design],
    places: &[Place],
) -> Result<Table> {
    let model = &context.subject.model;
    let first = |m: usize| if probing.settings.pairs { m } else { m.min(1) };
    let pairs: Vec<(usize, usize)> =
        (1..model.n_models()).flat_map(|m| (0..first(m)).map(move |minus| (m, minus))).collect();
    let mut asked = Vec::new();
    for target in 0..probing.targets.len() {
        for place in places {
            asked.extend(pairs.iter().map(|&pair| (target, place, pair)));
        }
    }
    let compare = |&(target, place, (one, other)): &(usize, &Place, (usize, usize))| -> Option<Comparison> {
        let (label, design) = (&probing.targets[target], &designs[probing.folds_of[target]]);
        let of = |m: usize| read.of(model.name(m), &label.name, place, design.n());
        let (one, other) = (of(one)?, of(other)?);
        if label.is_classes() {
            return Some(design.compare(&minus(&one.result, &other.result)));
        }
        // Shares of the squared error of the mean, so that the mean difference is that of R².
        let size = one.baseline.iter().sum::<f64>() / one.baseline.len() as f64;
        let better: Vec<f64> = minus(&other.result, &one.result).iter().map(|d| d / size).collect();
        Some(design.compare(&better))
    };
    let found: Vec<Option<Comparison>> = asked.par_iter().map(compare).collect();
    let p: Vec<f64> = found.iter().flatten().map(|c| c.p).collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    let mut table = Table::new(&DIFFERENCES);
    for ((target, place, (one, other)), comparison) in asked.into_iter().zip(found) {
        let (Some(comparison), label) = (comparison, &probing.targets[target]) else { continue };
        let design = &designs[probing.folds_of[target]];
        table.push(&[
            model.name(one).into(),
            model.name(other).into(),
            label.name.as_str().into(),
            place.site.short_name().into(),
            place.layer.into(),
            place.position.as_str().into(),
            if label.is_classes() { "accuracy" } else { "r2" }.into(),
            design.n().into(),
            design.n_clusters().into(),
            p.len().into(),
            comparison.mean.mean.into(),
            comparison.mean.lo.into(),
            comparison.mean.hi.into(),
            comparison.p.into(),
            q.next().unwrap_or(1.0).into(),
            comparison.effect.into(),
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}
