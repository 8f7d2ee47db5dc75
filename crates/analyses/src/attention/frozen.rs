//! What of the weights the measurements need, read once for all prompts: how long a value becomes in the residual stream, and
//! what it does to the logits of the tokens of spans.

use super::spans::Spans;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::{HookPoint, Mat, ModelId, Module, Site};
use lorascope_kernels::{MatRef, Packed, Write, matmul};
use std::collections::HashMap;

/// Weights of all layers; see [`LayerWeights`].
pub(super) struct Frozen {
    pub layers: Vec<LayerWeights>,
    /// Row of each token in [`LayerWeights::copies`].
    pub token_rows: HashMap<u32, usize>,
}

/// Of one layer, one entry per model.
pub(super) struct LayerWeights {
    /// `OᵀO` of each head's slice O of the output projection, adapter and weight of the post-attention norm included: v's
    /// squared length in the residual stream is `vᵀ(OᵀO)v`, but for that norm's scale.
    pub grams: Vec<Vec<Packed<f32>>>,
    /// For each token of spans, what its logit reads of z above the mean over these tokens, but for the scales of norms:
    /// `[tokens, heads · d_head]`.
    pub copies: Vec<Mat<f32>>,
}

impl Frozen {
    pub fn new(subject: &Subject, spans: &Spans, at: &dyn Fn(usize)) -> Result<Self> {
        let model = &subject.model;
        let tokens = spans.tokens(&subject.prompts);
        let raised = raised_logits(subject, &tokens)?;
        let mut layers = Vec::new();
        for layer in 0..model.spec().n_layers {
            layers.push(LayerWeights {
                grams: grams(subject, layer)?,
                copies: copies(subject, layer, &raised)?,
            });
            at(layer + 1);
        }
        let token_rows = tokens.into_iter().enumerate().map(|(i, t)| (t, i)).collect();
        Ok(Self { layers, token_rows })
    }
}

/// Directions in the final residual stream, models one after the other: logit of each token minus the mean over all of them.
fn raised_logits(subject: &Subject, tokens: &[u32]) -> Result<(Vec<ModelId>, Mat<f64>)> {
    let (model, d) = (&subject.model, subject.model.spec().d_model);
    let mut models = Vec::new();
    let mut directions = Mat::zeros(model.n_models() * tokens.len(), d);
    for which in 0..model.n_models() {
        let first = models.len();
        let mut mean = vec![0.0; d];
        for &token in tokens {
            let row = directions.row_mut(models.len());
            for ((r, m), w) in row.iter_mut().zip(&mut mean).zip(model.output_row(which, token)?) {
                *r = f64::from(w);
                *m += f64::from(w) / tokens.len() as f64;
            }
            models.push(which);
        }
        for row in first..models.len() {
            directions.row_mut(row).iter_mut().zip(&mean).for_each(|(r, m)| *r -= m);
        }
    }
    let directions = model.pull_back_norm(HookPoint::FinalScale, &models, &directions)?.directions;
    Ok((models, directions))
}

fn copies(
    subject: &Subject,
    layer: usize,
    (models, raised): &(Vec<ModelId>, Mat<f64>),
) -> Result<Vec<Mat<f32>>> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let through;
    let mut directions = raised;
    if spec.post_norms {
        let post = HookPoint::Layer(layer, Site::Ln1PostScale);
        through = model.pull_back_norm(post, models, raised)?.directions;
        directions = &through;
    }
    let pulled = model.pull_back(layer, Module::O, models, directions)?;
    let own = |which: usize| {
        let rows = (0..models.len()).filter(|&r| models[r] == which);
        let sum =
            |r: usize| pulled.base.row(r).iter().zip(pulled.adapter.row(r)).map(|(b, a)| (b + a) as f32);
        let data: Vec<f32> = rows.flat_map(sum).collect();
        let cols = spec.n_heads * spec.d_head;
        Mat { rows: data.len() / cols, cols, data }
    };
    Ok((0..model.n_models()).map(own).collect())
}

fn grams(subject: &Subject, layer: usize) -> Result<Vec<Vec<Packed<f32>>>> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let d_head = spec.d_head;
    let of_model = |which: usize| {
        let mut dense = model.dense_weight(which, layer, Module::O)?;
        if spec.post_norms {
            let ones = Mat { data: vec![1.0; spec.d_model], rows: 1, cols: spec.d_model };
            let post = HookPoint::Layer(layer, Site::Ln1PostScale);
            let weight = model.pull_back_norm(post, &[which], &ones)?.directions;
            dense.for_rows(|o, row| row.iter_mut().for_each(|v| *v *= weight.data[o] as f32));
        }
        let of_head = |head: usize| {
            let (n, first) = (dense.rows, head * d_head);
            let slice: Vec<f32> =
                (0..n).flat_map(|o| dense.row(o)[first..first + d_head].iter().copied()).collect();
            // Both factors are the slice: inputs of one product, outputs of the other.
            let turned: Vec<f32> = (0..d_head * n).map(|i| slice[i % n * d_head + i / n]).collect();
            let mut gram = Mat::zeros(d_head, d_head);
            let packed = Packed::from_input_rows(MatRef::new(&slice, n, d_head));
            matmul(gram.view_mut(), MatRef::new(&turned, d_head, n), &packed, Write::Set);
            Packed::from_output_rows(gram.view())
        };
        Ok((0..spec.n_heads).map(of_head).collect())
    };
    (0..model.n_models()).map(of_model).collect()
}
