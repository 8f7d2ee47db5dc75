//! From settings to patched runs.

use super::positions::{Where, partners, positions};
use super::settings::{From, Settings};
use crate::error::Result;
use crate::interventions::{Change, DirectionBook, PatchedRun, Replacement, Source, Sweep, Unit};
use crate::subject::Subject;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A patched run and what the table says of it.
pub(crate) struct Job {
    pub source: From,
    pub target: usize,
    pub prompt: usize,
    /// The prompt whose activations are taken; `None` for numbers.
    pub source_prompt: Option<usize>,
    pub units: Vec<Unit>,
    pub place: Where,
}

/// Everything that one prompt, as a target, is asked.
pub(crate) fn jobs(
    settings: &Settings,
    subject: &Subject,
    sweep: &Sweep,
    prompt: usize,
    seed: u64,
) -> Result<Vec<Job>> {
    let partners = &partners(settings, subject, sweep)?[prompt];
    let places = positions(&settings.position, &subject.prompts[prompt], sweep.decision_position(prompt))?;
    let mut jobs = Vec::new();
    for pair in settings.pairs(subject)? {
        let sets = settings.sets(subject, pair)?;
        let source_prompts: Vec<Option<usize>> = match pair.0 {
            From::Model(_) => partners.iter().map(|&p| Some(p)).collect(),
            From::Resample => vec![Some(another(subject.prompts.len(), prompt, seed))],
            From::Zero | From::Mean => vec![None],
        };
        for place in &places {
            for &source_prompt in &source_prompts {
                for units in &sets {
                    jobs.push(Job {
                        source: pair.0,
                        target: pair.1,
                        prompt,
                        source_prompt,
                        units: units.clone(),
                        place: place.clone(),
                    });
                }
            }
        }
    }
    Ok(jobs)
}

/// Another one of `n` prompts, at least two; the same for the same seed.
fn another(n: usize, prompt: usize, seed: u64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(prompt as u64);
    let other = rng.random_range(0..n - 1);
    if other >= prompt { other + 1 } else { other }
}

/// Means over all prompts of the target's values at decision points, by model and point.
pub(crate) type Means = BTreeMap<(usize, HookPoint), Arc<Vec<f32>>>;

/// Runs every model that is to be ablated by means once over all prompts.
pub(crate) fn means(settings: &Settings, subject: &Subject, sweep: &Sweep) -> Result<Means> {
    let mut wanted: BTreeMap<usize, BTreeSet<HookPoint>> = BTreeMap::new();
    for pair in settings.pairs(subject)?.into_iter().filter(|p| p.0 == From::Mean) {
        let points = settings.sets(subject, pair)?.into_iter().flatten().map(|u| u.point());
        wanted.entry(pair.1).or_default().extend(points);
    }
    let mut means = Means::new();
    for (model, points) in wanted {
        let mut sums: BTreeMap<HookPoint, Vec<f64>> = BTreeMap::new();
        for block in subject.blocks() {
            let inputs: Vec<Vec<u32>> = block.iter().map(|&p| sweep.decision_tokens(p)).collect();
            let sequences: Vec<(usize, &[u32])> = inputs.iter().map(|i| (model, i.as_slice())).collect();
            let batch = Batch::new(subject.model.spec(), &sequences)?;
            let last = |s: usize| batch.row_of(s, inputs[s].len() - 1).unwrap_or_default();
            let rows: Vec<usize> = (0..inputs.len()).map(last).collect();
            let captures = points.iter().map(|&point| Capture { point, rows: rows.clone() }).collect();
            let run = subject.model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[])?;
            for (&point, values) in points.iter().zip(run.captures) {
                for row in values {
                    let sum = sums.entry(point).or_insert_with(|| vec![0.0; row.len()]);
                    sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(v));
                }
            }
        }
        let n = subject.prompts.len() as f64;
        means.extend(sums.into_iter().map(|(point, sum)| {
            ((model, point), Arc::new(sum.into_iter().map(|s| (s / n) as f32).collect()))
        }));
    }
    Ok(means)
}

impl Job {
    /// The run that this job asks for.
    ///
    /// # Errors
    /// A component of an update that neither model has.
    pub fn run(
        &self,
        subject: &Subject,
        sweep: &Sweep,
        means: &Means,
        directions: &mut DirectionBook,
    ) -> Result<PatchedRun> {
        let spec = subject.model.spec();
        let mut changes = Vec::with_capacity(self.units.len() * self.place.positions.len());
        for &position in &self.place.positions {
            for unit in &self.units {
                let values = unit.values(spec, position);
                let basis = directions.direction(subject, unit, &[self.source_model(), self.target])?;
                let replacement = match self.source {
                    From::Zero => Replacement::Scale(0.0),
                    From::Mean => {
                        let mean = &means[&(self.target, unit.point())];
                        Replacement::Values(Arc::new(mean[values.clone()].to_vec()))
                    }
                    From::Model(_) | From::Resample => {
                        let (model, prompt) =
                            (self.source_model(), self.source_prompt.unwrap_or(self.prompt));
                        // Resampled prompts have lengths of their own: decision point into decision point.
                        let from = match self.source {
                            From::Resample => sweep.decision_position(prompt),
                            _ => position,
                        };
                        let source = Source { model, prompt, position: from };
                        match basis {
                            Some(basis) => Replacement::Along { source, basis },
                            None => Replacement::From(source),
                        }
                    }
                };
                changes.push(Change { point: unit.point(), units: values, position, replacement });
            }
        }
        Ok(PatchedRun { model: self.target, prompt: self.prompt, changes })
    }

    /// The model whose activations are taken.
    pub fn source_model(&self) -> usize {
        match self.source {
            From::Model(m) => m,
            _ => self.target,
        }
    }
}
