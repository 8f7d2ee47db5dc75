//! What leaving out a block would cost, estimated from one gradient for all of them.
//!
//! `Σ sign(d)·delta` over prompts, with the blocks' factors as its arguments, has at the whole adapter the derivative `Σ a·∂/∂a` with respect to
//! a block's factor, summed over tokens and over what its A's give. It is what the block's absence would cost if delta were linear.

use super::blocks::Block;
use crate::answer_tree::log_sum_exp;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::Whole;
use crate::score::{Decision, Scoring};
use crate::subject::Prompt;
use lorascope_engine::{Capture, HookPoint, Hooks, Mat, ModelId, Run, Site, Wanted};

/// Estimated share of what the adapter does that is lost without each block; `None` where it does nothing.
pub(super) fn shares(
    context: &Context,
    model: ModelId,
    blocks: &[Block],
    prompts: &[usize],
    whole: &Whole,
) -> Result<Vec<Option<f64>>> {
    if whole.n_moved() == 0 {
        return Ok(vec![None; blocks.len()]);
    }
    let numbers = context.numbers(&format!("surgery-gradient-{model}"), blocks.len(), || {
        derivatives(context, model, blocks, prompts, &whole.signs())
    })?;
    let size = whole.total();
    Ok(numbers.iter().map(|n| Some(f64::from(*n) / size)).collect())
}

/// The derivative of `Σ sign·delta` with respect to each block's factor.
fn derivatives(
    context: &Context,
    which: ModelId,
    blocks: &[Block],
    prompts: &[usize],
    signs: &[f64],
) -> Result<Vec<f32>> {
    let model = &context.subject.model;
    let what = format!("a gradient for all blocks ({})", model.name(which));
    context.progress.begin(&what, 1);
    let prompts: Vec<&Prompt> = prompts.iter().map(|&p| &context.subject.prompts[p]).collect();
    let scoring = Scoring::new(model, &[which], &prompts)?;
    let tree = &scoring.tree;
    let rows: Vec<usize> = (0..tree.batch().n_rows()).collect();
    let captures: Vec<Capture> = blocks
        .iter()
        .flat_map(|block| block.modules.iter().map(|&(module, _)| (block.layer, module)))
        .map(|(layer, module)| HookPoint::Layer(layer, Site::LoraA(module)))
        .map(|point| Capture { point, rows: rows.clone() })
        .collect();
    let wanted = Wanted { captures: captures.clone(), ..Wanted::default() };
    let hooks = Hooks { captures, edits: Vec::new() };
    let loss = |run: &Run<f32>| -> Result<Mat<f32>> {
        let mut gradient = Mat::zeros(0, 0);
        for states in tree.states(&run.readout) {
            let next = model.next_tokens(&states)?;
            let weights = weights(&scoring.decisions_of(&next), signs);
            let normalizers: Vec<f64> = next.iter().map(|n| n.log_sum_exp).collect();
            gradient = model.log_probs_backward_with(&states, &normalizers, &tree.token_weights(&weights))?;
        }
        Ok(gradient)
    };
    let (run, found) = model.gradients(tree.batch(), &hooks, tree.rows(), &wanted, context.memory, loss)?;
    context.progress.end();
    let product = |(values, slopes): (&Vec<f32>, &Vec<f32>)| -> f64 {
        values.iter().zip(slopes).map(|(&v, &s)| f64::from(v) * f64::from(s)).sum()
    };
    let mut of_module =
        run.captures.iter().zip(&found.captures).map(|(v, s)| v.iter().zip(s).map(product).sum::<f64>());
    let of_block = |block: &Block| of_module.by_ref().take(block.modules.len()).sum::<f64>() as f32;
    Ok(blocks.iter().map(of_block).collect())
}

/// What the log-probability of each spelling weighs in `Σ sign·delta`: delta is a difference of log-sum-exps.
fn weights(decisions: &[Decision], signs: &[f64]) -> Vec<f64> {
    let shares = |variants: &[f64], sign: f64| -> Vec<f64> {
        let all = log_sum_exp(variants);
        variants.iter().map(|v| sign * (v - all).exp()).collect()
    };
    let of =
        |(d, &sign): (&Decision, &f64)| [shares(&d.variants_a, -sign), shares(&d.variants_b, sign)].concat();
    decisions.iter().zip(signs).flat_map(of).collect()
}
