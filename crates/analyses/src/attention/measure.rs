//! One pass over some prompts on all models: rows at the decision point, keys and values of all tokens before it, and from them
//! every number of [`Layout`].

use super::changes;
use super::frozen::Frozen;
use super::layout::{Layout, Measure};
use super::spans::Spans;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::{
    Batch, Capture, HookPoint, Hooks, Mat, ModelSpec, Module, Positions, RotaryTable, Run, Site,
};
use lorascope_kernels::{Write, dot, matmul};
use rayon::prelude::*;
use std::collections::HashMap;

/// What serves all prompts.
pub(super) struct Setup<'a> {
    pub subject: &'a Subject,
    pub primary: &'a [usize],
    pub layout: &'a Layout,
    pub spans: &'a Spans,
    pub frozen: Frozen,
    /// Of each rotary embedding; none where positions are learned.
    pub rotary: Vec<RotaryTable<f32>>,
}

impl<'a> Setup<'a> {
    pub fn new(
        subject: &'a Subject,
        primary: &'a [usize],
        layout: &'a Layout,
        spans: &'a Spans,
        at: &dyn Fn(usize),
    ) -> Result<Self> {
        let spec = subject.model.spec();
        let longest = subject.prompts.iter().map(|p| p.tokens.ids.len() + p.answers.longest()).max();
        let rotary = match &spec.positions {
            Positions::Rotary(all) => {
                all.iter().map(|r| RotaryTable::new(r, spec.d_head, longest.unwrap_or(0))).collect()
            }
            Positions::Learned => Vec::new(),
        };
        Ok(Self { subject, primary, layout, spans, frozen: Frozen::new(subject, spans, at)?, rotary })
    }

    /// Bytes that a prompt's captures take on all models, at most.
    pub fn bytes(&self, prompt: usize) -> usize {
        let spec = self.subject.model.spec();
        let kv = spec.n_kv_heads * spec.d_head;
        // Keys and values, and what adapters add to each; with the vector around each row.
        let row = 4 * spec.n_layers * (4 * kv + 12);
        self.layout.n_models * row * self.subject.prompts[prompt].tokens.ids.len()
    }
}

/// Sequences of all models on some prompts, models outermost, with what was captured.
pub(super) struct Chunk<'a> {
    pub setup: &'a Setup<'a>,
    pub prompts: &'a [usize],
    pub batch: Batch,
    /// For each sequence the rows that its decision point sees, itself last.
    pub keys: Vec<Vec<usize>>,
    /// For each sequence its row of the directions.
    pub direction_of: Vec<usize>,
    directions: Mat<f64>,
    direction_models: Vec<usize>,
    captured: HashMap<HookPoint, Captured>,
}

/// What was captured at a point.
struct Captured {
    values: Vec<Vec<f32>>,
    /// Place of each row of the batch among them; `None` where it was not asked for.
    place: Vec<Option<usize>>,
}

impl Chunk<'_> {
    pub fn spec(&self) -> &ModelSpec {
        self.setup.subject.model.spec()
    }

    pub fn sequence(&self, model: usize, i: usize) -> usize {
        model * self.prompts.len() + i
    }

    /// The row that decides.
    pub fn decision_row(&self, s: usize) -> usize {
        self.keys[s].last().copied().unwrap_or_default()
    }

    /// What a row has at a site; `None` where its model has no adapter there.
    pub fn at(&self, layer: usize, site: Site, row: usize) -> Option<&[f32]> {
        self.at_point(HookPoint::Layer(layer, site), row)
    }

    fn at_point(&self, point: HookPoint, row: usize) -> Option<&[f32]> {
        let captured = self.captured.get(&point)?;
        Some(&captured.values[captured.place[row]?])
    }

    /// By what a direction at the output of the heads is to be divided.
    pub fn scale(&self, layer: usize, s: usize) -> f64 {
        let row = self.decision_row(s);
        let of = |point| self.at_point(point, row).map_or(1.0, |v| f64::from(v[0]));
        of(HookPoint::Layer(layer, Site::Ln1PostScale)) * of(HookPoint::FinalScale)
    }

    /// A head's part of each key of a sequence's pattern: `[head][key]`.
    pub fn pattern(&self, layer: usize, s: usize, head: usize) -> &[f32] {
        let n = self.keys[s].len();
        let all = self.at(layer, Site::Pattern, self.decision_row(s)).unwrap_or_default();
        &all[head * n..(head + 1) * n]
    }
}

/// Query and key as scores read them: after rotary where there is one.
pub(super) fn score_sites(spec: &ModelSpec) -> (Site, Site) {
    match spec.positions {
        Positions::Rotary(_) => (Site::RotQ, Site::RotK),
        Positions::Learned => (Site::Q, Site::K),
    }
}

/// All numbers of some prompts, one prompt after the other.
pub(super) fn chunk(setup: &Setup, prompts: &[usize], at: &(dyn Fn(usize) + Sync)) -> Result<Vec<f32>> {
    let chunk = run(setup, prompts, at)?;
    let n_layers = setup.layout.n_layers;
    let mut numbers = vec![f32::NAN; prompts.len() * setup.layout.per_prompt()];
    for layer in 0..n_layers {
        let read = Read::new(&chunk, layer)?;
        let found: Vec<Vec<(usize, Vec<f32>)>> =
            (0..prompts.len()).into_par_iter().map(|i| of_prompt(&chunk, &read, i)).collect();
        for (of_prompt, numbers) in found.iter().zip(numbers.chunks_exact_mut(setup.layout.per_prompt())) {
            for (first, values) in of_prompt {
                numbers[*first..first + values.len()].copy_from_slice(values);
            }
        }
        at(n_layers + layer + 1);
    }
    Ok(numbers)
}

pub(super) fn run<'a>(
    setup: &'a Setup,
    prompts: &'a [usize],
    at: &(dyn Fn(usize) + Sync),
) -> Result<Chunk<'a>> {
    let (subject, model, spec) = (setup.subject, &setup.subject.model, setup.subject.model.spec());
    let pair = |i: usize| &subject.prompts[i].answers.pairs[setup.primary[i]];
    let inputs: Vec<Vec<u32>> = prompts.iter().map(|&i| subject.prompts[i].stem(setup.primary[i])).collect();
    let sequences: Vec<(usize, &[u32])> =
        (0..model.n_models()).flat_map(|m| inputs.iter().map(move |i| (m, i.as_slice()))).collect();
    let batch = Batch::new(spec, &sequences)?;
    let row_of = |s: usize, t: usize| batch.row_of(s, t).unwrap_or_default();
    let keys: Vec<Vec<usize>> =
        (0..sequences.len()).map(|s| (0..sequences[s].1.len()).map(|t| row_of(s, t)).collect()).collect();
    let captures = captures(setup, &batch, &keys);
    let hooks = Hooks { captures, edits: Vec::new() };
    let Run { captures: values, .. } = model.run_with_progress(&batch, &hooks, &[], &|done, _| at(done))?;
    let captured = hooks.captures.into_iter().zip(values).map(|(capture, values)| {
        let mut place = vec![None; batch.n_rows()];
        capture.rows.iter().enumerate().for_each(|(i, &row)| place[row] = Some(i));
        (capture.point, Captured { values, place })
    });
    let mut captured: HashMap<HookPoint, Captured> = captured.collect();
    rotate_keys(setup, &batch, &mut captured);

    let mut questions: Vec<(usize, u32, u32)> = Vec::new();
    let mut direction_of = Vec::with_capacity(sequences.len());
    for (s, &(which, _)) in sequences.iter().enumerate() {
        let pair = pair(prompts[s % prompts.len()]);
        let question = (which, pair.token_a, pair.token_b);
        let place = questions.iter().position(|q| *q == question).unwrap_or(questions.len());
        if place == questions.len() {
            questions.push(question);
        }
        direction_of.push(place);
    }
    let directions = model.readout_directions(&questions)?.directions;
    let direction_models = questions.iter().map(|q| q.0).collect();
    Ok(Chunk { setup, prompts, batch, keys, direction_of, directions, direction_models, captured })
}

/// Rows at the decision point, and all rows for keys and values. What adapters add is asked of the rows whose model has one.
fn captures(setup: &Setup, batch: &Batch, keys: &[Vec<usize>]) -> Vec<Capture> {
    let (model, spec) = (&setup.subject.model, setup.subject.model.spec());
    let mut decisions: Vec<usize> = keys.iter().filter_map(|k| k.last().copied()).collect();
    decisions.sort_unstable();
    // Two prompts of the same tokens share their rows.
    decisions.dedup();
    let all: Vec<usize> = (0..batch.n_rows()).collect();
    let adapted = |rows: &[usize], layer: usize, module: Module| -> Vec<usize> {
        let has = |row: usize| {
            let adapter = batch.row(row).model.checked_sub(1).and_then(|i| model.adapters().get(i));
            adapter.is_some_and(|a| a.rank(layer, module).is_some())
        };
        rows.iter().copied().filter(|&row| has(row)).collect()
    };
    let (query, key) = score_sites(spec);
    let mut captures = vec![Capture { point: HookPoint::FinalScale, rows: decisions.clone() }];
    for layer in 0..spec.n_layers {
        let mut ask = |site: Site, rows: Vec<usize>| {
            if !rows.is_empty() {
                captures.push(Capture { point: HookPoint::Layer(layer, site), rows });
            }
        };
        ask(Site::Pattern, decisions.clone());
        ask(query, decisions.clone());
        ask(key, all.clone());
        ask(Site::V, all.clone());
        if spec.post_norms {
            ask(Site::Ln1PostScale, decisions.clone());
        }
        ask(Site::LoraOut(Module::V), adapted(&all, layer, Module::V));
        if !spec.qk_norm {
            ask(Site::LoraOut(Module::Q), adapted(&decisions, layer, Module::Q));
            ask(Site::LoraOut(Module::K), adapted(&all, layer, Module::K));
        }
    }
    captures
}

/// Turns what adapters add to queries and keys as the queries and keys themselves are turned.
fn rotate_keys(setup: &Setup, batch: &Batch, captured: &mut HashMap<HookPoint, Captured>) {
    let spec = setup.subject.model.spec();
    for (point, captured) in captured.iter_mut() {
        let HookPoint::Layer(layer, Site::LoraOut(Module::Q | Module::K)) = point else { continue };
        let Some(table) = setup.rotary.get(spec.layers[*layer].rotary) else { continue };
        for (row, place) in captured.place.iter().enumerate() {
            if let Some(place) = place {
                table.rotate(&mut captured.values[*place], batch.row(row).position);
            }
        }
    }
}

/// Directions at the heads' z of a layer, and lengths of its values.
pub(super) struct Read {
    pub layer: usize,
    /// Through the base's output projection and through the adapter's change of it: `[direction, heads · d_head]`.
    pub base: Mat<f64>,
    pub adapter: Mat<f64>,
    /// Both together, in the numbers of the activations.
    pub both: Mat<f32>,
    /// `[row, heads]`: length of each row's value in the residual stream, but for the scale of the post-attention norm.
    lengths: Mat<f32>,
}

impl Read {
    pub fn new(chunk: &Chunk, layer: usize) -> Result<Self> {
        let model = &chunk.setup.subject.model;
        let models = &chunk.direction_models;
        let through;
        let mut directions = &chunk.directions;
        if chunk.spec().post_norms {
            let post = HookPoint::Layer(layer, Site::Ln1PostScale);
            through = model.pull_back_norm(post, models, directions)?.directions;
            directions = &through;
        }
        let pulled = model.pull_back(layer, Module::O, models, directions)?;
        let sum = pulled.base.data.iter().zip(&pulled.adapter.data).map(|(b, a)| (b + a) as f32);
        let both = Mat { data: sum.collect(), rows: pulled.base.rows, cols: pulled.base.cols };
        let lengths = lengths(chunk, layer);
        Ok(Self { layer, base: pulled.base, adapter: pulled.adapter, both, lengths })
    }

    /// Length of a row's value as a head adds it, but for the scale of the post-attention norm.
    pub fn length(&self, row: usize, head: usize) -> f32 {
        self.lengths.row(row)[head]
    }
}

fn lengths(chunk: &Chunk, layer: usize) -> Mat<f32> {
    let spec = chunk.spec();
    let mut lengths = Mat::zeros(chunk.batch.n_rows(), spec.n_heads);
    for (model, rows) in chunk.batch.runs() {
        for kv_head in 0..spec.n_kv_heads {
            let part = kv_head * spec.d_head..(kv_head + 1) * spec.d_head;
            let values = rows.clone().filter_map(|row| chunk.at(layer, Site::V, row));
            let data: Vec<f32> = values.flat_map(|v| v[part.clone()].iter().copied()).collect();
            let values = Mat { data, rows: rows.len(), cols: spec.d_head };
            let mut products = Mat::zeros(values.rows, values.cols);
            for head in kv_head * spec.group()..(kv_head + 1) * spec.group() {
                let gram = &chunk.setup.frozen.layers[layer].grams[*model][head];
                matmul(products.view_mut(), values.view(), gram, Write::Set);
                for (i, row) in rows.clone().enumerate() {
                    lengths.row_mut(row)[head] = dot(products.row(i), values.row(i)).max(0.0).sqrt() as f32;
                }
            }
        }
    }
    lengths
}

/// The numbers of a prompt in one layer, with where they belong.
fn of_prompt(chunk: &Chunk, read: &Read, i: usize) -> Vec<(usize, Vec<f32>)> {
    let layout = chunk.setup.layout;
    let mut found = Vec::new();
    for head in 0..layout.n_heads {
        for model in 0..layout.n_models {
            found.push((layout.level(model, read.layer, head), levels(chunk, read, (model, i), head)));
        }
        for (p, &(model, minus)) in layout.pairs.iter().enumerate() {
            let pair = [chunk.sequence(model, i), chunk.sequence(minus, i)];
            let values = changes::of_head(chunk, read, i, pair, head);
            found.push((layout.change(p, read.layer, head), values));
        }
    }
    found
}

/// What one head of one model does on one prompt, by span and measure.
fn levels(chunk: &Chunk, read: &Read, (model, i): (usize, usize), head: usize) -> Vec<f32> {
    let (layer, s, prompt) = (read.layer, chunk.sequence(model, i), chunk.prompts[i]);
    let (setup, spec) = (chunk.setup, chunk.spec());
    let scale = chunk.scale(layer, s);
    let own = head * spec.d_head..(head + 1) * spec.d_head;
    let kv_head = head / spec.group();
    let of_kv = kv_head * spec.d_head..(kv_head + 1) * spec.d_head;
    let direction = &read.both.row(chunk.direction_of[s])[own.clone()];
    let copies = &setup.frozen.layers[layer].copies[model];
    let mut sums = vec![[0.0f64; Measure::ALL.len()]; setup.spans.n()];
    let pattern = chunk.pattern(layer, s, head);
    for (t, (&row, &weight)) in chunk.keys[s].iter().zip(pattern).enumerate() {
        let (span, weight) = (setup.spans.at(prompt, t), f64::from(weight));
        if weight == 0.0 {
            continue;
        }
        let value = &chunk.at(layer, Site::V, row).unwrap_or_default()[of_kv.clone()];
        sums[span][Measure::Mass as usize] += weight;
        sums[span][Measure::Norm as usize] += weight * f64::from(read.length(row, head));
        sums[span][Measure::Write as usize] += weight * dot(value, direction) / scale;
        if span < setup.spans.n_named()
            && let Some(&token) = setup.frozen.token_rows.get(&chunk.batch.row(row).token)
        {
            let raised = dot(value, &copies.row(token)[own.clone()]);
            sums[span][Measure::Copying as usize] += weight * raised / scale;
        }
    }
    let all: f64 = sums.iter().map(|s| s[Measure::Norm as usize]).sum();
    let mut numbers = Vec::with_capacity(setup.layout.per_head());
    for (span, mut sums) in sums.into_iter().enumerate() {
        sums[Measure::Norm as usize] /= if all > 0.0 { all } else { 1.0 };
        let here = setup.spans.has(prompt, span);
        for measure in Measure::ALL {
            let is_defined = here && (measure != Measure::Copying || span < setup.spans.n_named());
            numbers.push(if is_defined { sums[measure as usize] as f32 } else { f32::NAN });
        }
    }
    numbers
}
