//! Which prompts go there and back together.

use super::ground::{Place, changed_places, places};
use super::sweep::{PatchedRun, RunKey, Sweep};
use crate::error::Result;
use lorascope_engine::{Batch, ModelId, ModelSpec, Width};
use std::collections::BTreeSet;

impl Sweep<'_> {
    /// Prompts that go there and back together, since what they begin with alike is computed once: as many as have room, and at least
    /// one.
    pub(super) fn together<'r>(
        &self,
        runs: &'r [PatchedRun],
        by_prompt: &[&[PatchedRun]],
    ) -> Result<Vec<&'r [PatchedRun]>> {
        let mut chunks = Vec::new();
        let (mut start, mut end) = (0, 0);
        let mut room = Room::default();
        for prompt in by_prompt {
            let mut more = room.clone();
            more.add(self, prompt)?;
            if end > start && more.bytes(self)? > self.budget {
                chunks.push(&runs[start..end]);
                start = end;
                more = Room::default();
                more.add(self, prompt)?;
            }
            room = more;
            end += prompt.len();
        }
        if end > start {
            chunks.push(&runs[start..end]);
        }
        Ok(chunks)
    }
}

/// What prompts that go there and back together take.
#[derive(Clone, Default)]
struct Room {
    /// Of the runs that are gone back through.
    sequences: Vec<(ModelId, Vec<u32>)>,
    /// Bytes of the values that changes are estimated from, if no prompts began alike.
    values: usize,
    /// Bytes of the gradients there.
    slopes: usize,
}

impl Room {
    fn add(&mut self, sweep: &Sweep, runs: &[PatchedRun]) -> Result<()> {
        let spec = sweep.subject.model.spec();
        let changed = changed_places(runs);
        let targets: BTreeSet<RunKey> = changed.iter().map(|place| place.1).collect();
        for (model, prompt) in targets {
            self.sequences.extend(sweep.questions[prompt].sequences().into_iter().map(|s| (model, s)));
        }
        self.slopes += bytes_at(spec, &changed)?;
        self.values += bytes_at(spec, &places(runs))?;
        Ok(())
    }

    fn bytes(&self, sweep: &Sweep) -> Result<usize> {
        let model = &sweep.subject.model;
        let all: Vec<(ModelId, &[u32])> = self.sequences.iter().map(|(m, s)| (*m, s.as_slice())).collect();
        let (distinct, rows) =
            (Batch::new(model.spec(), &all)?.n_rows(), all.iter().map(|s| s.1.len()).sum::<usize>());
        let values = self.values as f64 * distinct as f64 / rows.max(1) as f64;
        Ok(model.tape_bytes(distinct) + self.slopes + values as usize)
    }
}

/// Bytes of the values at places.
fn bytes_at(spec: &ModelSpec, places: &[Place]) -> Result<usize> {
    let mut bytes = 0;
    for (point, _, position) in places {
        let width = match point.width(spec)? {
            Width::Fixed(n) => n,
            Width::PerKey(n) => n * (position + 1),
            Width::Rank => 0,
        };
        bytes += width * size_of::<f32>();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Estimator;
    use super::super::sweep::{Change, Replacement, Source};
    use super::*;
    use crate::context::Silent;
    use crate::testing::subject;
    use lorascope_engine::{HookPoint, Rules, Site};

    #[test]
    fn room_decides_about_no_bit_of_an_estimate() {
        let Some(subject) = subject("gemma2") else { return };
        let d_head = subject.model.spec().d_head;
        let run = |prompt: usize| {
            let change = |position| Change {
                point: HookPoint::Layer(0, Site::Z),
                units: 0..d_head,
                position,
                replacement: Replacement::From(Source { model: 0, prompt, position }),
            };
            let n = subject.prompts[prompt].tokens.ids.len();
            PatchedRun { model: 1, prompt, changes: (0..n).map(change).collect() }
        };
        let runs: Vec<PatchedRun> = (0..3).map(run).collect();
        let with = |budget: usize, runs: &[PatchedRun]| {
            let sweep = Sweep::new(&subject, budget).expect("a sweep");
            let by_prompt: Vec<&[PatchedRun]> = runs.chunk_by(|a, b| a.prompt == b.prompt).collect();
            let n_chunks = sweep.together(runs, &by_prompt).expect("chunks").len();
            let asked = [Estimator::Local(Rules::EXACT)];
            (n_chunks, sweep.estimate("", runs, &asked, &Silent).expect("estimates").changes)
        };
        let (one, together) = with(1 << 30, &runs);
        let (three, apart) = with(1, &runs);
        assert_eq!((one, three), (1, 3));
        assert_eq!(together, apart);
        assert_eq!(with(1 << 30, &[]), (0, vec![Vec::new()]), "nothing to estimate is no error");
    }

    /// Two prompts that begin alike give to a third: what is read of them once is there for both, also where rows stand apart.
    #[test]
    fn givers_may_begin_alike() {
        let Some(subject) = subject("llama") else { return };
        assert_eq!(subject.prompts[1].tokens.ids[0], subject.prompts[2].tokens.ids[0]);
        let d_head = subject.model.spec().d_head;
        let run = |giver: usize| {
            let change = |position| Change {
                point: HookPoint::Layer(1, Site::Q),
                units: 0..d_head,
                position,
                replacement: Replacement::From(Source { model: 0, prompt: giver, position }),
            };
            PatchedRun { model: 1, prompt: 0, changes: (0..3).map(change).collect() }
        };
        let asked = [Estimator::Local(Rules::EXACT), Estimator::ExactPatterns];
        let sweep = Sweep::new(&subject, 1 << 30).expect("a sweep");
        let estimate =
            |runs: &[PatchedRun]| sweep.estimate("", runs, &asked, &Silent).expect("estimates").changes;
        let (both, first, second) = (estimate(&[run(1), run(2)]), estimate(&[run(1)]), estimate(&[run(2)]));
        for e in 0..asked.len() {
            assert_eq!(both[e], [first[e][0], second[e][0]]);
        }
    }
}
