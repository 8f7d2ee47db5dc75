//! Unpatched runs of models and prompts, gone through once for all that is wanted of them: values, delta, and gradients of delta.

use super::measure::{Asked, deltas};
use super::plan::needed;
use super::sweep::{Change, KeptPrompts, PatchedRun, Replacement, RunKey, Sweep};
use crate::error::Result;
use lorascope_engine::{Batch, Capture, Edit, HookPoint, Hooks, Mat, ModelId, Rules, Run, States, Wanted};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Values of places at rows, or gradients there.
pub(super) type Values = HashMap<(HookPoint, usize), Vec<f32>>;

/// Rows by the place at which something is wanted of them.
pub(super) type Rows = BTreeMap<HookPoint, BTreeSet<usize>>;

/// A place of an unpatched run: the hook point, the run, and the position.
pub(super) type Place = (HookPoint, RunKey, usize);

/// Delta of unpatched runs.
pub(super) type Deltas = BTreeMap<RunKey, f64>;

/// What a way there and back brings.
pub(super) struct ThereAndBack {
    pub slopes: Values,
    pub values: Values,
    /// Final normalised states of `rows`.
    pub readout: Mat<f32>,
    pub rows: Vec<usize>,
}

/// How prompts of a batch stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// What they begin with alike are the same rows: enough for values.
    Together,
    /// Each has rows, and so gradients, of its own.
    Apart,
}

/// The runs of some models and prompts, ready to be gone through, and, where each prompt stands apart, back.
pub(super) struct Ground<'a> {
    pub batch: Batch,
    pub kept: Option<&'a KeptPrompts>,
    pub company: Company,
    pub first_sequence: BTreeMap<RunKey, usize>,
}

impl Ground<'_> {
    pub fn row(&self, key: RunKey, position: usize) -> usize {
        let row = self.batch.row_of(self.first_sequence[&key], position);
        row.unwrap_or_else(|| unreachable!("every position of a change is in its sequence"))
    }
}

impl Sweep<'_> {
    /// The batch of all runs that these need, and that they are made from, each apart.
    pub(super) fn ground<'k>(
        &self,
        runs: &[PatchedRun],
        kept: Option<&'k KeptPrompts>,
    ) -> Result<Ground<'k>> {
        self.ground_of(&runs.iter().flat_map(needed).collect(), kept, Company::Apart)
    }

    /// A batch of unpatched runs.
    pub(super) fn ground_of<'k>(
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

    pub(super) fn values_at(&self, ground: &Ground, places: &[Place]) -> Result<(Values, Deltas)> {
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
    pub(super) fn plain(&self, ground: &Ground, rows: &[usize], readout: &Mat<f32>) -> Result<Deltas> {
        let keys = || ground.first_sequence.keys().copied();
        let asked = self.asked(ground, keys());
        let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &row)| (row, i)).collect();
        let found = deltas(&self.subject.model, &ground.batch, &asked, readout, &place)?;
        Ok(keys().zip(found).collect())
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

pub(super) fn rows_of(ground: &Ground, places: &[Place]) -> Rows {
    let mut rows = Rows::new();
    for &(point, key, position) in places {
        rows.entry(point).or_default().insert(ground.row(key, position));
    }
    rows
}

/// Values of one ground's rows as those of another's. Places that are one row in the first are one in the second.
pub(super) fn moved(places: &[Place], from: &Ground, to: &Ground, mut values: Values) -> Values {
    let of_place = |&(point, key, position): &Place| {
        let value = values.remove(&(point, from.row(key, position)))?;
        Some(((point, to.row(key, position)), value))
    };
    places.iter().filter_map(of_place).collect()
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
