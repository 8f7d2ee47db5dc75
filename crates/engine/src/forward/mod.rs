//! The forward pass: one for every family, every intervention and every mixture of models.
//!
//! All rows of a batch go through a layer before any goes through the next, so a layer's weights are made, read and
//! left once. Within a layer, rows are worked on in blocks (in order, so that what a row sees lies behind it): only
//! the residual stream and the layer's keys and values exist for all rows at a time. Rows of branches join at the layer
//! and the place in it at which they begin, with what they inherit from the rows that they copy.
//!
//! At each named place the pass calls the tap, which replaces and captures what was asked for. Places whose values
//! the pass does not need itself (per-head results, low-rank outputs) are computed only where they are wanted.

pub(crate) mod attention;
mod first;
mod heirs;
mod inputs;
mod kept;
mod last;
mod linear;
mod mlp;
mod results;
mod scratch;
pub(crate) mod tape;

use crate::batch::Batch;
use crate::branch::Stage;
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::mixture::Mixture;
use crate::model::Model;
use crate::number::Number;
use crate::request::Hooks;
use crate::rotary::RotaryTable;
use crate::spec::{NormKind, Positions};
use crate::tap::Tap;
use crate::visit::Visit;
use crate::weights::{LayerWeights, NormWeights, PerModel};
use first::Failed;
use heirs::{Heirs, Wire};
pub use kept::Kept;
pub(crate) use kept::{Memory, Record};
use lorascope_kernels::{all_finite, layer_norm, rms_norm};
use rayon::prelude::*;
use scratch::Scratch;
use std::ops::Range;
use tape::{Recorder, Step};

/// Rows worked on together within a layer: large enough that a matrix is read few times, small enough that the
/// MLP's intermediate values stay small.
const BLOCK: usize = 512;

/// The same where a device does the products: enough for each of its units to have work. No bit depends on it.
const DEVICE_BLOCK: usize = 2048;

/// How many rows are worked on together.
pub(crate) fn block_rows<R: Number>() -> usize {
    if R::device().is_some() { DEVICE_BLOCK } else { BLOCK }
}

/// What a run gives back.
#[derive(Debug)]
pub struct Run<R> {
    /// The values of each capture: one row each, in the order in which the capture names its rows.
    pub captures: Vec<Vec<Vec<R>>>,
    /// Outputs of the final norm (`ln_final.hook_normalized`, edits included) at the rows asked for.
    pub readout: Mat<R>,
}

/// Told how much of a run is done: `(layers done, layers in all)`.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// State of a run that its parts share.
pub(crate) struct Pass<'a, 'h, R> {
    pub model: &'a Model<R>,
    pub batch: &'a Batch,
    pub tap: Tap<'h, R>,
    /// One table per rotary embedding of the model.
    pub rotary: Vec<RotaryTable<R>>,
    scratch: Scratch<R>,
    heirs: Heirs<R>,
    /// The first norm of the layer whose scale is not finite, and its row.
    overflow: Option<(HookPoint, usize)>,
    /// What the models beyond the loaded ones are.
    mixtures: &'a [Mixture],
    /// The rows that are read after the last layer, where that is known not to be all.
    read: Option<Vec<usize>>,
    /// Where the steps are written down, if they are.
    pub tape: Option<Recorder<R>>,
}

/// Runs a batch; `readout` names the rows whose final normalised state is wanted. `memory` has the keys and values of rows
/// that are not computed, or takes those of this run.
pub(crate) fn run<R: Number>(
    model: &Model<R>,
    batch: &Batch,
    hooks: &Hooks<R>,
    readout: &[usize],
    progress: Progress,
    memory: Memory<R>,
) -> Result<Run<R>> {
    R::run_mixtures(model, batch, hooks, readout, progress, memory, &[])
}

/// [`run`] with visits.
pub(crate) fn run_visited<R: Number>(
    model: &Model<R>,
    batch: &Batch,
    hooks: &Hooks<R>,
    visits: &[Visit<R>],
    readout: &[usize],
    progress: Progress,
) -> Result<Run<R>> {
    let rank = |row: usize, point| model.rank_at(batch.row(row).model, point);
    let tap = Tap::new(hooks, visits, model.standing(), batch, model.spec(), rank)?;
    carry_out(Pass::new(model, batch, tap), readout, progress, Memory::None)
}

/// [`run`], where models beyond the loaded ones are mixtures.
pub(crate) fn run_mixtures<R: Number>(
    model: &Model<R>,
    batch: &Batch,
    hooks: &Hooks<R>,
    readout: &[usize],
    progress: Progress,
    memory: Memory<R>,
    mixtures: &[Mixture],
) -> Result<Run<R>> {
    let rank = |row: usize, point| model.rank_at(batch.row(row).model, point);
    let tap = Tap::new(hooks, &[], model.standing(), batch, model.spec(), rank)?;
    let mut pass = Pass::new(model, batch, tap);
    pass.mixtures = mixtures;
    let again = memory.given();
    carry_out(pass, readout, progress, memory)
        .map_err(|error| Failed { model, batch, hooks, mixtures, memory: again }.explained(error))
}

fn carry_out<R: Number>(
    mut pass: Pass<R>,
    readout: &[usize],
    progress: Progress,
    mut memory: Memory<R>,
) -> Result<Run<R>> {
    if memory.is_record() {
        pass.tap.log_edits();
    } else {
        pass.reads_only(readout);
    }
    let n_layers = pass.model.spec().n_layers;
    let resid = through_layers(&mut pass, n_layers, progress, &mut memory)?;
    progress(n_layers, n_layers);
    let readout = pass.final_norm(&resid, readout)?;
    memory.end(resid, &mut pass.tap);
    Ok(Run { captures: pass.tap.finish()?, readout })
}

/// The residual stream after the first `n_layers` layers.
fn through_layers<R: Number>(
    pass: &mut Pass<R>,
    n_layers: usize,
    progress: Progress,
    memory: &mut Memory<R>,
) -> Result<Mat<R>> {
    let (model, batch) = (pass.model, pass.batch);
    let spec = model.spec();
    let mut resid = pass.embed()?;
    let kv = spec.n_kv_heads * spec.d_head;
    let mut cache = attention::Keys::new(batch.n_rows(), kv);
    for layer in 0..n_layers {
        progress(layer, spec.n_layers);
        model.check_stop()?;
        memory.recall(layer, &mut resid, &mut cache);
        pass.tape = memory.recorder(layer, &resid);
        if layer + 1 < n_layers {
            model.weights().expect(spec, layer + 1);
        }
        pass.layer(layer, &mut resid, &mut cache)?;
        memory.remember(layer, &resid, &cache, pass.tape.take());
    }
    model.check_stop()?;
    Ok(resid)
}

impl<'a, 'h, R: Number> Pass<'a, 'h, R> {
    /// Before the first layer.
    pub fn new(model: &'a Model<R>, batch: &'a Batch, tap: Tap<'h, R>) -> Self {
        let spec = model.spec();
        let positions = (0..batch.n_rows()).map(|r| batch.row(r).position + 1).max().unwrap_or(0);
        let rotary = match &spec.positions {
            Positions::Rotary(all) => {
                all.iter().map(|r| RotaryTable::new(r, spec.d_head, positions)).collect()
            }
            Positions::Learned => Vec::new(),
        };
        let (scratch, heirs) = (Scratch::default(), Heirs::default());
        Self {
            model,
            batch,
            tap,
            rotary,
            scratch,
            heirs,
            overflow: None,
            mixtures: &[],
            read: None,
            tape: None,
        }
    }

    /// One layer for all rows.
    pub fn layer(&mut self, layer: usize, resid: &mut Mat<R>, cache: &mut attention::Keys<R>) -> Result<()> {
        let weights = self.model.weights().layer(self.model.spec(), layer)?;
        self.heirs = Heirs::of_layer(self.batch, layer, resid);
        let block = block_rows::<R>();
        for (stage, part) in self.batch.parts(layer) {
            let mut start = part.start;
            while start < part.end {
                self.model.check_stop()?;
                let rows = start..self.tap.block_end(layer, part.end.min(start + block));
                start = rows.end;
                self.layer_block(layer, &weights, stage, rows, resid, cache);
            }
        }
        cache.forget_packed();
        self.tap.check_visitors()?;
        let rows = self.batch.n_kept..self.batch.n_rows_alive(layer);
        match rows.into_iter().find(|&row| !all_finite(resid.row(row))) {
            Some(row) => Err(self.non_finite(HookPoint::Layer(layer, Site::ResidPost), row)),
            None => self.check_scales(),
        }
    }

    /// `hook_embed`, `hook_pos_embed`: `[rows, d_model]`.
    fn embed(&mut self) -> Result<Mat<R>> {
        let spec = self.model.spec();
        let mut resid = self.model.embeddings().lookup(self.batch)?;
        self.tap.at(HookPoint::Embed, 0, &mut resid);
        if spec.positions == Positions::Learned {
            let mut positions = self.model.embeddings().lookup_positions(self.batch)?;
            self.tap.at(HookPoint::PosEmbed, 0, &mut positions);
            resid.add(&positions);
        }
        Ok(resid)
    }

    /// One layer for one block of rows, from the stage on at which they enter it.
    fn layer_block(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        stage: Stage,
        rows: Range<usize>,
        resid: &mut Mat<R>,
        cache: &mut attention::Keys<R>,
    ) {
        let (first, d) = (rows.start, resid.cols);
        let mut x = self.scratch.mat(rows.len(), d);
        x.for_rows(|i, row| row.copy_from_slice(resid.row(first + i)));

        self.record_block(&rows);
        if stage <= Stage::Mlp {
            if stage > Stage::Layer {
                let inherited = self.heirs.inherit(self.batch, Wire::ResidPre, rows.clone());
                self.scratch.give(std::mem::replace(&mut x, inherited));
            }
            let mut attn_out = match stage {
                Stage::Layer => {
                    self.tap(layer, Site::ResidPre, first, &mut x);
                    self.heirs.keep(Wire::ResidPre, first, &x);
                    let z = self.attend(layer, w, first, &x, cache);
                    self.project_heads(layer, w, first, z)
                }
                Stage::Heads => {
                    let z = self.heirs.inherit(self.batch, Wire::Z, rows.clone());
                    self.project_heads(layer, w, first, z)
                }
                _ => self.heirs.inherit(self.batch, Wire::AttnOut, rows.clone()),
            };
            self.tap(layer, Site::AttnOut, first, &mut attn_out);
            self.heirs.keep(Wire::AttnOut, first, &attn_out);
            x.add(&attn_out);
            self.record(|| Step::Add);
            self.scratch.give(attn_out);
            self.tap(layer, Site::ResidMid, first, &mut x);
            self.heirs.keep(Wire::ResidMid, first, &x);
        } else {
            self.scratch.give(std::mem::replace(
                &mut x,
                self.heirs.inherit(self.batch, Wire::ResidMid, rows.clone()),
            ));
        }
        if stage <= Stage::Mlp {
            self.add_mlp(layer, w, first, &mut x);
        } else {
            let mut mlp_out = match stage {
                Stage::End => self.heirs.inherit(self.batch, Wire::MlpOut, rows),
                _ => {
                    let post = self.heirs.inherit(self.batch, Wire::MlpPost, rows);
                    self.write_neurons(layer, w, first, post)
                }
            };
            self.tap(layer, Site::MlpOut, first, &mut mlp_out);
            self.heirs.keep(Wire::MlpOut, first, &mlp_out);
            x.add(&mlp_out);
            self.scratch.give(mlp_out);
        }
        self.record(|| Step::Add);
        self.tap(layer, Site::ResidPost, first, &mut x);
        let rows = resid.data[first * d..].par_chunks_exact_mut(d).with_min_len(8).take(x.rows);
        rows.enumerate().for_each(|(i, row)| row.copy_from_slice(x.row(i)));
        self.scratch.give(x);
    }

    /// Applies a norm, named by its scale, to consecutive rows of the batch, each with its own model's parameters; returns the
    /// scales, which are a hook point.
    pub(crate) fn norm(
        &mut self,
        layer: usize,
        scale: Site,
        w: &PerModel<NormWeights<R>>,
        first_row: usize,
        x: &Mat<R>,
    ) -> (Mat<R>, Vec<R>) {
        let scale_point = HookPoint::Layer(layer, scale);
        let (kind, mut scales) = (self.model.spec().norm, vec![R::ZERO; x.rows]);
        let mut out = self.scratch.mat(x.rows, x.cols);
        let rows = out.data.par_chunks_exact_mut(x.cols).zip(&mut scales).with_min_len(8).enumerate();
        rows.for_each(|(i, (values, scale))| {
            let own = w.of(self.batch.row(first_row + i).model);
            *scale = norm_row(kind, own, x.row(i), values);
        });
        if let Some(i) = scales.iter().position(|scale| !scale.is_finite()) {
            self.overflow.get_or_insert((scale_point, first_row + i));
        }
        self.record(|| Step::Norm { scale, input: x.clone(), scales: scales.clone() });
        let wanted = self.tap.rows_wanted(scale_point, first_row..first_row + x.rows);
        if !wanted.is_empty() {
            let before = scales.clone();
            let mut column = Mat { data: scales, rows: x.rows, cols: 1 };
            self.tap.at(scale_point, first_row, &mut column);
            scales = column.data;
            for i in wanted.into_iter().map(|row| row - first_row).filter(|&i| scales[i] != before[i]) {
                let own = w.of(self.batch.row(first_row + i).model);
                rescale(kind, own, out.row_mut(i), before[i] / scales[i]);
            }
        }
        (out, scales)
    }

    /// `ln_final`: captures and edits at any row, and the rows of the readout.
    fn final_norm(&mut self, resid: &Mat<R>, readout: &[usize]) -> Result<Mat<R>> {
        let all = 0..resid.rows;
        let mut rows = self.tap.rows_wanted(HookPoint::FinalScale, all.clone());
        rows.extend(self.tap.rows_wanted(HookPoint::FinalNormalized, all));
        rows.extend(readout);
        rows.sort_unstable();
        rows.dedup();
        let mut normalized = Mat::zeros(rows.len(), resid.cols);
        let (model, kind) = (self.model, self.model.spec().norm);
        let own = |row: usize| model.final_norm_weights().of(self.batch.row(row).model);
        let mut scales = Mat::zeros(rows.len(), 1);
        for (i, &row) in rows.iter().enumerate() {
            scales.data[i] = norm_row(kind, own(row), resid.row(row), normalized.row_mut(i));
        }
        if let Some(i) = scales.data.iter().position(|scale| !scale.is_finite()) {
            return Err(self.non_finite(HookPoint::FinalScale, rows[i]));
        }
        let before = scales.data.clone();
        let mut slices: Vec<&mut [R]> = scales.data.chunks_exact_mut(1).collect();
        self.tap.at_rows(HookPoint::FinalScale, &rows, &mut slices);
        for (i, &row) in rows.iter().enumerate().filter(|&(i, _)| scales.data[i] != before[i]) {
            rescale(kind, own(row), normalized.row_mut(i), before[i] / scales.data[i]);
        }
        let mut slices: Vec<&mut [R]> = normalized.data.chunks_exact_mut(resid.cols.max(1)).collect();
        self.tap.at_rows(HookPoint::FinalNormalized, &rows, &mut slices);
        let place =
            |row: &usize| rows.binary_search(row).unwrap_or_else(|_| unreachable!("it was put in above"));
        let places: Vec<usize> = readout.iter().map(place).collect();
        Ok(normalized.gather(&places))
    }

    /// An error where a norm's scale overflowed: it makes zeros of finite values, which nothing after it would show.
    fn check_scales(&mut self) -> Result<()> {
        self.overflow.take().map_or(Ok(()), |(point, row)| Err(self.non_finite(point, row)))
    }

    fn non_finite(&self, point: HookPoint, row: usize) -> Error {
        let batch_row = self.batch.row(row);
        let (model, position) = (self.model.name(batch_row.model).to_owned(), batch_row.position);
        Error::NonFiniteActivation { point: point.to_string(), row, model, position }
    }
}

/// Normalises one row; returns the scale.
pub(crate) fn norm_row<R: Number>(kind: NormKind, w: &NormWeights<R>, x: &[R], out: &mut [R]) -> R {
    match kind {
        NormKind::Rms { eps, .. } => rms_norm(x, &w.weight, R::from_f64(eps), out),
        NormKind::Layer { eps } => layer_norm(x, &w.weight, &w.bias, R::from_f64(eps), out),
    }
}

/// What a changed scale makes of a normalised row.
fn rescale<R: Number>(kind: NormKind, w: &NormWeights<R>, out: &mut [R], factor: R) {
    match kind {
        NormKind::Rms { .. } => out.iter_mut().for_each(|v| *v *= factor),
        NormKind::Layer { .. } => out.iter_mut().zip(&w.bias).for_each(|(v, &b)| *v = (*v - b) * factor + b),
    }
}
