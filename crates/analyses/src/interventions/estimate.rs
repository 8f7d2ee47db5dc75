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
use lorascope_engine::{Batch, Capture, Edit, HookPoint, Hooks, Mat, ModelId, Rules, Run, States, Wanted};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

/// Rows by the place at which something is wanted of them.
pub(super) type Rows = BTreeMap<HookPoint, BTreeSet<usize>>;

/// A place of an unpatched run: the hook point, the run, and the position.
pub(super) type Place = (HookPoint, RunKey, usize);

/// Delta of unpatched runs.
type Deltas = BTreeMap<RunKey, f64>;

/// What a way there and back brings.
pub(super) struct ThereAndBack {
    pub slopes: Values,
    pub values: Values,
    /// Final normalised states of `rows`.
    readout: Mat<f32>,
    rows: Vec<usize>,
}

/// How prompts of a batch stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    /// What they begin with alike are the same rows: enough for values.
    Together,
    /// Each has rows, and so gradients, of its own.
    Apart,
}

/// The runs of some models and prompts, ready to be gone through, and, where each prompt stands apart, back.
pub(super) struct Ground<'a> {
    pub batch: Batch,
    pub kept: Option<&'a KeptPrompts>,
    company: Company,
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
        let needs_patterns = |e: &Estimator| matches!(e, Estimator::ExactPatterns | Estimator::AtpStar);
        let of_patterns = estimators.iter().any(needs_patterns);
        let chunks = match (kept, of_patterns) {
            (Some(_), _) => vec![runs],
            (None, true) => by_prompt.clone(),
            (None, false) => self.together(runs, &by_prompt)?,
        };
        progress.begin(what, (chunks.len() + by_prompt.len()) as u64);
        let mut done = 0;
        let mut step = || {
            progress.at(done);
            done += 1;
            if progress.should_stop() { Err(Error::Stopped) } else { Ok(()) }
        };
        for chunk in chunks {
            step()?;
            let company = if of_patterns { Company::Apart } else { Company::Together };
            let ground = self.ground_of(&chunk.iter().flat_map(needed).collect(), kept, company)?;
            let (values, plain, mut first) = match estimators.first() {
                Some(Estimator::Local(rules)) => {
                    let (values, plain, estimates) = self.at_once(&ground, chunk, *rules)?;
                    (values, plain, Some(estimates))
                }
                _ => {
                    let (values, plain) = self.values(&ground, chunk)?;
                    (values, plain, None)
                }
            };
            found.plain.extend(plain);
            self.keep_given(&ground, chunk, &values);
            let patterns = match of_patterns {
                true => self.patterns(&ground, chunk, &values)?,
                false => None,
            };
            let patterns = patterns.as_ref();
            let mut exactly: Option<Vec<f64>> = None;
            for (estimator, out) in estimators.iter().zip(&mut found.changes) {
                match estimator {
                    Estimator::Local(rules) => out.extend(match first.take() {
                        Some(estimates) => estimates,
                        None => self.local(&ground, chunk, &values, *rules, None)?,
                    }),
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

    /// The batch of all runs that these need, and that they are made from, each apart.
    pub(super) fn ground<'k>(
        &self,
        runs: &[PatchedRun],
        kept: Option<&'k KeptPrompts>,
    ) -> Result<Ground<'k>> {
        self.ground_of(&runs.iter().flat_map(needed).collect(), kept, Company::Apart)
    }

    /// A batch of unpatched runs.
    fn ground_of<'k>(
        &self,
        keys: &BTreeSet<RunKey>,
        kept: Option<&'k KeptPrompts>,
        company: Company,
    ) -> Result<Ground<'k>> {
        let model = &self.subject.model;
        let mut first_sequence = BTreeMap::new();
        let mut sequences: Vec<(RunKey, Vec<u32>)> = Vec::new();
        for &key in keys {
            first_sequence.insert(key, sequences.len());
            sequences.extend(self.questions[key.1].sequences().into_iter().map(|s| (key, s)));
        }
        let group = |prompt: usize| if company == Company::Apart { prompt } else { 0 };
        let batch = match kept {
            None => {
                let whole: Vec<(ModelId, usize, &[u32])> =
                    sequences.iter().map(|((m, prompt), s)| (*m, group(*prompt), s.as_slice())).collect();
                Batch::apart(model.spec(), &whole)?
            }
            Some(kept) => {
                let end = |(key, s): &'_ (RunKey, Vec<u32>)| self.questions[key.1].position().min(s.len());
                let ends: Vec<(usize, usize, &[u32])> = sequences
                    .iter()
                    .map(|both| (kept.index[&both.0], group(both.0.1), &both.1[end(both)..]))
                    .collect();
                kept.kept.batch_apart(model, &ends)?
            }
        };
        Ok(Ground { batch, kept, company, first_sequence })
    }

    /// What the runs change and what they put there, at every row that they name, and delta of the unpatched runs.
    pub(super) fn values(&self, ground: &Ground, runs: &[PatchedRun]) -> Result<(Values, Deltas)> {
        self.values_at(ground, &places(runs))
    }

    fn values_at(&self, ground: &Ground, places: &[Place]) -> Result<(Values, Deltas)> {
        let captures = captures(&rows_of(ground, places));
        let asked = self.asked(ground, ground.first_sequence.keys().copied());
        let rows: Vec<usize> =
            asked.iter().flat_map(|a| a.rows(&ground.batch)).collect::<BTreeSet<_>>().into_iter().collect();
        let hooks = Hooks { captures: captures.clone(), edits: Vec::new() };
        let run = self.pass(ground, &hooks, &rows)?;
        let plain = self.plain(ground, &rows, &run.readout)?;
        Ok((by_place(&captures, run.captures), plain))
    }

    /// Delta of every run of a ground, from the final states of these rows.
    fn plain(&self, ground: &Ground, rows: &[usize], readout: &Mat<f32>) -> Result<Deltas> {
        let keys = || ground.first_sequence.keys().copied();
        let asked = self.asked(ground, keys());
        let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &row)| (row, i)).collect();
        let found = deltas(&self.subject.model, &ground.batch, &asked, readout, &place)?;
        Ok(keys().zip(found).collect())
    }

    /// [`Sweep::values`], and the estimates of one way back under `rules`. Runs that are changed go forward once for all of it, and
    /// those that only give what is put in do not go back.
    fn at_once(
        &self,
        ground: &Ground,
        runs: &[PatchedRun],
        rules: Rules,
    ) -> Result<(Values, Deltas, Vec<f64>)> {
        let targets: BTreeSet<RunKey> = runs.iter().map(|r| (r.model, r.prompt)).collect();
        let (mut own_places, given): (Vec<Place>, Vec<Place>) =
            places(runs).into_iter().partition(|place| targets.contains(&place.1));
        let own = self.ground_of(&targets, ground.kept, Company::Apart)?;
        // Of rows that prompts share, one says it for all.
        let mut said = HashSet::new();
        own_places.retain(|&(point, key, position)| said.insert((point, ground.row(key, position))));
        let read = rows_of(&own, &own_places);
        let back = self.slopes(&own, &targets, &self.changed(&own, runs), &read, Vec::new(), rules)?;
        let mut plain = self.plain(&own, &back.rows, &back.readout)?;
        let mut values = moved(&own_places, &own, ground, back.values);
        let givers: BTreeSet<RunKey> =
            ground.first_sequence.keys().copied().filter(|key| !targets.contains(key)).collect();
        if !givers.is_empty() {
            let own = self.ground_of(&givers, ground.kept, ground.company)?;
            let (found, deltas) = self.values_at(&own, &given)?;
            values.extend(moved(&given, &own, ground, found));
            plain.extend(deltas);
        }
        let estimates = runs.iter().map(|run| linear(ground, &own, run, &values, &back.slopes, &|_| true));
        let estimates = estimates.collect();
        Ok((values, plain, estimates))
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

    /// Gradients of delta of some runs at the places `wanted`, under edits, and values at the places `read`.
    pub(super) fn slopes(
        &self,
        ground: &Ground,
        of: &BTreeSet<RunKey>,
        wanted: &Rows,
        read: &Rows,
        edits: Vec<Edit<f32>>,
        rules: Rules,
    ) -> Result<ThereAndBack> {
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
        let (slopes, values) = (captures(wanted), captures(read));
        let asked = Wanted { captures: slopes.clone(), parameters: Vec::new(), rules };
        let hooks = Hooks { captures: values.clone(), edits };
        let (run, found) = match ground.kept {
            None => model.gradients(batch, &hooks, &rows, &asked, self.budget, loss)?,
            Some(kept) => {
                model.gradients_after(&kept.kept, batch, &hooks, &rows, &asked, self.budget, loss)?
            }
        };
        Ok(ThereAndBack {
            slopes: by_place(&slopes, found.captures),
            values: by_place(&values, run.captures),
            readout: run.readout,
            rows,
        })
    }

    /// Places and rows of the target's runs that are changed.
    fn changed(&self, ground: &Ground, runs: &[PatchedRun]) -> Rows {
        let mut wanted = Rows::new();
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
        let targets: BTreeSet<RunKey> = runs.iter().map(|r| (r.model, r.prompt)).collect();
        // Only what is changed has a gradient: runs that only give what is put in go neither forward again nor back. Places of
        // patterns are rows of the whole ground.
        let own = match patterns {
            None => Some(self.ground_of(&targets, ground.kept, Company::Apart)?),
            Some(_) => None,
        };
        let own = own.as_ref().unwrap_or(ground);
        let mut wanted = self.changed(own, runs);
        for (point, row) in patterns.iter().flat_map(|p| p.places()) {
            wanted.entry(point).or_default().insert(row);
        }
        let slopes = self.slopes(own, &targets, &wanted, &Rows::new(), Vec::new(), rules)?.slopes;
        let is_linear = |c: &Change| patterns.is_none() || !is_of_pattern(c);
        let of_run = |run: &PatchedRun| linear(ground, own, run, values, &slopes, &is_linear);
        let mut estimates: Vec<f64> = runs.iter().map(of_run).collect();
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
}

/// The places that runs change, and those that they take from, each once and in order.
pub(super) fn places(runs: &[PatchedRun]) -> Vec<Place> {
    let of_change = |run: &PatchedRun, change: &Change| {
        let point = match &change.replacement {
            Replacement::Shift { point, .. } => *point,
            _ => change.point,
        };
        let source = change.replacement.source().map(|s| (point, (s.model, s.prompt), s.position));
        [Some((point, (run.model, run.prompt), change.position)), source]
    };
    distinct(runs, |run, change| of_change(run, change).into_iter().flatten())
}

/// The places that runs change, each once and in order.
pub(super) fn changed_places(runs: &[PatchedRun]) -> Vec<Place> {
    distinct(runs, |run, c| std::iter::once((c.point, (run.model, run.prompt), c.position)))
}

/// What changes of runs name, each once and in order.
fn distinct<I: Iterator<Item = Place>>(
    runs: &[PatchedRun],
    named: impl Fn(&PatchedRun, &Change) -> I,
) -> Vec<Place> {
    let mut places: Vec<Place> =
        runs.iter().flat_map(|run| run.changes.iter().flat_map(|change| named(run, change))).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn rows_of(ground: &Ground, places: &[Place]) -> Rows {
    let mut rows = Rows::new();
    for &(point, key, position) in places {
        rows.entry(point).or_default().insert(ground.row(key, position));
    }
    rows
}

/// Values of one ground's rows as those of another's. Places that are one row in the first are one in the second.
fn moved(places: &[Place], from: &Ground, to: &Ground, mut values: Values) -> Values {
    let of_place = |&(point, key, position): &Place| {
        let value = values.remove(&(point, from.row(key, position)))?;
        Some(((point, to.row(key, position)), value))
    };
    places.iter().filter_map(of_place).collect()
}

/// `Σ slope · (new − old)` over those changes of a run that count; slopes are of rows of `own`, values of rows of `ground`.
fn linear(
    ground: &Ground,
    own: &Ground,
    run: &PatchedRun,
    values: &Values,
    slopes: &Values,
    counts: &dyn Fn(&Change) -> bool,
) -> f64 {
    let change = |c: &Change| {
        let row = own.row((run.model, run.prompt), c.position);
        let new = difference(ground, run, c, values);
        along(c, &slopes[&(c.point, row)][c.units.clone()], &new)
    };
    run.changes.iter().filter(|c| counts(c)).map(change).sum()
}

pub(super) fn captures(wanted: &Rows) -> Vec<Capture> {
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
pub(super) fn along(change: &Change, slope: &[f32], new: &[f64]) -> f64 {
    let dot = |a: &[f32], b: &[f64]| a.iter().zip(b).map(|(&a, b)| f64::from(a) * b).sum::<f64>();
    match &change.replacement {
        Replacement::Along { basis, .. } => {
            let slope64: Vec<f64> = slope.iter().map(|&s| f64::from(s)).collect();
            (0..basis.rows).map(|i| dot(basis.row(i), &slope64) * dot(basis.row(i), new)).sum()
        }
        _ => dot(slope, new),
    }
}
