//! What moves a decision: scenario, wording, fine-tuning.

use super::tables::{COMPONENTS, SENSITIVITY};
use crate::bootstrap::{Interval, Resampler};
use crate::context::Context;
use crate::decide::by_prompt;
use crate::error::Result;
use crate::scenarios::scenarios;
use crate::subject::Prompt;
use lorascope_engine::BASE;
use lorascope_record::Table;
use std::collections::BTreeMap;

/// Scenario and template of each prompt, with the draws of whole templates.
pub(super) struct Nested {
    resampler: Resampler,
    /// The scenario of each prompt.
    scenario_of: Vec<usize>,
    n_scenarios: usize,
    /// Template within scenario of each prompt.
    cell_of: Vec<usize>,
    /// Prompts of each.
    cell_sizes: Vec<usize>,
}

/// Variance between scenarios, templates within, and prompts within; `None` where it can't be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Components {
    pub scenario: Option<f64>,
    pub template: Option<f64>,
    pub prompt: Option<f64>,
}

impl Components {
    fn get(&self, which: usize) -> Option<f64> {
        [self.scenario, self.template, self.prompt][which]
    }

    /// Share of a component in all variance; estimates below zero count as zero.
    fn share(&self, which: usize) -> Option<f64> {
        let total: f64 = (0..3).filter_map(|c| self.get(c)).map(|v| v.max(0.0)).sum();
        self.get(which).filter(|_| total > 0.0).map(|v| v.max(0.0) / total)
    }
}

impl Nested {
    pub fn new(scenario_of: Vec<usize>, clusters: &[&str], seed: u64) -> Self {
        let mut cells: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        let mut cell_sizes = Vec::new();
        let cell_of = scenario_of
            .iter()
            .zip(clusters)
            .map(|(&s, &c)| {
                let cell = *cells.entry((s, c)).or_insert_with(|| {
                    cell_sizes.push(0);
                    cell_sizes.len() - 1
                });
                cell_sizes[cell] += 1;
                cell
            })
            .collect();
        let n_scenarios = scenario_of.iter().max().map_or(0, |s| s + 1);
        Self { resampler: Resampler::new(clusters, seed), scenario_of, n_scenarios, cell_of, cell_sizes }
    }

    fn of(prompts: &[Prompt], seed: u64) -> Self {
        let mut scenario_of = vec![0; prompts.len()];
        for (s, group) in scenarios(prompts).iter().enumerate() {
            group.prompts.iter().for_each(|&i| scenario_of[i] = s);
        }
        let clusters: Vec<&str> = prompts.iter().map(|p| p.item.cluster()).collect();
        Self::new(scenario_of, &clusters, seed)
    }

    fn groups(&self) -> [usize; 3] {
        [self.n_scenarios, self.cell_sizes.len(), self.scenario_of.len()]
    }

    /// One value per prompt of which the estimates are functions of sums; a template that is drawn twice counts as two.
    fn summed(&self, y: &[f64]) -> Vec<Vec<f64>> {
        let mut sums = vec![0.0; self.cell_sizes.len()];
        y.iter().zip(&self.cell_of).for_each(|(y, &c)| sums[c] += y);
        let size = |i: usize| self.cell_sizes[self.cell_of[i]] as f64;
        let mean = |i: usize| sums[self.cell_of[i]] / size(i);
        let each = |f: &dyn Fn(usize) -> f64| (0..y.len()).map(f).collect::<Vec<f64>>();
        let mut all = vec![each(&|i| y[i] * y[i]), each(&|i| mean(i).powi(2)), each(&|i| 1.0 / size(i))];
        for s in 0..self.n_scenarios {
            let of = |i: usize| f64::from(self.scenario_of[i] == s);
            all.extend([each(&of), each(&|i| of(i) * y[i]), each(&|i| of(i) * size(i))]);
        }
        all
    }

    /// Estimates of variance components from sums over prompts; centred values keep their precision.
    pub fn components(&self, y: &[f64]) -> Components {
        estimate(&totals(&self.summed(&centred(y))))
    }

    /// Share of a component with its interval.
    fn share(&self, y: &[f64], which: usize) -> Option<Interval> {
        let summed = self.summed(&centred(y));
        let values: Vec<&[f64]> = summed.iter().map(Vec::as_slice).collect();
        self.resampler.statistic(&values, |sums| estimate(sums).share(which).unwrap_or(f64::NAN))
    }

    /// Root mean square of `change` over √2 · the standard deviation of `y` within scenarios.
    fn ratio(&self, change: &[f64], y: &[f64]) -> Option<Interval> {
        let mut summed = vec![change.iter().map(|d| d * d).collect::<Vec<f64>>()];
        summed.extend(self.summed(&centred(y)));
        let values: Vec<&[f64]> = summed.iter().map(Vec::as_slice).collect();
        self.resampler.statistic(&values, |sums| {
            let n: f64 = sums[4..].iter().step_by(3).sum();
            match within(&sums[1..]) {
                Some(variance) if variance > 0.0 => (sums[0] / n / (2.0 * variance)).sqrt(),
                _ => f64::NAN,
            }
        })
    }

    /// Root mean square over prompts of the means of their scenarios.
    fn of_scenarios(&self, change: &[f64]) -> f64 {
        let mut sums = vec![(0.0, 0.0); self.n_scenarios];
        self.scenario_of.iter().zip(change).for_each(|(&s, d)| sums[s] = (sums[s].0 + d, sums[s].1 + 1.0));
        (sums.iter().map(|(sum, n)| sum * sum / n).sum::<f64>() / change.len() as f64).sqrt()
    }
}

/// Distances from the mean; equal values have none but that of rounding.
fn centred(y: &[f64]) -> Vec<f64> {
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let size = y.iter().fold(0.0f64, |m, y| m.max(y.abs()));
    y.iter().map(|y| y - mean).map(|d| if d.abs() > 1e-12 * size { d } else { 0.0 }).collect()
}

fn totals(summed: &[Vec<f64>]) -> Vec<f64> {
    summed.iter().map(|values| values.iter().sum()).collect()
}

/// Scenarios that have prompts: their number of prompts, sum, and sum of squared sizes of templates.
fn occupied(sums: &[f64]) -> impl Iterator<Item = &[f64]> {
    sums[3..].chunks_exact(3).filter(|s| s[0] > 0.0)
}

/// Variance within scenarios.
fn within(sums: &[f64]) -> Option<f64> {
    let (n, groups) = occupied(sums).fold((0.0, 0.0), |(n, g), s| (n + s[0], g + 1.0));
    let between: f64 = occupied(sums).map(|s| s[1] * s[1] / s[0]).sum();
    (n > groups).then(|| ((sums[0] - between) / (n - groups)).max(0.0))
}

/// Estimates that equate mean squares with their expectations.
fn estimate(sums: &[f64]) -> Components {
    let (squares, of_cells, cells) = (sums[0], sums[1], sums[2].round());
    let (mut n, mut groups, mut total, mut of_groups, mut sizes, mut ratios, mut groups_squared) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for s in occupied(sums) {
        (n, groups, total) = (n + s[0], groups + 1.0, total + s[1]);
        of_groups += s[1] * s[1] / s[0];
        (sizes, ratios, groups_squared) = (sizes + s[2], ratios + s[2] / s[0], groups_squared + s[0] * s[0]);
    }
    let mean_square = |above: f64, below: f64, df: f64| (df > 0.5).then(|| (above - below) / df);
    let prompt = mean_square(squares, of_cells, n - cells);
    let of_prompts = prompt.unwrap_or(0.0);
    let per_cell = (n - ratios) / (cells - groups);
    let template = mean_square(of_cells, of_groups, cells - groups).map(|m| (m - of_prompts) / per_cell);
    let (of_templates, per_group) =
        ((ratios - sizes / n) / (groups - 1.0), (n - groups_squared / n) / (groups - 1.0));
    let scenario = mean_square(of_groups, total * total / n, groups - 1.0)
        .map(|m| (m - of_prompts - of_templates * template.unwrap_or(0.0)) / per_group);
    Components { scenario, template, prompt }
}

/// Values of a column of one model in the order of prompts.
pub(super) fn of_model(values: &BTreeMap<(&str, &str), f64>, prompts: &[Prompt], model: &str) -> Vec<f64> {
    prompts.iter().filter_map(|p| values.get(&(model, p.id())).copied()).collect()
}

pub(super) fn components(context: &Context, samples: &Table) -> Result<Table> {
    let subject = context.subject;
    let nested = Nested::of(&subject.prompts, context.seed);
    let deltas = by_prompt(samples, "delta")?;
    let mut table = Table::new(&COMPONENTS);
    for name in subject.model.names() {
        let y = of_model(&deltas, &subject.prompts, name);
        let found = nested.components(&y);
        for (which, component) in ["scenario", "template", "prompt"].into_iter().enumerate() {
            let share = nested.share(&y, which);
            table.push(&[
                name.into(),
                component.into(),
                nested.groups()[which].into(),
                found.get(which).into(),
                share.map(|s| s.mean).into(),
                share.map(|s| s.lo).into(),
                share.map(|s| s.hi).into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}

pub(super) const FINE_TUNING: &str = "fine-tuning moves more";
pub(super) const WORDING: &str = "wording moves more";
pub(super) const UNRESOLVED: &str = "not resolved";

pub(super) fn sensitivity(context: &Context, samples: &Table) -> Result<Table> {
    let subject = context.subject;
    let nested = Nested::of(&subject.prompts, context.seed);
    let deltas = by_prompt(samples, "delta")?;
    let base = of_model(&deltas, &subject.prompts, BASE);
    let wording = within(&totals(&nested.summed(&centred(&base)))).map(|v| (2.0 * v).sqrt());
    let mut table = Table::new(&SENSITIVITY);
    for name in subject.model.names().into_iter().filter(|n| *n != BASE) {
        let own = of_model(&deltas, &subject.prompts, name);
        let change: Vec<f64> = own.iter().zip(&base).map(|(o, b)| o - b).collect();
        let ratio = nested.ratio(&change, &base);
        let enough = nested.resampler.n_clusters() > 1;
        let verdict = match ratio {
            Some(r) if enough && r.lo > 1.0 => FINE_TUNING,
            Some(r) if enough && r.hi < 1.0 => WORDING,
            _ => UNRESOLVED,
        };
        let square = change.iter().map(|d| d * d).sum::<f64>() / change.len() as f64;
        table.push(&[
            name.into(),
            verdict.into(),
            change.len().into(),
            square.sqrt().into(),
            nested.of_scenarios(&change).into(),
            wording.into(),
            ratio.map(|r| r.mean).into(),
            ratio.map(|r| r.lo).into(),
            ratio.map(|r| r.hi).into(),
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}
