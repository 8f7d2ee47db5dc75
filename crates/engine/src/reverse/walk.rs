//! The way back through a layer: for each kind of step, what it does to a gradient.

use super::parameter::Collected;
use super::rules::Rules;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::forward::tape::{Block, LayerTape, Recorder, Slot, Step};
use crate::forward::{Kept, Pass, attention::Keys, norm_row};
use crate::hook::{HookPoint, Site};
use crate::joined::Joined;
use crate::mat::Mat;
use crate::number::Number;
use crate::spec::{Mlp, NormKind};
use crate::tap::Tap;
use crate::weights::{LayerWeights, NormWeights, PerModel};
use lorascope_kernels::{
    Activation, activate_backward, activate_gated_backward, add_assign, all_finite, norm_backward,
    norm_scale_backward, rms_norm, scale_assign,
};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// State of the way back.
pub(super) struct Walk<'a, 'h, R> {
    /// For layers that are computed again, with what edits made put in again. Its rows are the joined ones, where there are such.
    pub pass: Pass<'a, 'h, R>,
    /// The rows that gradients are of.
    pub batch: &'a Batch,
    /// Which of them are one on the tape.
    pub joined: Option<&'a Joined>,
    /// Captures of gradients, and the edits that they go back through.
    pub tap: Tap<'h, R>,
    pub rules: Rules,
    /// What edits made, by place and row.
    pub edited: HashMap<(HookPoint, usize), Vec<R>>,
    pub collected: Collected<R>,
    /// Gradients of what single heads read, point and row, before the norm: `[head, d_model]`.
    pub reads: Vec<(HookPoint, usize, Mat<R>)>,
}

/// Gradients of the values that a block has at a time; absent where nothing reached them.
struct Slots<R>([Option<Mat<R>>; Slot::N]);

impl<R: Number> Slots<R> {
    /// Takes the gradient out; zeros where nothing reached it.
    fn take(&mut self, slot: Slot, rows: usize, cols: usize) -> Mat<R> {
        self.0[slot as usize].take().unwrap_or_else(|| Mat::zeros(rows, cols))
    }
    fn set(&mut self, slot: Slot, gradient: Mat<R>) {
        self.0[slot as usize] = Some(gradient);
    }
    fn add(&mut self, slot: Slot, gradient: Mat<R>) {
        match &mut self.0[slot as usize] {
            Some(there) => there.add(&gradient),
            empty => *empty = Some(gradient),
        }
    }
}

/// The gradients with respect to the keys and values of all rows of a layer.
pub(super) struct KeyGradients<R> {
    pub keys: Mat<R>,
    pub values: Mat<R>,
}

impl<R: Number> Walk<'_, '_, R> {
    /// Through the final norm: the gradient with respect to the residual stream of all rows.
    pub fn final_norm(&mut self, resid: &Mat<R>, readout: &[usize], gradient: &Mat<R>) -> Mat<R> {
        let (rows, d) = (resid.rows, resid.cols);
        let mut normalized = Mat::zeros(rows, d);
        for (i, &row) in readout.iter().enumerate() {
            add_assign(normalized.row_mut(row), gradient.row(i));
        }
        self.tap.back_at(HookPoint::FinalNormalized, 0, &mut normalized);
        let (model, kind) = (self.pass.model, self.pass.model.spec().norm);
        let mut scales = vec![R::ZERO; rows];
        let mut scratch = vec![R::ZERO; d];
        for (row, scale) in scales.iter_mut().enumerate() {
            *scale = norm_row(
                kind,
                model.final_norm_weights().of(self.batch.row(row).model),
                resid.row(row),
                &mut scratch,
            );
        }
        let w = model.final_norm_weights();
        self.norm(HookPoint::FinalScale, w, 0, resid, &scales, &normalized)
    }

    /// Computes a layer again, for its tape.
    pub fn again(
        &mut self,
        layer: usize,
        mut resid: Mat<R>,
        trained: [bool; 7],
        kept: Option<&Kept<R>>,
    ) -> Result<LayerTape<R>> {
        let spec = self.pass.model.spec();
        let mut keys = Keys::new(resid.rows, spec.n_kv_heads * spec.d_head);
        if let Some(kept) = kept {
            kept.recall(layer, &mut keys);
        }
        self.pass.tape = Some(Recorder::new(trained));
        self.pass.layer(layer, &mut resid, &mut keys)?;
        match self.pass.tape.take() {
            Some(tape) => Ok(tape.finish(keys)),
            None => unreachable!("it was put there above"),
        }
    }

    /// Through a layer: `stream` is the gradient with respect to the residual stream after it, and becomes that before it.
    pub fn layer(&mut self, layer: usize, tape: LayerTape<R>, stream: &mut Mat<R>) -> Result<()> {
        let w = self.pass.model.weights().layer(self.pass.model.spec(), layer)?;
        let LayerTape { blocks, keys } = tape;
        let keys = match self.joined {
            None => keys,
            Some(joined) => joined.spread_keys(&keys),
        };
        let (rows, width, d) = (keys.k.rows, keys.k.cols, stream.cols);
        let mut reached = KeyGradients { keys: Mat::zeros(rows, width), values: Mat::zeros(rows, width) };
        // Rows see only what lies before them: of a block that comes last first, all that saw it are done.
        let blocks: Box<dyn Iterator<Item = Block<R>>> = match self.joined {
            None => Box::new(blocks.into_iter().rev()),
            Some(joined) => Box::new(joined.spread_blocks(&blocks)),
        };
        for block in blocks {
            self.pass.model.check_stop()?;
            let span = block.rows.start * d..block.rows.end * d;
            let mut slots = Slots([const { None }; Slot::N]);
            let own = stream.data[span.clone()].to_vec();
            slots.set(Slot::Stream, Mat { data: own, rows: block.rows.len(), cols: d });
            for step in block.steps.into_iter().rev() {
                self.step(layer, &w, &keys, &block.rows, step, &mut slots, &mut reached);
            }
            let out = slots.take(Slot::Stream, block.rows.len(), d);
            stream.data[span].copy_from_slice(&out.data);
        }
        match (0..stream.rows).find(|&row| !all_finite(stream.row(row))) {
            None => Ok(()),
            Some(row) => Err(Error::NonFiniteActivation {
                point: format!("gradient of {}", HookPoint::Layer(layer, Site::ResidPre)),
                row,
                model: self.pass.model.name(self.batch.row(row).model).to_owned(),
                position: self.batch.row(row).position,
            }),
        }
    }

    /// At the embedding, before the first layer.
    pub fn embedding(&mut self, stream: &mut Mat<R>) {
        if self.pass.model.spec().positions == crate::spec::Positions::Learned {
            let mut positions = stream.clone();
            self.tap.back_at(HookPoint::PosEmbed, 0, &mut positions);
        }
        self.tap.back_at(HookPoint::Embed, 0, stream);
        self.collected.embedding(self.batch, self.pass.model.spec(), stream);
    }

    #[allow(clippy::too_many_arguments, reason = "a step, its place, and what it changes")]
    fn step(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        keys: &Keys<R>,
        rows: &Range<usize>,
        step: Step<R>,
        slots: &mut Slots<R>,
        reached: &mut KeyGradients<R>,
    ) {
        let (n, first) = (rows.len(), rows.start);
        let spec = self.pass.model.spec();
        let d = spec.d_model;
        match step {
            Step::Tap(site) => {
                let Some(slot) = Slot::of(site, spec) else { return };
                if let Some(gradient) = &mut slots.0[slot as usize] {
                    self.tap.back_at(HookPoint::Layer(layer, site), first, gradient);
                } else if self.tap.wants(HookPoint::Layer(layer, site)) {
                    let cols = self.width(slot);
                    let mut nothing = Mat::zeros(n, cols);
                    self.tap.back_at(HookPoint::Layer(layer, site), first, &mut nothing);
                }
            }
            Step::Add => {
                let dropped = self.rules.dropped_layer == Some(layer);
                let stream = slots.take(Slot::Stream, n, d);
                slots.set(Slot::Out, if dropped { Mat::zeros(n, d) } else { stream.clone() });
                slots.set(Slot::Stream, stream);
            }
            Step::Results(site) => {
                let gradient = slots.take(Slot::Out, n, d);
                let point = HookPoint::Layer(layer, site);
                for row in self.tap.rows_wanted(point, rows.clone()) {
                    // The shares are summed, so each has the gradient of the sum.
                    let mut shares = gradient.row(row - first).repeat(spec.n_heads);
                    self.tap.back_at_row(point, row, &mut shares);
                }
                slots.set(Slot::Out, gradient);
            }
            Step::Norm { scale, input, scales } => {
                let (from, to) = Slot::around_norm(scale);
                let dy = slots.take(to, n, d);
                let weights = match scale {
                    Site::Ln1Scale => &w.norm_1,
                    Site::Ln2Scale => &w.norm_2,
                    _ => match (&w.post_norms, scale) {
                        (Some((after_attention, _)), Site::Ln1PostScale) => after_attention,
                        (Some((_, after_mlp)), _) => after_mlp,
                        (None, _) => unreachable!("the tape has the norm"),
                    },
                };
                let mut dx = self.norm(HookPoint::Layer(layer, scale), weights, first, &input, &scales, &dy);
                if scale == Site::Ln1Scale {
                    self.finish_reads(weights, first, &input, &scales);
                }
                if scale == Site::Ln2Scale {
                    self.tap.back_at(HookPoint::Layer(layer, Site::MlpIn), first, &mut dx);
                }
                slots.add(from, dx);
            }
            Step::Linear { module, input, features } => {
                let (from, to) = Slot::around(module);
                let dy = slots.take(to, n, spec.module_shape(module).0);
                self.input_gradients(layer, module, w, rows, &dy);
                let dx = self.linear(layer, module, w.linear(module), first, input.as_ref(), &features, dy);
                slots.add(from, dx);
            }
            Step::HeadNorm { slot, input } => {
                let mut gradient = slots.take(slot, n, input.cols);
                self.head_norm(w, slot, first, &input, &mut gradient);
                slots.set(slot, gradient);
            }
            Step::Rotate(slot) => {
                let cols = self.width(slot);
                let mut gradient = slots.take(slot, n, cols);
                let batch = self.batch;
                if let Some(table) = self.pass.rotary.get(spec.layers[layer].rotary) {
                    gradient.for_rows(|i, row| table.rotate_back(row, batch.row(first + i).position));
                }
                slots.set(slot, gradient);
            }
            Step::Attend { queries } => {
                let dz = slots.take(Slot::Z, n, queries.cols);
                let dq = self.attend(layer, keys, rows, &queries, &dz, reached);
                let own = |all: &Mat<R>| {
                    let data = all.data[rows.start * all.cols..rows.end * all.cols].to_vec();
                    Mat { data, rows: n, cols: all.cols }
                };
                slots.set(Slot::Q, dq);
                slots.set(Slot::K, own(&reached.keys));
                slots.set(Slot::V, own(&reached.values));
            }
            Step::Activate { gate, up } => {
                let dy = slots.take(Slot::Post, n, up.cols);
                self.activate(gate, up, dy, slots);
            }
        }
    }

    /// Number of values in a slot of the flow.
    fn width(&self, slot: Slot) -> usize {
        let spec = self.pass.model.spec();
        match slot {
            Slot::Stream | Slot::Read | Slot::Out => spec.d_model,
            Slot::Q | Slot::Z => spec.n_heads * spec.d_head,
            Slot::K | Slot::V => spec.n_kv_heads * spec.d_head,
            Slot::Gate | Slot::Up | Slot::Post => spec.d_mlp,
        }
    }

    /// Through a norm, named by its scale; `scales` are those that it found in its input.
    pub(super) fn norm(
        &mut self,
        point: HookPoint,
        w: &PerModel<NormWeights<R>>,
        first_row: usize,
        input: &Mat<R>,
        scales: &[R],
        dy: &Mat<R>,
    ) -> Mat<R> {
        let batch = self.batch;
        let centred = matches!(self.pass.model.spec().norm, NormKind::Layer { .. });
        let used: Vec<R> = (0..input.rows)
            .map(|i| self.edited.get(&(point, first_row + i)).map_or(scales[i], |edited| edited[0]))
            .collect();
        let mut dx = Mat::zeros(input.rows, input.cols);
        let mut of_scale = Mat::zeros(input.rows, 1);
        let rows = dx.data.par_chunks_exact_mut(input.cols.max(1)).zip(&mut of_scale.data).with_min_len(8);
        rows.enumerate().for_each(|(i, (dx, of_scale))| {
            let weight = &w.of(batch.row(first_row + i).model).weight;
            *of_scale = norm_backward(centred, input.row(i), weight, used[i], dy.row(i), dx);
        });
        self.tap.back_at(point, first_row, &mut of_scale);
        if !self.rules.frozen_norms {
            dx.for_rows(|i, row| {
                norm_scale_backward(centred, input.row(i), scales[i], of_scale.data[i], row);
            });
        }
        self.collected.norm(point, batch, first_row, centred, input, &used, dy);
        dx
    }

    /// Through the norm before attention, for what single heads read.
    fn finish_reads(&mut self, w: &PerModel<NormWeights<R>>, first_row: usize, input: &Mat<R>, scales: &[R]) {
        let centred = matches!(self.pass.model.spec().norm, NormKind::Layer { .. });
        for (point, row, mut read) in std::mem::take(&mut self.reads) {
            let (i, weight) = (row - first_row, &w.of(self.batch.row(row).model).weight);
            let frozen = self.rules.frozen_norms;
            read.for_rows(|_, gradient| {
                let dy = gradient.to_vec();
                let of_scale = norm_backward(centred, input.row(i), weight, scales[i], &dy, gradient);
                if !frozen {
                    norm_scale_backward(centred, input.row(i), scales[i], of_scale, gradient);
                }
            });
            self.tap.back_at_row(point, row, &mut read.data);
        }
    }

    /// Through RMSNorm of each head.
    fn head_norm(
        &self,
        w: &LayerWeights<R>,
        slot: Slot,
        first_row: usize,
        input: &Mat<R>,
        gradient: &mut Mat<R>,
    ) {
        let Some((of_queries, of_keys)) = &w.qk_norms else { return };
        let w = if slot == Slot::Q { of_queries } else { of_keys };
        let spec = self.pass.model.spec();
        let (NormKind::Rms { eps, .. } | NormKind::Layer { eps }) = spec.norm;
        let (d_head, eps, batch) = (spec.d_head, R::from_f64(eps), self.batch);
        gradient.for_rows(|i, row| {
            let weight = &w.of(batch.row(first_row + i).model).weight;
            let (mut scratch, mut dx) = (vec![R::ZERO; d_head], vec![R::ZERO; d_head]);
            for (dy, x) in row.chunks_exact_mut(d_head).zip(input.row(i).chunks_exact(d_head)) {
                let scale = rms_norm(x, weight, eps, &mut scratch);
                let of_scale = norm_backward(false, x, weight, scale, dy, &mut dx);
                if !self.rules.frozen_norms {
                    norm_scale_backward(false, x, scale, of_scale, &mut dx);
                }
                dy.copy_from_slice(&dx);
            }
        });
    }

    /// Through the MLP's nonlinearity.
    fn activate(&self, gate: Option<Mat<R>>, up: Mat<R>, mut dy: Mat<R>, slots: &mut Slots<R>) {
        let secant = self.rules.secant_activation;
        let (Mlp::Gated(activation) | Mlp::Plain(activation)) = self.pass.model.spec().mlp;
        match gate {
            Some(gate) => {
                if self.rules.halved_gate {
                    dy.for_rows(|_, row| scale_assign(row, R::from_f64(0.5)));
                }
                let (dgate, dup) = gated_backward(activation, secant, gate, up, dy);
                slots.set(Slot::Gate, dgate);
                slots.set(Slot::Up, dup);
            }
            None => {
                let mut dx = Mat::zeros(up.rows, up.cols);
                dx.for_rows(|i, row| activate_backward(activation, secant, up.row(i), dy.row(i), row));
                slots.set(Slot::Up, dx);
            }
        }
    }
}

fn gated_backward<R: Number>(
    activation: Activation,
    secant: bool,
    gate: Mat<R>,
    up: Mat<R>,
    dy: Mat<R>,
) -> (Mat<R>, Mat<R>) {
    let (rows, cols) = (up.rows, up.cols);
    let (mut dgate, mut dup) = (Mat::zeros(rows, cols), Mat::zeros(rows, cols));
    let both = dgate.data.par_chunks_exact_mut(cols.max(1)).zip(dup.data.par_chunks_exact_mut(cols.max(1)));
    both.with_min_len(8).enumerate().for_each(|(i, (dgate, dup))| {
        activate_gated_backward(activation, secant, gate.row(i), up.row(i), dy.row(i), dgate, dup);
    });
    (dgate, dup)
}
