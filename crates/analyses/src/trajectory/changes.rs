//! Change points of behaviour and of norms, and which comes first.

use super::Trajectory;
use super::behaviour::{Decided, groups};
use super::blocks::{ALL, BlockRow};
use super::segments::{Costs, Curve, Orders, Share, Test, curve};
use super::settings::Settings;
use super::tables::CHANGES;
use crate::bootstrap::{Resampler, ends, tail};
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::{ALL_PROMPTS, Scenario, scenarios};
use crate::statistics::benjamini_hochberg;
use lorascope_record::{Table, row};
use rayon::prelude::*;

/// Positions of a norm's change that explain less by at most this share of its variation are as good.
const NEAR: f64 = 0.05;

/// What a curve is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Delta of a scenario, or of all.
    Behaviour(String),
    /// The norm of a block: layer (`None`: all) and module.
    Norm(Option<usize>, String),
}

/// One curve with its changes.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub trajectory: String,
    pub of: Of,
    n_steps: usize,
    pub changes: Vec<Change>,
    explained: Option<f64>,
    penalty: Option<f64>,
    pub p: Option<f64>,
    pub q: Option<f64>,
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Whether it explains the most.
    pub main: bool,
    /// Checkpoints before and after.
    pub between: (u64, u64),
    /// It lies between these.
    pub interval: Option<(u64, u64)>,
    pub before: f64,
    pub after: f64,
    size: f64,
    pub jump: Option<f64>,
    agreement: Option<f64>,
    pub order: Option<Order>,
}

/// Whether a block changes before the behaviour does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Before,
    After,
    Unresolved,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Order::Before => "before",
            Order::After => "after",
            Order::Unresolved => "unresolved",
        }
    }
}

impl Found {
    pub fn main(&self) -> Option<&Change> {
        self.changes.iter().find(|c| c.main)
    }
}

/// Changes of all curves of a trajectory.
pub(super) fn find(
    context: &Context,
    settings: &Settings,
    trajectory: &Trajectory,
    decided: &Decided,
    blocks: &[BlockRow],
) -> Vec<Found> {
    context.progress.begin("change points", 2);
    let mut found = of_behaviour(context, settings, trajectory, decided);
    context.progress.at(1);
    found.extend(of_norms(context, settings, trajectory, blocks));
    context.progress.end();
    found
}

fn of_behaviour(
    context: &Context,
    settings: &Settings,
    trajectory: &Trajectory,
    decided: &Decided,
) -> Vec<Found> {
    let prompts = &context.subject.prompts;
    let one = |group: Scenario| {
        // All prompts: a coordinate for each scenario, so that what goes up in one does not cancel what goes down in another.
        let coordinates = if group.name == ALL_PROMPTS {
            scenarios(prompts).into_iter().map(|s| s.prompts).collect()
        } else {
            vec![group.prompts.clone()]
        };
        let clusters: Vec<&str> = group.prompts.iter().map(|&i| prompts[i].item.cluster()).collect();
        let resampler = Resampler::new(&clusters, context.seed);
        let shares = shares(&group.prompts, &coordinates, &resampler, decided);
        let orders = Orders::new(trajectory.steps.len(), shares.len(), settings.permutations, context.seed);
        let test = orders.test(&shares, settings.level);
        let mut found = describe(trajectory, Of::Behaviour(group.name), &curve(&shares, None), test);
        resample(&mut found, trajectory, &shares, &resampler);
        found
    };
    groups(context).into_par_iter().map(one).collect()
}

/// Every cluster's part in the curves of these groups of prompts.
pub(super) fn shares(
    prompts: &[usize],
    coordinates: &[Vec<usize>],
    resampler: &Resampler,
    decided: &Decided,
) -> Vec<Share> {
    let n = decided.steps.len();
    let nothing = Share { sums: vec![vec![0.0; n]; coordinates.len()], counts: vec![0.0; coordinates.len()] };
    let mut shares = vec![nothing; resampler.n_clusters()];
    for (d, of) in coordinates.iter().enumerate() {
        for (prompt, &cluster) in prompts.iter().zip(resampler.cluster_of()) {
            if !of.contains(prompt) {
                continue;
            }
            let share = &mut shares[cluster];
            share.counts[d] += 1.0;
            for (sum, values) in share.sums[d].iter_mut().zip(&decided.steps) {
                *sum += values.delta[*prompt];
            }
        }
    }
    shares
}

fn of_norms(
    context: &Context,
    settings: &Settings,
    trajectory: &Trajectory,
    blocks: &[BlockRow],
) -> Vec<Found> {
    let n = trajectory.steps.len();
    let orders = Orders::new(n, 1, settings.permutations, context.seed);
    let mut places: Vec<(Option<usize>, &str)> = Vec::new();
    for row in blocks {
        let place = (row.layer, row.module.as_str());
        // Modules of all layers together are in the table of blocks only.
        let wanted = row.layer.is_some() || row.module == ALL;
        if wanted && places.last() != Some(&place) && !places.contains(&place) {
            places.push(place);
        }
    }
    let one = |&(layer, module): &(Option<usize>, &str)| {
        let own = blocks.iter().filter(|r| r.layer == layer && r.module == module);
        let sums = vec![own.map(|r| r.norm).collect::<Vec<f64>>()];
        let shares = [Share { sums, counts: vec![1.0] }];
        let test = orders.test(&shares, settings.level);
        let curve = curve(&shares, None);
        let mut found = describe(trajectory, Of::Norm(layer, module.to_owned()), &curve, test);
        near(&mut found, trajectory, &curve);
        found
    };
    places.par_iter().map(one).collect()
}

/// The changes of a curve in numbers, without their intervals.
fn describe(trajectory: &Trajectory, of: Of, curve: &Curve, test: Test) -> Found {
    let costs = Costs::new(curve);
    let n = curve.n_steps();
    let starts = &test.starts;
    let bounds: Vec<usize> = std::iter::once(0).chain(starts.iter().copied()).chain([n]).collect();
    let gain = |i: usize| {
        let (first, at, end) = (bounds[i], bounds[i + 1], bounds[i + 2]);
        costs.run(first, end) - costs.run(first, at) - costs.run(at, end)
    };
    let main = (0..starts.len()).max_by(|&i, &j| gain(i).total_cmp(&gain(j)).then(j.cmp(&i)));
    let rest: f64 = bounds.windows(2).map(|run| costs.run(run[0], run[1])).sum();
    let change = |i: usize| {
        let (first, at, end) = (bounds[i], bounds[i + 1], bounds[i + 2]);
        let (mut before, mut after, mut square, mut along) = (0.0, 0.0, 0.0, 0.0);
        for (d, w) in curve.weights.iter().enumerate() {
            let (low, high) = (curve.level(d, first..at), curve.level(d, at..end));
            let x = &curve.values[d];
            before += w * low;
            after += w * high;
            square += w * (high - low).powi(2);
            along += w * (high - low) * (x[at] - x[at - 1]);
        }
        Change {
            main: main == Some(i),
            between: (trajectory.steps[at - 1], trajectory.steps[at]),
            interval: None,
            before,
            after,
            size: square.sqrt(),
            jump: (square > 0.0).then(|| along / square),
            agreement: None,
            order: None,
        }
    };
    Found {
        trajectory: trajectory.name.clone(),
        of,
        n_steps: n,
        changes: (0..starts.len()).map(change).collect(),
        explained: test.p.map(|_| 1.0 - rest / costs.whole()),
        penalty: test.penalty,
        p: test.p,
        q: None,
    }
}

/// Intervals of behaviour: as many changes as in the data, on resampled clusters.
fn resample(found: &mut Found, trajectory: &Trajectory, shares: &[Share], resampler: &Resampler) {
    let n_changes = found.changes.len();
    if n_changes == 0 || resampler.draws().is_empty() {
        return;
    }
    let refit = |times: &Vec<u32>| {
        let partitions = Costs::new(&curve(shares, Some(times))).partitions();
        partitions.into_iter().nth(n_changes).map(|(_, starts)| starts)
    };
    let refitted: Vec<Vec<usize>> = resampler.draws().par_iter().filter_map(refit).collect();
    let tail = tail(resampler.n_clusters());
    for (i, change) in found.changes.iter_mut().enumerate() {
        let mut at: Vec<f64> = refitted.iter().map(|starts| starts[i] as f64).collect();
        let same = at.iter().filter(|a| trajectory.steps[**a as usize] == change.between.1).count();
        change.agreement = Some(same as f64 / at.len() as f64);
        change.interval = ends(&mut at, tail)
            .map(|(lo, hi)| (trajectory.steps[lo as usize - 1], trajectory.steps[hi as usize]));
    }
}

/// Intervals of norms: positions that are almost as good, the other changes held.
fn near(found: &mut Found, trajectory: &Trajectory, curve: &Curve) {
    let costs = Costs::new(curve);
    let at = |step: u64| trajectory.steps.iter().position(|s| *s == step).unwrap_or_default();
    let starts: Vec<usize> = found.changes.iter().map(|c| at(c.between.1)).collect();
    for (i, change) in found.changes.iter_mut().enumerate() {
        let first = i.checked_sub(1).map_or(0, |i| starts[i]);
        let end = starts.get(i + 1).copied().unwrap_or(curve.n_steps());
        let sum = |at: usize| costs.run(first, at) + costs.run(at, end);
        let best = sum(starts[i]);
        let good = (first + 1..end).filter(|&at| sum(at) <= best + NEAR * costs.whole());
        let good: Vec<usize> = good.collect();
        change.interval =
            good.first().zip(good.last()).map(|(lo, hi)| (trajectory.steps[lo - 1], trajectory.steps[*hi]));
    }
}

/// Corrects all curves together, and says which norms change before the behaviour of their trajectory.
pub(super) fn correct(found: &mut [Found], level: f64) -> usize {
    let p: Vec<f64> = found.iter().filter_map(|f| f.p).collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    for one in found.iter_mut() {
        one.q = one.p.and_then(|_| q.next());
    }
    let clear = |f: &Found| f.q.is_some_and(|q| q <= level);
    let behaviour: Vec<(String, (u64, u64))> = found
        .iter()
        .filter(|f| f.of == Of::Behaviour(ALL_PROMPTS.to_owned()) && clear(f))
        .filter_map(|f| Some((f.trajectory.clone(), f.main()?.interval?)))
        .collect();
    for one in found.iter_mut().filter(|f| matches!(f.of, Of::Norm(..))) {
        let clear = clear(one);
        let own = behaviour.iter().find(|(trajectory, _)| *trajectory == one.trajectory);
        for change in &mut one.changes {
            let both = own.map(|(_, interval)| *interval).zip(change.interval);
            change.order = both.map(|((lo, hi), (own_lo, own_hi))| match () {
                () if clear && own_hi <= lo => Order::Before,
                () if clear && own_lo >= hi => Order::After,
                () => Order::Unresolved,
            });
        }
    }
    p.len()
}

/// The table, corrected.
pub(super) fn table(found: &[Found], family: usize) -> Result<Table> {
    let mut table = Table::new(&CHANGES);
    for f in found {
        let (curve, scenario, layer, module) = match &f.of {
            Of::Behaviour(scenario) => ("behaviour", Some(scenario.as_str()), None, None),
            Of::Norm(layer, module) => ("norm", None, *layer, Some(module.as_str())),
        };
        let changes = f.changes.iter().enumerate().map(|(i, c)| (Some(i), Some(c)));
        let none = f.changes.is_empty().then_some((None, None));
        for (i, c) in changes.chain(none) {
            let interval = c.and_then(|c| c.interval);
            table.push(&row![
                f.trajectory.as_str(),
                curve,
                scenario,
                layer,
                module,
                i,
                c.map(|c| c.main),
                f.n_steps,
                f.changes.len(),
                c.map(|c| c.between.0),
                c.map(|c| c.between.1),
                interval.map(|i| i.0),
                interval.map(|i| i.1),
                c.and_then(|c| c.order).map(Order::name),
                family,
                c.map(|c| c.before),
                c.map(|c| c.after),
                c.map(|c| c.size),
                c.and_then(|c| c.jump),
                c.and_then(|c| c.agreement),
                c.and(f.explained),
                f.penalty,
                f.p,
                f.q
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}
