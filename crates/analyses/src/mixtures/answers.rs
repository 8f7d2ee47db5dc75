//! How models decide that are put together from blocks of adapters.

use crate::context::Context;
use crate::error::Result;
use crate::score::Scoring;
use crate::subject::Prompt;
use lorascope_engine::{Mixture, MixtureRuns};

/// One answer of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub delta: f64,
    pub p_b: f64,
}

/// Prompts that mixtures are asked, again and again.
pub(crate) struct Asked<'a> {
    scoring: Scoring,
    runs: MixtureRuns<'a, f32>,
    /// Mixtures that fit the budget of memory.
    together: usize,
}

impl<'a> Asked<'a> {
    /// Of the budget of memory, `kept` parts of eight are for what mixtures leave for later ones.
    pub fn new(context: &Context<'a>, prompts: &[usize], kept: usize) -> Result<Self> {
        let subject = context.subject;
        let model = &subject.model;
        let prompts: Vec<&Prompt> = prompts.iter().map(|&p| &subject.prompts[p]).collect();
        let scoring = Scoring::new(model, &[0], &prompts)?;
        let (spec, batch) = (model.spec(), scoring.tree.batch());
        let memory = context.memory / 8;
        let runs = MixtureRuns::new(model, batch, kept * memory)?;
        // The residual stream and a layer's keys and values.
        let row = size_of::<f32>() * (spec.d_model + 2 * spec.n_kv_heads * spec.d_head);
        let together = ((8 - kept) * memory / (batch.n_rows() * row).max(1)).max(1);
        Ok(Self { scoring, runs, together })
    }

    /// Answers of some mixtures: `[mixture][prompt]`. They go through the model together, as many at a time as fit the budget of memory,
    /// and share what they have in common with each other and with earlier ones; results depend on none of that. `at` is told the share
    /// that is done.
    pub fn answers(
        &mut self,
        context: &Context,
        mixtures: &[Mixture],
        at: &(dyn Fn(f64) + Sync),
    ) -> Result<Vec<Vec<Answer>>> {
        let model = &context.subject.model;
        let mut found = Vec::with_capacity(mixtures.len());
        for some in mixtures.chunks(self.together) {
            let (before, share) = (found.len(), some.len());
            let progress = |layer: usize, layers: usize| {
                at((before as f64 + (share * layer) as f64 / layers as f64) / mixtures.len() as f64);
            };
            for readout in self.runs.run(some, self.scoring.tree.rows(), &progress)? {
                let decisions = self.scoring.decisions(model, &readout)?;
                found.push(decisions.iter().map(|d| Answer { delta: d.delta(), p_b: d.p_b() }).collect());
            }
        }
        Ok(found)
    }
}

/// [`Asked::answers`] of those who ask once.
pub(crate) fn answers(
    context: &Context,
    prompts: &[usize],
    mixtures: &[Mixture],
    at: &(dyn Fn(f64) + Sync),
) -> Result<Vec<Vec<Answer>>> {
    Asked::new(context, prompts, 0)?.answers(context, mixtures, at)
}
