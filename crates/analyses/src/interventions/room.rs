//! Which prompts go there and back together.

use super::estimate::{Place, changed_places, places};
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
        chunks.push(&runs[start..end]);
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
