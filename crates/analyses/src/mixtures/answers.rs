//! How models decide that are put together from blocks of adapters.

use crate::context::Context;
use crate::error::Result;
use crate::score::Scoring;
use crate::subject::Prompt;
use lorascope_engine::Mixture;

/// One answer of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub delta: f64,
    pub p_b: f64,
}

/// Answers of some mixtures on some prompts: `[mixture][prompt]`. They go through the model together, as many at a time as fit the
/// budget of memory, and share what they have in common; results depend on neither. `at` is told the share that is done.
pub(crate) fn answers(
    context: &Context,
    prompts: &[usize],
    mixtures: &[Mixture],
    at: &(dyn Fn(f64) + Sync),
) -> Result<Vec<Vec<Answer>>> {
    let subject = context.subject;
    let model = &subject.model;
    let prompts: Vec<&Prompt> = prompts.iter().map(|&p| &subject.prompts[p]).collect();
    let scoring = Scoring::new(model, &[0], &prompts)?;
    let tree = &scoring.tree;
    let spec = model.spec();
    // The residual stream and a layer's keys and values.
    let row = size_of::<f32>() * (spec.d_model + 2 * spec.n_kv_heads * spec.d_head);
    let together = (context.memory / (tree.batch().n_rows() * row).max(1)).clamp(1, mixtures.len().max(1));
    let mut found = Vec::with_capacity(mixtures.len());
    for some in mixtures.chunks(together) {
        let (before, share) = (found.len(), some.len());
        let progress = |layer: usize, layers: usize| {
            at((before as f64 + (share * layer) as f64 / layers as f64) / mixtures.len() as f64);
        };
        for readout in model.run_mixtures(tree.batch(), some, tree.rows(), &progress)? {
            let decisions = scoring.decisions(model, &readout)?;
            found.push(decisions.iter().map(|d| Answer { delta: d.delta(), p_b: d.p_b() }).collect());
        }
    }
    Ok(found)
}
