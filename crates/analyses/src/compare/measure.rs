//! Similarities and differences of activations, place by place.

use super::alignment::{Kernel, Weights, alignment};
use super::tables::{DECISION, SIMILARITY, TOKENS};
use crate::activations::{Activations, Place, Reading};
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::error::Result;
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use lorascope_engine::{Mat, ThroughNorm};
use lorascope_kernels::{Packed, Write, matmul};
use lorascope_record::Table;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Names of the metrics of similarity, in the order of [`One::similarity`].
pub(super) const METRICS: [&str; 6] =
    ["cosine", "relative_norm", "cosine_prompts", "relative_norm_prompts", "cka", "cka_debiased"];

/// A model and its reference at one place.
#[derive(Debug)]
pub(super) struct One {
    pub model: usize,
    pub reference: usize,
    pub place: Place,
    /// In the order of [`METRICS`].
    pub similarity: [Option<Interval>; 6],
    /// The difference along the decision direction.
    pub decision: Comparison,
    /// Mean cosine of the difference and the decision direction.
    pub along: Option<f64>,
    /// Whether every activation is the same, bit for bit.
    pub equal: bool,
    /// Mean over prompts of the difference, divided by the reference's final scale.
    mean: Vec<f64>,
}

/// All pairs at all places.
#[derive(Debug)]
pub(super) struct Measured {
    pub all: Vec<One>,
    pub n: usize,
    pub n_clusters: usize,
}

/// Measures layer by layer.
pub(super) fn measure(
    context: &Context,
    reading: &Reading,
    activations: &Activations,
    pairs: &[(usize, usize)],
) -> Result<Measured> {
    let subject = context.subject;
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let design = Design::new(&clusters, context.seed);
    let weights = Weights::new(design.resampler().cluster_of(), design.resampler().draws());
    let scales = activations.final_scales(context)?;
    let directions = Directions::new(context, pairs)?;
    let mut all = Vec::new();
    context.progress.begin("comparing activations", reading.layers.len() as u64);
    for (done, &layer) in reading.layers.iter().enumerate() {
        let rows = activations.layer(context, layer)?;
        for ((place, rows), scales) in reading.places(layer).into_iter().zip(&rows).zip(scales.iter().cycle())
        {
            let at = At { design: &design, weights: &weights, scales, directions: &directions };
            all.extend(at.place(&place, rows, subject.model.n_models(), pairs));
        }
        context.progress.at(done as u64 + 1);
    }
    context.progress.end();
    Ok(Measured { all, n: design.n(), n_clusters: design.n_clusters() })
}

/// The decision direction of every prompt, as each reference reads it.
struct Directions {
    /// Row of a reference and prompt.
    rows: BTreeMap<(usize, usize), usize>,
    read: ThroughNorm,
}

impl Directions {
    fn new(context: &Context, pairs: &[(usize, usize)]) -> Result<Self> {
        let subject = context.subject;
        let primary = subject.primary_pairs()?;
        let mut questions: Vec<(usize, u32, u32)> = Vec::new();
        let mut rows = BTreeMap::new();
        for &(_, reference) in pairs {
            for (i, prompt) in subject.prompts.iter().enumerate() {
                let pair = &prompt.answers.pairs[primary[i]];
                let question = (reference, pair.token_a, pair.token_b);
                let row = questions.iter().position(|q| *q == question).unwrap_or(questions.len());
                if row == questions.len() {
                    questions.push(question);
                }
                rows.insert((reference, i), row);
            }
        }
        Ok(Self { rows, read: subject.model.readout_directions(&questions)? })
    }

    fn of(&self, reference: usize, prompt: usize) -> &[f64] {
        self.read.directions.row(self.rows[&(reference, prompt)])
    }
}

/// What all places have in common.
struct At<'a> {
    design: &'a Design,
    weights: &'a Weights,
    /// The final norm's scale at the position, `model · prompts + prompt`.
    scales: &'a [f64],
    directions: &'a Directions,
}

impl At<'_> {
    fn place(&self, place: &Place, rows: &Mat<f32>, n_models: usize, pairs: &[(usize, usize)]) -> Vec<One> {
        let n = self.design.n();
        let of_model = |m: usize| {
            let range = m * n * rows.cols..(m + 1) * n * rows.cols;
            let data: Vec<f64> = rows.data[range].iter().map(|&v| f64::from(v)).collect();
            Mat { data, rows: n, cols: rows.cols }
        };
        let states: Vec<Mat<f64>> = (0..n_models).map(of_model).collect();
        let kernels: Vec<Kernel> = states.par_iter().map(|s| Kernel::new(s, self.weights)).collect();
        let references: BTreeMap<usize, [Option<Interval>; 2]> =
            pairs.iter().map(|&(_, r)| (r, between_prompts(&states[r], self.design))).collect();
        let one = |&(model, reference): &(usize, usize)| {
            let (own, other) = (&states[model], &states[reference]);
            let [cosine, norm] = between_models(own, other, self.design);
            let [cosine_prompts, norm_prompts] = references[&reference];
            let [cka, debiased] = alignment(&kernels[model], &kernels[reference], self.weights);
            let (decision, along, mean) = self.towards_decision(own, other, reference);
            One {
                model,
                reference,
                place: place.clone(),
                similarity: [cosine, norm, cosine_prompts, norm_prompts, cka, debiased],
                decision,
                along,
                equal: own.data == other.data,
                mean,
            }
        };
        pairs.par_iter().map(one).collect()
    }

    /// The difference along the decision direction, its mean cosine with it, and the mean of the scaled difference.
    fn towards_decision(
        &self,
        own: &Mat<f64>,
        other: &Mat<f64>,
        reference: usize,
    ) -> (Comparison, Option<f64>, Vec<f64>) {
        let n = self.design.n();
        let mut mean = vec![0.0; own.cols];
        let mut components = Vec::with_capacity(n);
        let mut cosines = Vec::with_capacity(n);
        for i in 0..n {
            let scale = self.scales[reference * n + i];
            let difference: Vec<f64> = own.row(i).iter().zip(other.row(i)).map(|(a, b)| a - b).collect();
            let direction = self.directions.of(reference, i);
            let product = dot(&difference, direction);
            components.push(product / scale);
            let size = dot(&difference, &difference) * dot(direction, direction);
            cosines.push(product / size.sqrt());
            mean.iter_mut().zip(&difference).for_each(|(m, d)| *m += d / scale / n as f64);
        }
        let along = cosines.iter().sum::<f64>() / n as f64;
        (self.design.compare(&components), along.is_finite().then_some(along), mean)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The interval of a mean, or `None` where a value is not defined.
fn defined(design: &Design, values: &[f64]) -> Option<Interval> {
    values.iter().all(|v| v.is_finite()).then(|| design.mean(values))
}

/// Mean cosine and mean relative norm of the difference, prompt by prompt.
pub(super) fn between_models(own: &Mat<f64>, other: &Mat<f64>, design: &Design) -> [Option<Interval>; 2] {
    let (mut cosines, mut norms) = (Vec::with_capacity(own.rows), Vec::with_capacity(own.rows));
    for i in 0..own.rows {
        let (a, b) = (own.row(i), other.row(i));
        // The root of one product, so that equal vectors have a cosine of exactly 1.
        cosines.push(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        norms.push((squares / dot(b, b)).sqrt());
    }
    [defined(design, &cosines), defined(design, &norms)]
}

/// The same between different prompts of one model: for each prompt the mean over all others.
fn between_prompts(states: &Mat<f64>, design: &Design) -> [Option<Interval>; 2] {
    let n = states.rows;
    if n < 2 {
        return [None, None];
    }
    let mut inner = Mat::zeros(n, n);
    matmul(inner.view_mut(), states.view(), &Packed::from_output_rows(states.view()), Write::Set);
    let (mut cosines, mut norms) = (vec![0.0; n], vec![0.0; n]);
    let share = 1.0 / (n as f64 - 1.0);
    for i in 0..n {
        let own = inner.row(i)[i];
        for j in (0..n).filter(|j| *j != i) {
            let (product, other) = (inner.row(i)[j], inner.row(j)[j]);
            cosines[i] += share * product / (own * other).sqrt();
            norms[i] += share * ((own + other - 2.0 * product).max(0.0) / own).sqrt();
        }
    }
    [defined(design, &cosines), defined(design, &norms)]
}

impl Measured {
    /// The table of similarities.
    pub fn similarity(&self, context: &Context) -> Result<Table> {
        let mut table = Table::new(&SIMILARITY);
        for one in &self.all {
            for (metric, value) in METRICS.iter().zip(one.similarity) {
                let mut cells = identity(context, one);
                cells.extend([
                    (*metric).into(),
                    self.n.into(),
                    self.n_clusters.into(),
                    value.map(|v| v.mean).into(),
                    value.map(|v| v.lo).into(),
                    value.map(|v| v.hi).into(),
                ]);
                table.push(&cells)?;
            }
        }
        table.sort_by_keys();
        Ok(table)
    }

    /// Adjusted p-values of all differences along the decision, in order.
    pub fn adjusted(&self) -> Vec<f64> {
        benjamini_hochberg(&self.all.iter().map(|one| one.decision.p).collect::<Vec<f64>>())
    }

    /// The table of differences along the decision.
    pub fn decision(&self, context: &Context) -> Result<Table> {
        let mut table = Table::new(&DECISION);
        for (one, q) in self.all.iter().zip(self.adjusted()) {
            let mut cells = identity(context, one);
            cells.extend([
                self.n.into(),
                self.n_clusters.into(),
                self.all.len().into(),
                one.decision.mean.mean.into(),
                one.decision.mean.lo.into(),
                one.decision.mean.hi.into(),
                one.decision.p.into(),
                q.into(),
                one.decision.effect.into(),
                one.along.into(),
            ]);
            table.push(&cells)?;
        }
        table.sort_by_keys();
        Ok(table)
    }
}

/// The cells that say which pair and place a row is about.
fn identity(context: &Context, one: &One) -> Vec<lorascope_record::Cell> {
    let model = &context.subject.model;
    vec![
        model.name(one.model).into(),
        model.name(one.reference).into(),
        one.place.site.short_name().into(),
        one.place.layer.into(),
        one.place.position.as_str().into(),
    ]
}

/// The tokens that mean differences promote and suppress, `top` on each side; none for differences that are zero.
pub(super) fn tokens(context: &Context, measured: &Measured, top: usize) -> Result<Table> {
    /// Rows whose logits are held at a time.
    const ROWS: usize = 16;
    let subject = context.subject;
    let mut table = Table::new(&TOKENS);
    let mut order: Vec<&One> = measured.all.iter().filter(|one| !one.equal).collect();
    order.sort_by_key(|one| one.reference);
    context.progress.begin("reading differences", order.len() as u64);
    let mut done = 0;
    for group in order.chunk_by(|a, b| a.reference == b.reference).flat_map(|g| g.chunks(ROWS)) {
        let reference = group[0].reference;
        let d = subject.model.spec().d_model;
        let data = group.iter().flat_map(|one| one.mean.iter().map(|&v| v as f32)).collect();
        let logits = subject.model.logit_changes(reference, &Mat { data, rows: group.len(), cols: d })?;
        for (i, one) in group.iter().enumerate() {
            push_tokens(context, &mut table, one, logits.row(i), top)?;
        }
        done += group.len();
        context.progress.at(done as u64);
    }
    context.progress.end();
    table.sort_by_keys();
    Ok(table)
}

fn push_tokens(context: &Context, table: &mut Table, one: &One, logits: &[f32], top: usize) -> Result<()> {
    // What is added to all logits alike changes nothing.
    let mean = logits.iter().map(|&l| f64::from(l)).sum::<f64>() / logits.len() as f64;
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let top = top.min(order.len());
    let promoted = order[..top].iter().copied().enumerate().map(|(r, t)| ("promoted", r, t));
    let suppressed = order.iter().rev().take(top).copied().enumerate().map(|(r, t)| ("suppressed", r, t));
    for (direction, rank, token) in promoted.chain(suppressed) {
        let id = u32::try_from(token).unwrap_or_default();
        let mut cells = identity(context, one);
        cells.extend([
            direction.into(),
            rank.into(),
            token.into(),
            context.subject.tokenizer.token_text(id).into(),
            (f64::from(logits[token]) - mean).into(),
        ]);
        table.push(&cells)?;
    }
    Ok(())
}
