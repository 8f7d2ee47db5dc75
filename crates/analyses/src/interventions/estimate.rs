//! First-order estimates of patched runs: what each would change, from the gradient of delta at what it changes.
//!
//! Attribution patching (Nanda 2023; Syed, Rager & Conmy 2023): `change ≈ Σ gradient · (new − old)` over the changed values. One pass
//! forward and one back serve all patched runs of a model and prompt, whatever their number, and what is estimated
//! is exactly what [`Sweep::run`] measures: the same runs go into both.

use super::measure::{Asked, deltas};
use super::patterns::{Patterns, is_of_pattern};
use super::plan::needed;
use super::sweep::{Change, KeptPrompts, PatchedRun, Replacement, RunKey, Sweep};
use crate::context::Progress;
use crate::error::{Error, Result};
use lorascope_engine::{
    Batch, Capture, Edit, EditOp, HookPoint, Hooks, Mat, ModelId, Rules, Run, Site, States, Wanted,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;

/// How a change is estimated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Estimator {
    /// One way back under these rules.
    Local(Rules),
    /// One way back, from the pattern that other queries and keys give exactly.
    ExactPatterns,
    /// AtP* (Kramár et al. 2024): patterns exact, and the mean size over ways back that each leave out one layer (GradDrop), so that
    /// effects that cancel in one do not in all; with the sign of the one that leaves out none.
    AtpStar,
    /// Integrated along a path between both models, by this many Gauss-Legendre nodes: the adapter's scale from 0 to 1
    /// (Hanna et al. 2024 for the idea). Between prompts the path leads from one embedding to the other.
    Integrated(usize),
}

/// Estimates, and delta of the unpatched runs.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    /// `[estimator][run]`: estimated change of delta.
    pub changes: Vec<Vec<f64>>,
    pub plain: BTreeMap<RunKey, f64>,
}

/// Values of places at rows, or gradients there.
pub(super) type Values = HashMap<(HookPoint, usize), Vec<f32>>;

/// The runs of some models and prompts, ready to be gone through and back.
pub(super) struct Ground<'a> {
    pub batch: Batch,
    pub kept: Option<&'a KeptPrompts>,
    pub first_sequence: BTreeMap<RunKey, usize>,
}

impl Ground<'_> {
    pub fn row(&self, key: RunKey, position: usize) -> usize {
        let row = self.batch.row_of(self.first_sequence[&key], position);
        row.unwrap_or_else(|| unreachable!("every position of a change is in its sequence"))
    }
}

impl Sweep<'_> {
    /// Estimates every run by every estimator. Runs that share a prompt should follow one another.
    ///
    /// # Errors
    /// What keeps the models from being run; an integrated estimate of a run that has no path (between two adapters, or
    /// prompts of different lengths).
    pub fn estimate(
        &self,
        what: &str,
        runs: &[PatchedRun],
        estimators: &[Estimator],
        progress: &dyn Progress,
    ) -> Result<Estimates> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare_kept(runs, &mut kept)?;
        let kept = kept.as_ref().filter(|k| self.serves(k, runs));
        let mut found = Estimates { changes: vec![Vec::new(); estimators.len()], plain: BTreeMap::new() };
        let by_prompt: Vec<&[PatchedRun]> = runs.chunk_by(|a, b| a.prompt == b.prompt).collect();
        let chunks = if kept.is_some() { vec![runs] } else { by_prompt.clone() };
        progress.begin(what, (chunks.len() + by_prompt.len()) as u64);
        let mut done = 0;
        let mut step = || {
            progress.at(done);
            done += 1;
            if progress.should_stop() { Err(Error::Stopped) } else { Ok(()) }
        };
        for chunk in chunks {
            step()?;
            let ground = self.ground(chunk, kept)?;
            let (values, plain) = self.values(&ground, chunk)?;
            found.plain.extend(plain);
            let needs_patterns = |e: &Estimator| matches!(e, Estimator::ExactPatterns | Estimator::AtpStar);
            let patterns = match estimators.iter().any(needs_patterns) {
                true => self.patterns(&ground, chunk, &values)?,
                false => None,
            };
            let patterns = patterns.as_ref();
            let mut exactly: Option<Vec<f64>> = None;
            for (estimator, out) in estimators.iter().zip(&mut found.changes) {
                match estimator {
                    Estimator::Local(rules) => out.extend(self.local(&ground, chunk, &values, *rules, None)?),
                    Estimator::ExactPatterns => {
                        let estimates = self.local(&ground, chunk, &values, Rules::EXACT, patterns)?;
                        exactly = Some(estimates.clone());
                        out.extend(estimates);
                    }
                    Estimator::AtpStar => {
                        let signs = match exactly.take() {
                            Some(known) => known,
                            None => self.local(&ground, chunk, &values, Rules::EXACT, patterns)?,
                        };
                        out.extend(self.drop_layers(&ground, chunk, &values, &signs, patterns)?);
                    }
                    Estimator::Integrated(_) => {}
                }
            }
        }
        for chunk in by_prompt {
            step()?;
            for (estimator, out) in estimators.iter().zip(&mut found.changes) {
                if let Estimator::Integrated(nodes) = estimator {
                    out.extend(self.integrated(chunk, *nodes)?);
                }
            }
        }
        progress.end();
        Ok(found)
    }

    /// The batch of all runs that these need, each model and prompt apart, so that each has gradients of its own.
    pub(super) fn ground<'k>(
        &self,
        runs: &[PatchedRun],
        kept: Option<&'k KeptPrompts>,
    ) -> Result<Ground<'k>> {
        let model = &self.subject.model;
        let keys: BTreeSet<RunKey> = runs.iter().flat_map(needed).collect();
        let mut first_sequence = BTreeMap::new();
        let mut sequences: Vec<(RunKey, Vec<u32>)> = Vec::new();
        for &key in &keys {
            first_sequence.insert(key, sequences.len());
            sequences.extend(self.questions[key.1].sequences().into_iter().map(|s| (key, s)));
        }
        let batch = match kept {
            None => {
                let whole: Vec<(ModelId, usize, &[u32])> =
                    sequences.iter().map(|((m, prompt), s)| (*m, *prompt, s.as_slice())).collect();
                Batch::apart(model.spec(), &whole)?
            }
            Some(kept) => {
                let end = |(key, s): &'_ (RunKey, Vec<u32>)| self.questions[key.1].position().min(s.len());
                let ends: Vec<(usize, usize, &[u32])> = sequences
                    .iter()
                    .map(|both| (kept.index[&both.0], both.0.1, &both.1[end(both)..]))
                    .collect();
                kept.kept.batch_apart(model, &ends)?
            }
        };
        Ok(Ground { batch, kept, first_sequence })
    }

    /// What the runs change and what they put there, at every row that they name, and delta of the unpatched runs.
    fn values(&self, ground: &Ground, runs: &[PatchedRun]) -> Result<(Values, BTreeMap<RunKey, f64>)> {
        let mut wanted: BTreeMap<HookPoint, BTreeSet<usize>> = BTreeMap::new();
        for run in runs {
            for change in &run.changes {
                let own = ground.row((run.model, run.prompt), change.position);
                let point = match &change.replacement {
                    Replacement::Shift { point, .. } => *point,
                    _ => change.point,
                };
                let rows = wanted.entry(point).or_default();
                rows.insert(own);
                if let Some(s) = change.replacement.source() {
                    rows.insert(ground.row((s.model, s.prompt), s.position));
                }
            }
        }
        let captures = captures(&wanted);
        let asked = self.asked(ground, ground.first_sequence.keys().copied());
        let rows: Vec<usize> =
            asked.iter().flat_map(|a| a.rows(&ground.batch)).collect::<BTreeSet<_>>().into_iter().collect();
        let hooks = Hooks { captures: captures.clone(), edits: Vec::new() };
        let run = self.pass(ground, &hooks, &rows)?;
        let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &row)| (row, i)).collect();
        let plain = deltas(&self.subject.model, &ground.batch, &asked, &run.readout, &place)?;
        let plain = ground.first_sequence.keys().copied().zip(plain).collect();
        Ok((by_place(&captures, run.captures), plain))
    }

    /// Goes through all rows of the ground once.
    pub(super) fn pass(&self, ground: &Ground, hooks: &Hooks<f32>, readout: &[usize]) -> Result<Run<f32>> {
        let model = &self.subject.model;
        Ok(match ground.kept {
            None => model.run(&ground.batch, hooks, readout)?,
            Some(kept) => model.run_after(&kept.kept, &ground.batch, hooks, readout, &|_, _| {})?,
        })
    }

    fn asked(&self, ground: &Ground, keys: impl Iterator<Item = RunKey>) -> Vec<Asked<'_>> {
        let asked = |key: RunKey| Asked {
            model: key.0,
            question: &self.questions[key.1],
            first_sequence: ground.first_sequence[&key],
            branch: None,
        };
        keys.map(asked).collect()
    }

    /// Gradients of delta of some runs at places of theirs, under edits; and the values there.
    pub(super) fn slopes(
        &self,
        ground: &Ground,
        of: &BTreeSet<RunKey>,
        wanted: &BTreeMap<HookPoint, BTreeSet<usize>>,
        edits: Vec<Edit<f32>>,
        rules: Rules,
    ) -> Result<(Values, Values)> {
        let (model, batch) = (&self.subject.model, &ground.batch);
        let asked = self.asked(ground, of.iter().copied());
        // delta as a sum of weighted log-probabilities of tokens after rows.
        let mut terms: BTreeMap<usize, Vec<(u32, f64)>> = BTreeMap::new();
        for one in &asked {
            for (row, token, sign) in one.terms(batch) {
                terms.entry(row).or_default().push((token, sign));
            }
        }
        let rows: Vec<usize> = terms.keys().copied().collect();
        let loss = |run: &Run<f32>| -> Result<Mat<f32>> {
            let mut gradient = Mat::zeros(rows.len(), model.spec().d_model);
            let places: Vec<usize> = (0..rows.len()).collect();
            for group in places.chunk_by(|&i, &j| batch.row(rows[i]).model == batch.row(rows[j]).model) {
                let of_row = |i: &usize| &terms[&rows[*i]];
                let states = States {
                    model: batch.row(rows[group[0]]).model,
                    normalized: run.readout.gather(group),
                    tokens: group.iter().map(|i| of_row(i).iter().map(|t| t.0).collect()).collect(),
                    reference: Vec::new(),
                    top: 0,
                };
                let weights: Vec<Vec<f64>> =
                    group.iter().map(|i| of_row(i).iter().map(|t| t.1).collect()).collect();
                let found = model.log_probs_backward(&states, &weights)?;
                for (n, &i) in group.iter().enumerate() {
                    gradient.row_mut(i).copy_from_slice(found.row(n));
                }
            }
            Ok(gradient)
        };
        let captures = captures(wanted);
        let asked = Wanted { captures: captures.clone(), parameters: Vec::new(), rules };
        let hooks = Hooks { captures: if edits.is_empty() { Vec::new() } else { captures.clone() }, edits };
        let (run, found) = match ground.kept {
            None => model.gradients(batch, &hooks, &rows, &asked, self.budget, loss)?,
            Some(kept) => {
                model.gradients_after(&kept.kept, batch, &hooks, &rows, &asked, self.budget, loss)?
            }
        };
        let values = if run.captures.is_empty() { Values::new() } else { by_place(&captures, run.captures) };
        Ok((by_place(&captures, found.captures), values))
    }

    /// Places and rows of the target's runs that are changed.
    fn changed(&self, ground: &Ground, runs: &[PatchedRun]) -> BTreeMap<HookPoint, BTreeSet<usize>> {
        let mut wanted: BTreeMap<HookPoint, BTreeSet<usize>> = BTreeMap::new();
        for run in runs {
            for change in &run.changes {
                let row = ground.row((run.model, run.prompt), change.position);
                wanted.entry(change.point).or_default().insert(row);
            }
        }
        wanted
    }

    /// Estimates from one way back; with `patterns`, what queries and keys do is linear only from there on.
    fn local(
        &self,
        ground: &Ground,
        runs: &[PatchedRun],
        values: &Values,
        rules: Rules,
        patterns: Option<&Patterns>,
    ) -> Result<Vec<f64>> {
        let targets = runs.iter().map(|r| (r.model, r.prompt)).collect();
        let mut wanted = self.changed(ground, runs);
        for (point, row) in patterns.iter().flat_map(|p| p.places()) {
            wanted.entry(point).or_default().insert(row);
        }
        let (slopes, _) = self.slopes(ground, &targets, &wanted, Vec::new(), rules)?;
        let change = |run: &PatchedRun, c: &Change| {
            let row = ground.row((run.model, run.prompt), c.position);
            let new = difference(ground, run, c, values);
            along(c, &slopes[&(c.point, row)][c.units.clone()], &new)
        };
        let is_linear = |c: &&Change| patterns.is_none() || !is_of_pattern(c);
        let linear = |run: &PatchedRun| run.changes.iter().filter(is_linear).map(|c| change(run, c)).sum();
        let mut estimates: Vec<f64> = runs.iter().map(linear).collect();
        if let Some(patterns) = patterns {
            patterns.add(&slopes, &mut estimates);
        }
        Ok(estimates)
    }

    fn drop_layers(
        &self,
        ground: &Ground,
        runs: &[PatchedRun],
        values: &Values,
        signs: &[f64],
        patterns: Option<&Patterns>,
    ) -> Result<Vec<f64>> {
        let n = self.subject.model.spec().n_layers;
        let mut sums = vec![0.0; runs.len()];
        for layer in 0..n {
            let rules = Rules { dropped_layer: Some(layer), ..Rules::EXACT };
            let found = self.local(ground, runs, values, rules, patterns)?;
            sums.iter_mut().zip(found).for_each(|(s, f)| *s += f.abs());
        }
        let others = n.saturating_sub(1).max(1) as f64;
        Ok(sums.iter().zip(signs).map(|(s, sign)| s / others * sign.signum()).collect())
    }

    fn integrated(&self, runs: &[PatchedRun], nodes: usize) -> Result<Vec<f64>> {
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
                let (slopes, there) = self.slopes(&ground, &on, &wanted, edits, Rules::EXACT)?;
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

pub(super) fn captures(wanted: &BTreeMap<HookPoint, BTreeSet<usize>>) -> Vec<Capture> {
    let capture = |(&point, rows): (&HookPoint, &BTreeSet<usize>)| Capture {
        point,
        rows: rows.iter().copied().collect(),
    };
    wanted.iter().map(capture).collect()
}

pub(super) fn by_place(captures: &[Capture], found: Vec<Vec<Vec<f32>>>) -> Values {
    let of = |(capture, rows): (&Capture, Vec<Vec<f32>>)| -> Vec<((HookPoint, usize), Vec<f32>)> {
        capture.rows.iter().zip(rows).map(|(&row, values)| ((capture.point, row), values)).collect()
    };
    captures.iter().zip(found).flat_map(of).collect()
}

/// `new − old` of a change.
pub(super) fn difference(ground: &Ground, run: &PatchedRun, change: &Change, values: &Values) -> Vec<f64> {
    let own_row = ground.row((run.model, run.prompt), change.position);
    let own = |point: HookPoint, units: &std::ops::Range<usize>| -> Vec<f64> {
        values[&(point, own_row)][units.clone()].iter().map(|&v| f64::from(v)).collect()
    };
    match &change.replacement {
        Replacement::From(s) | Replacement::Along { source: s, .. } => {
            let from = &values[&(change.point, ground.row((s.model, s.prompt), s.position))];
            let old = own(change.point, &change.units);
            from[change.units.clone()].iter().zip(old).map(|(&f, o)| f64::from(f) - o).collect()
        }
        Replacement::Shift { source: s, point, units } => {
            let from = &values[&(*point, ground.row((s.model, s.prompt), s.position))];
            from[units.clone()].iter().zip(own(*point, units)).map(|(&f, o)| f64::from(f) - o).collect()
        }
        Replacement::Values(new) => {
            new.iter().zip(own(change.point, &change.units)).map(|(&n, o)| f64::from(n) - o).collect()
        }
        Replacement::Scale(factor) => {
            let shrink = f64::from(*factor) - 1.0;
            own(change.point, &change.units).into_iter().map(|o| shrink * o).collect()
        }
        Replacement::Add { vector, factor } => {
            vector.iter().map(|&v| f64::from(v) * f64::from(*factor)).collect()
        }
    }
}

/// `slope · new`, along the change's directions where it has any.
fn along(change: &Change, slope: &[f32], new: &[f64]) -> f64 {
    let dot = |a: &[f32], b: &[f64]| a.iter().zip(b).map(|(&a, b)| f64::from(a) * b).sum::<f64>();
    match &change.replacement {
        Replacement::Along { basis, .. } => {
            let slope64: Vec<f64> = slope.iter().map(|&s| f64::from(s)).collect();
            (0..basis.rows).map(|i| dot(basis.row(i), &slope64) * dot(basis.row(i), new)).sum()
        }
        _ => dot(slope, new),
    }
}

/// Nodes and weights on [0, 1]: Newton's method on the Legendre polynomial.
pub(super) fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
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
