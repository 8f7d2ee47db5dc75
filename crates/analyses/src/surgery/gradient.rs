//! What leaving out a block would change, estimated from one gradient for all of them.

use super::blocks::Block;
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Change, Estimator, PatchedRun, Replacement, Sweep};
use lorascope_engine::{HookPoint, Rules, Site};

/// Estimated change of delta when a block is switched off: `[prompt][block]`.
pub(super) fn estimates(
    context: &Context,
    model: usize,
    blocks: &[Block],
    prompts: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let n = prompts.len() * blocks.len();
    let numbers = context.numbers(&format!("surgery-gradient-{model}"), n, || {
        let sweep = Sweep::new(context.subject, context.memory)?;
        let mut runs = Vec::with_capacity(n);
        for &prompt in prompts {
            for block in blocks {
                runs.push(without(block, model, prompt, sweep.decision_position(prompt)));
            }
        }
        let found = sweep.estimate(
            "estimating blocks by a gradient",
            &runs,
            &[Estimator::Local(Rules::EXACT)],
            context.progress,
        )?;
        Ok(found.changes.into_iter().flatten().map(|change| change as f32).collect())
    })?;
    Ok(numbers.chunks(blocks.len()).map(|of| of.iter().map(|&v| f64::from(v)).collect()).collect())
}

fn without(block: &Block, model: usize, prompt: usize, last: usize) -> PatchedRun {
    let mut changes = Vec::new();
    for position in 0..=last {
        for &(module, rank) in &block.modules {
            let point = HookPoint::Layer(block.layer, Site::LoraA(module));
            changes.push(Change { point, units: 0..rank, position, replacement: Replacement::Scale(0.0) });
        }
    }
    PatchedRun { model, prompt, changes }
}
