//! What estimates read of other runs, kept for the exact patches that follow.
//!
//! The values that a patched run puts in are those of an unpatched run of another model or prompt. An estimate has gone through that run
//! already; who patches afterwards what the estimates rank high need not go through it again.

use super::ground::{Ground, Place, Values};
use super::sweep::{PatchedRun, Replacement, Source, Sweep};
use lorascope_engine::HookPoint;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Of the memory for rows, the share that kept values may take.
const SHARE: usize = 4;

/// Values of places of unpatched runs, as far as there is room.
#[derive(Default)]
pub(super) struct Given {
    values: HashMap<Place, Arc<Vec<f32>>>,
    bytes: usize,
}

fn place(point: HookPoint, source: Source) -> Place {
    (point, (source.model, source.prompt), source.position)
}

impl Sweep<'_> {
    /// For who patches what was estimated: what the estimates read of other runs is kept, as far as a part of the memory goes.
    pub fn keeping_given(mut self) -> Self {
        self.given = Some(Default::default());
        self
    }

    /// Keeps what these runs put in of other runs.
    pub(super) fn keep_given(&self, ground: &Ground, runs: &[PatchedRun], values: &Values) {
        let Some(given) = &self.given else { return };
        let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
        // Places of prompts that begin alike are one row, and have one copy.
        let mut of_row: HashMap<(HookPoint, usize), Arc<Vec<f32>>> = HashMap::new();
        for change in runs.iter().flat_map(|run| &run.changes) {
            let Replacement::From(source) = change.replacement else { continue };
            let row = (change.point, ground.row((source.model, source.prompt), source.position));
            let Some(value) = values.get(&row) else { continue };
            if given.values.contains_key(&place(change.point, source)) {
                continue;
            }
            let bytes = if of_row.contains_key(&row) { 0 } else { size_of_val(value.as_slice()) };
            if given.bytes + bytes > self.budget / SHARE {
                return;
            }
            given.bytes += bytes;
            let kept = of_row.entry(row).or_insert_with(|| Arc::new(value.clone()));
            given.values.insert(place(change.point, source), kept.clone());
        }
    }

    /// The same run with kept values in the place of the runs that they are of, where all of them were kept. Its outcome has the same
    /// bits; only delta of those runs is not measured with it.
    pub fn known(&self, mut run: PatchedRun) -> PatchedRun {
        let Some(given) = &self.given else { return run };
        let given = given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Vec::with_capacity(run.changes.len());
        for change in &run.changes {
            let Replacement::From(source) = change.replacement else { return run };
            let Some(values) = given.values.get(&place(change.point, source)) else { return run };
            known.push(Replacement::Values(Arc::new(values[change.units.clone()].to_vec())));
        }
        run.changes.iter_mut().zip(known).for_each(|(change, known)| change.replacement = known);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Estimator;
    use super::super::sweep::Change;
    use super::*;
    use crate::context::Silent;
    use crate::testing::{FAMILIES, subject};
    use lorascope_engine::{Rules, Site};

    #[test]
    fn kept_values_give_the_bits_of_the_runs_that_they_are_of() {
        for family in FAMILIES {
            let Some(subject) = subject(family) else { return };
            let d_head = subject.model.spec().d_head;
            let run = |prompt: usize| {
                let change = |position| Change {
                    point: HookPoint::Layer(1, Site::Z),
                    units: d_head..2 * d_head,
                    position,
                    replacement: Replacement::From(Source { model: 0, prompt, position }),
                };
                let n = subject.prompts[prompt].tokens.ids.len();
                PatchedRun { model: 1, prompt, changes: (0..n).map(change).collect() }
            };
            let runs: Vec<PatchedRun> = (0..3).map(run).collect();
            let with = |budget: usize| {
                let sweep = Sweep::new(&subject, budget).expect("a sweep").keeping_given();
                let before: Vec<PatchedRun> = runs.iter().map(|run| sweep.known(run.clone())).collect();
                assert_eq!(how_many_are_known(&before), 0, "nothing was estimated yet");
                sweep.estimate("", &runs, &[Estimator::Local(Rules::EXACT)], &Silent).expect("estimates");
                let known: Vec<PatchedRun> = runs.iter().map(|run| sweep.known(run.clone())).collect();
                let patched = sweep.run("", &known, &Silent).expect("runs").patched;
                (how_many_are_known(&known), patched)
            };
            let plain = Sweep::new(&subject, 1 << 30).expect("a sweep");
            let expected = plain.run("", &runs, &Silent).expect("runs").patched;
            assert_eq!(with(1 << 30), (3, expected.clone()), "{family}");
            assert_eq!(with(1), (0, expected), "{family}: without room nothing is kept");
        }
    }

    fn how_many_are_known(runs: &[PatchedRun]) -> usize {
        let is_known = |run: &&PatchedRun| run.changes.iter().all(|c| c.replacement.source().is_none());
        runs.iter().filter(is_known).count()
    }
}
