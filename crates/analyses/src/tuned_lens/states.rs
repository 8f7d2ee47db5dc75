//! One sweep of all models over all prompts, keeping what the lens is trained on and read at: `resid_post` of every layer at
//! the decision points of all models, and at the sampled positions of the base.

use super::plan::Plan;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::subject::PROMPT_BLOCK;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mat, Site};
use std::ops::Range;

/// Residual states by layer.
#[derive(Debug)]
pub(super) struct States {
    /// Decision points: `[models × prompts, d_model]`, model by model.
    pub decisions: Vec<Mat<f32>>,
    /// Sampled positions of the base in the order of the plan, `[places, d_model]`.
    pub samples: Vec<Mat<f32>>,
}

impl States {
    /// Sweeps block by block; each block is kept as a part of the run.
    pub fn gather(context: &Context, inputs: &[Vec<u32>], plan: &Plan) -> Result<Self> {
        let model = &context.subject.model;
        let (n_layers, d) = (model.spec().n_layers, model.spec().d_model);
        let zeros = |rows: usize| (0..n_layers).map(|_| Mat::zeros(rows, d)).collect::<Vec<_>>();
        let mut states =
            Self { decisions: zeros(model.n_models() * inputs.len()), samples: zeros(plan.places.len()) };
        let blocks: Vec<Range<usize>> =
            (0..inputs.len()).step_by(PROMPT_BLOCK).map(|b| b..inputs.len().min(b + PROMPT_BLOCK)).collect();
        context.progress.begin("collecting states", (n_layers * blocks.len()) as u64);
        for (b, block) in blocks.into_iter().enumerate() {
            let name = format!("{}-states-{b:05}", super::NAME);
            let decisions: Vec<usize> = (0..model.n_models())
                .flat_map(|m| block.clone().map(move |p| m * inputs.len() + p))
                .collect();
            let samples: Vec<usize> =
                (0..plan.places.len()).filter(|&i| block.contains(&plan.places[i].prompt)).collect();
            let n_bytes = 4 * n_layers * d * (decisions.len() + samples.len());
            let bytes = match context.run.part(&name)? {
                Some(bytes) if bytes.len() == n_bytes => bytes,
                _ if context.progress.should_stop() => return Err(Error::Stopped),
                _ => {
                    let at = |done: usize, _| context.progress.at((b * n_layers + done) as u64);
                    let bytes = sweep(context, inputs, plan, block, &samples, &at)?;
                    context.run.save_part(&name, &bytes)?;
                    bytes
                }
            };
            let mut values = bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v));
            for (of_decisions, of_samples) in states.decisions.iter_mut().zip(&mut states.samples) {
                let rows = decisions.iter().map(|&i| (true, i)).chain(samples.iter().map(|&i| (false, i)));
                for (is_decision, i) in rows {
                    let row = if is_decision { of_decisions.row_mut(i) } else { of_samples.row_mut(i) };
                    row.iter_mut().zip(&mut values).for_each(|(r, v)| *r = v);
                }
            }
        }
        context.progress.end();
        Ok(states)
    }
}

/// Layer by layer, the states at the decision points of a block's prompts, then those at its samples.
fn sweep(
    context: &Context,
    inputs: &[Vec<u32>],
    plan: &Plan,
    block: Range<usize>,
    samples: &[usize],
    progress: lorascope_engine::Progress,
) -> Result<Vec<u8>> {
    let model = &context.subject.model;
    let sequences: Vec<(usize, &[u32])> = (0..model.n_models())
        .flat_map(|m| inputs[block.clone()].iter().map(move |i| (m, i.as_slice())))
        .collect();
    let batch = Batch::new(model.spec(), &sequences)?;
    let row = |sequence: usize, position: usize| {
        batch
            .row_of(sequence, position)
            .unwrap_or_else(|| unreachable!("every token of a sequence has a row"))
    };
    // The base comes first, so that its sequences have the numbers of their prompts within the block.
    let sampled = samples.iter().map(|&i| row(plan.places[i].prompt - block.start, plan.places[i].position));
    let rows: Vec<usize> = sequences
        .iter()
        .enumerate()
        .map(|(s, (_, tokens))| row(s, tokens.len() - 1))
        .chain(sampled)
        .collect();
    let capture = |layer| Capture { point: HookPoint::Layer(layer, Site::ResidPost), rows: rows.clone() };
    let hooks = Hooks { captures: (0..model.spec().n_layers).map(capture).collect(), edits: Vec::new() };
    let run = model.run_with_progress(&batch, &hooks, &[], progress)?;
    Ok(run.captures.into_iter().flatten().flatten().flat_map(f32::to_le_bytes).collect())
}
