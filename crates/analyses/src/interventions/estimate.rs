//! First-order estimates of patched runs: what each would change, from the gradient of delta at what it changes.
//!
//! Attribution patching (Nanda 2023; Syed, Rager & Conmy 2023): `change ≈ Σ gradient · (new − old)` over the changed values. One pass
//! forward and one back serve all patched runs of a model and prompt, whatever their number, and what is estimated
//! is exactly what [`Sweep::run`] measures: the same runs go into both.

use super::ground::{Company, Deltas, Ground, Place, Rows, Values, moved, places, rows_of};
use super::patterns::{Patterns, is_of_pattern};
use super::plan::needed;
use super::sweep::{Change, PatchedRun, Replacement, RunKey, Sweep};
use crate::context::Progress;
use crate::error::{Error, Result};
use lorascope_engine::{HookPoint, Rules};
use std::collections::{BTreeMap, BTreeSet, HashSet};
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
