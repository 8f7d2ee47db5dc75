//! The states that lenses are trained on and read at: `resid_post` of every layer, at sampled positions of the text on the base,
//! and at the decision points of the study's prompts on all models.
//!
//! States of the text are many: they go to the run folder as parts, one for each block of documents and layer, and come back
//! one layer at a time.

use super::NAME;
use super::plan::Plan;
use crate::context::Context;
use crate::error::Result;
use crate::units::WorkUnit;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mat, ModelId, Site};
use std::ops::Range;

/// Tokens of documents that go through the base together, about.
const BLOCK_TOKENS: usize = 2048;

/// States of the text on the base, in the run folder.
#[derive(Debug)]
pub(super) struct TextStates<'a> {
    plan: &'a Plan,
    blocks: Vec<Range<usize>>,
}

impl<'a> TextStates<'a> {
    /// Sweeps the base over the documents, block by block; blocks that are in the run folder are left alone.
    pub fn gather(context: &Context, plan: &'a Plan) -> Result<Self> {
        let n_layers = context.subject.model.spec().n_layers;
        let states = Self { blocks: blocks(&plan.documents), plan };
        context.progress.begin("reading the text", (n_layers * states.blocks.len()) as u64);
        let layers = |b: usize| (0..n_layers).map(move |layer| part_name(b, layer));
        let units: Vec<WorkUnit> = (0..states.blocks.len()).map(|b| layers(b).collect()).collect();
        context.units(&units, &mut |own, b| {
            let block = &states.blocks[b];
            let documents: Vec<(ModelId, &[u32])> =
                plan.documents[block.clone()].iter().map(|d| (0, d.as_slice())).collect();
            let wanted: Vec<(usize, usize)> = plan
                .places
                .iter()
                .filter(|p| block.contains(&p.document))
                .map(|p| (p.document - block.start, p.position))
                .collect();
            let at = |done: usize, _| own.progress.at((b * n_layers + done) as u64);
            for (name, mat) in layers(b).zip(sweep(own, &documents, &wanted, &at)?) {
                own.run.save_part(&name, &bytes(&mat))?;
            }
            Ok(())
        })?;
        context.progress.end();
        Ok(states)
    }

    /// `resid_post` of a layer at all places of the plan, `[places, d_model]`.
    pub fn layer(&self, context: &Context, layer: usize) -> Result<Mat<f32>> {
        let d = context.subject.model.spec().d_model;
        let mut data = Vec::with_capacity(self.plan.places.len() * d);
        for b in 0..self.blocks.len() {
            let part = context.bytes(&part_name(b, layer))?;
            data.extend(numbers(&part));
        }
        let rows = data.len() / d;
        Ok(Mat { data, rows, cols: d })
    }
}

fn part_name(block: usize, layer: usize) -> String {
    format!("{NAME}-text-{block:05}-{layer:05}")
}

/// Documents in a row with about [`BLOCK_TOKENS`] tokens.
fn blocks(documents: &[Vec<u32>]) -> Vec<Range<usize>> {
    let (mut blocks, mut first, mut tokens) = (Vec::new(), 0, 0);
    for (i, document) in documents.iter().enumerate() {
        tokens += document.len();
        if tokens >= BLOCK_TOKENS || i + 1 == documents.len() {
            blocks.push(first..i + 1);
            (first, tokens) = (i + 1, 0);
        }
    }
    blocks
}

/// `resid_post` of every layer at the decision points of all prompts on all models: for each layer `[models × prompts, d_model]`,
/// model by model. `inputs` are the tokens of the prompts up to there. Each block of prompts is kept as a part of the run.
pub(super) fn at_decisions(context: &Context, inputs: &[Vec<u32>]) -> Result<Vec<Mat<f32>>> {
    let (model, n) = (&context.subject.model, inputs.len());
    let (n_layers, d) = (model.spec().n_layers, model.spec().d_model);
    let mut states: Vec<Mat<f32>> = (0..n_layers).map(|_| Mat::zeros(model.n_models() * n, d)).collect();
    let blocks = context.subject.blocks();
    context.progress.begin("reading the prompts", (n_layers * blocks.len()) as u64);
    let of_models = |block: &[usize]| -> Vec<(ModelId, usize)> {
        (0..model.n_models()).flat_map(|m| block.iter().map(move |&p| (m, p))).collect()
    };
    let name = |(b, block): (usize, &Vec<usize>)| {
        (format!("{NAME}-prompts-{b:05}"), n_layers * model.n_models() * block.len() * d)
    };
    let parts: Vec<(String, usize)> = blocks.iter().enumerate().map(name).collect();
    let found: Vec<Vec<f32>> = context.many_numbers(&parts, |b| {
        let sequences: Vec<(ModelId, &[u32])> =
            of_models(&blocks[b]).into_iter().map(|(m, p)| (m, inputs[p].as_slice())).collect();
        let last: Vec<(usize, usize)> =
            sequences.iter().enumerate().map(|(s, (_, tokens))| (s, tokens.len() - 1)).collect();
        let at = |done: usize, _| context.progress.at((b * n_layers + done) as u64);
        Ok(sweep(context, &sequences, &last, &at)?.into_iter().flat_map(|mat| mat.data).collect())
    })?;
    for (block, values) in blocks.iter().zip(found) {
        let mut rows = values.chunks_exact(d);
        for layer in &mut states {
            for (m, p) in of_models(block) {
                rows.next().into_iter().for_each(|row| layer.row_mut(m * n + p).copy_from_slice(row));
            }
        }
    }
    context.progress.end();
    Ok(states)
}

/// For each layer, the states at the given positions of the given sequences, `[wanted, d_model]`.
fn sweep(
    context: &Context,
    sequences: &[(ModelId, &[u32])],
    wanted: &[(usize, usize)],
    progress: lorascope_engine::Progress,
) -> Result<Vec<Mat<f32>>> {
    let model = &context.subject.model;
    let batch = Batch::new(model.spec(), sequences)?;
    let row = |&(sequence, position): &(usize, usize)| {
        batch
            .row_of(sequence, position)
            .unwrap_or_else(|| unreachable!("every token of a sequence has a row"))
    };
    let rows: Vec<usize> = wanted.iter().map(row).collect();
    let capture = |layer| Capture { point: HookPoint::Layer(layer, Site::ResidPost), rows: rows.clone() };
    let hooks = Hooks { captures: (0..model.spec().n_layers).map(capture).collect(), edits: Vec::new() };
    let run = model.run_with_progress(&batch, &hooks, &[], progress)?;
    let mat =
        |values: Vec<Vec<f32>>| Mat { rows: values.len(), cols: model.spec().d_model, data: values.concat() };
    Ok(run.captures.into_iter().map(mat).collect())
}

fn bytes(mat: &Mat<f32>) -> Vec<u8> {
    mat.data.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v))
}
