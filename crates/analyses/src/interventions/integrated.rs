//! Estimates from gradients along a path between both ends of a patched run, at Gauss-Legendre nodes.

use super::estimate::{along, difference};
use super::ground::{Ground, ThereAndBack};
use super::sweep::{PatchedRun, RunKey, Sweep};
use crate::error::{Error, Result};
use lorascope_engine::{Edit, EditOp, HookPoint, Rules, Site};
use std::collections::{BTreeMap, BTreeSet};

impl Sweep<'_> {
    /// Estimates of runs, one by one of the distinct paths that they have.
    pub(super) fn integrated(&self, runs: &[PatchedRun], nodes: usize) -> Result<Vec<f64>> {
        let ground = self.ground(runs, None)?;
        let (values, _) = self.values(&ground, runs)?;
        let paths: Vec<Path> = runs.iter().map(|run| self.path(run)).collect::<Result<_>>()?;
        let mut sums = vec![0.0; runs.len()];
        let distinct: BTreeSet<Path> = paths.iter().copied().collect();
        for path in distinct {
            let own: Vec<usize> = (0..runs.len()).filter(|&i| paths[i] == path).collect();
            let mut wanted: BTreeMap<HookPoint, BTreeSet<usize>> = BTreeMap::new();
            for change in own.iter().flat_map(|&i| &runs[i].changes) {
                wanted.entry(change.point).or_default().insert(ground.row(path.runs_on, change.position));
            }
            for (at, weight) in gauss_legendre(nodes) {
                let edits = self.on_path(&ground, path, at)?;
                let on = BTreeSet::from([path.runs_on]);
                let ThereAndBack { slopes, values: there, .. } =
                    self.slopes(&ground, &on, &wanted, &wanted, edits, Rules::EXACT)?;
                for &i in &own {
                    for change in &runs[i].changes {
                        let place = (change.point, ground.row(path.runs_on, change.position));
                        let new = match change.point {
                            // What the adapter adds at this scale: so the blocks add up to the whole difference.
                            HookPoint::Layer(_, Site::LoraOut(_) | Site::LoraResult) => {
                                let scale = match change.point {
                                    HookPoint::Layer(_, Site::LoraOut(_)) => at,
                                    _ => 1.0,
                                };
                                let sign = if runs[i].model == path.runs_on.0 { -1.0 } else { 1.0 };
                                let added = &there[&place][change.units.clone()];
                                added.iter().map(|&v| f64::from(v) * sign / scale).collect()
                            }
                            _ => difference(&ground, &runs[i], change, &values),
                        };
                        sums[i] += weight * along(change, &slopes[&place][change.units.clone()], &new);
                    }
                }
            }
        }
        Ok(sums)
    }

    /// The way between both ends of a patched run.
    fn path(&self, run: &PatchedRun) -> Result<Path> {
        let own = (run.model, run.prompt);
        let sources: BTreeSet<RunKey> =
            run.changes.iter().filter_map(|c| c.replacement.source()).map(|s| (s.model, s.prompt)).collect();
        let mut sources = sources.into_iter();
        let refuse = |why: &str| Err(Error::NoPath { why: why.to_owned() });
        match (sources.next(), sources.next()) {
            (Some((0, prompt)), None) if run.model > 0 && prompt == run.prompt => {
                Ok(Path { runs_on: own, from: None })
            }
            (Some((m, prompt)), None) if run.model == 0 && m > 0 && prompt == run.prompt => {
                Ok(Path { runs_on: (m, prompt), from: None })
            }
            (Some((m, prompt)), None) if m == run.model && prompt != run.prompt => {
                if self.questions[prompt].stem().len() != self.questions[run.prompt].stem().len() {
                    return refuse("prompts have different lengths");
                }
                Ok(Path { runs_on: own, from: Some((m, prompt)) })
            }
            _ => refuse("the path leads from the base to an adapter, or between two prompts of one model"),
        }
    }

    /// Edits that put a run on the path.
    fn on_path(&self, ground: &Ground, path: Path, at: f64) -> Result<Vec<Edit<f32>>> {
        let model = &self.subject.model;
        let spec = model.spec();
        let rows: BTreeSet<usize> = self.questions[path.runs_on.1]
            .sequences()
            .iter()
            .enumerate()
            .flat_map(|(s, tokens)| (0..tokens.len()).map(move |p| (s, p)))
            .filter_map(|(s, p)| ground.batch.row_of(ground.first_sequence[&path.runs_on] + s, p))
            .collect();
        let Some(from) = path.from else {
            let adapter = &model.adapters()[path.runs_on.0 - 1];
            let edits = adapter.adapted().flat_map(|(layer, module)| {
                let units = 0..spec.module_shape(module).0;
                let point = HookPoint::Layer(layer, Site::LoraOut(module));
                let op = EditOp::Scale(at as f32);
                rows.iter().map(move |&row| Edit { point, row, units: units.clone(), op: op.clone() })
            });
            return Ok(edits.collect());
        };
        let length = self.questions[from.1].stem().len();
        let mut edits = Vec::with_capacity(length);
        for position in 0..length {
            let (row, other) = (ground.row(path.runs_on, position), ground.row(from, position));
            let of = |row: usize| model.embedding_shares(path.runs_on.0, ground.batch.row(row).token);
            let (own, other) = (of(row)?, of(other)?);
            let whole = |e: &lorascope_engine::EmbeddingShares, i: usize| e.base[i] + e.adapter[i];
            let mix = |i: usize| (whole(&own, i) * (1.0 - at) + whole(&other, i) * at) as f32;
            let op = EditOp::Set((0..spec.d_model).map(mix).collect());
            edits.push(Edit { point: HookPoint::Embed, row, units: 0..spec.d_model, op });
        }
        Ok(edits)
    }
}

/// Where gradients are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    /// The run that is moved: that of the adapter, or of the target prompt.
    runs_on: RunKey,
    /// The run whose embeddings it is moved to; `None` where the adapter's scale is what moves.
    from: Option<RunKey>,
}

/// Nodes and weights on [0, 1]: Newton's method on the Legendre polynomial.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let node = |i: usize| {
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut before, mut here) = (1.0, x);
            for k in 2..=n {
                let k = k as f64;
                (before, here) = (here, ((2.0 * k - 1.0) * x * here - (k - 1.0) * before) / k);
            }
            if n == 1 {
                (before, here) = (1.0, x);
            }
            slope = n as f64 * (x * here - before) / (x * x - 1.0);
            let step = here / slope;
            x -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        ((1.0 - x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..n).map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_integrate_polynomials_of_degree_2n_minus_1_exactly() {
        for n in 1..12 {
            let nodes = gauss_legendre(n);
            for degree in 0..2 * n as i32 {
                let sum: f64 = nodes.iter().map(|(x, w)| w * x.powi(degree)).sum();
                assert!(
                    (sum - 1.0 / f64::from(degree + 1)).abs() < 1e-12,
                    "{n} nodes, degree {degree}: {sum}"
                );
            }
        }
    }
}
