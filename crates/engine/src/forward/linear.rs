//! A linear map of a layer for rows of several models: the base's product once, each adapter's low-rank term on top.
//!
//! `y = W x + bias + s·B(A x + …)`; with DoRA `y = g ⊙ (W x + s·B A x) + bias`, g = magnitude / ‖row of W + s·B·A‖.

use super::Pass;
use super::tape::Step;
use crate::batch::ModelId;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::weights::{LinearWeights, LowRankWeights};
use lorascope_kernels::{
    MatRef, Update, Write, add_row, hadamard_rows, matmul, matmul_inner, product_elsewhere,
};
use std::ops::Range;

/// Rows of one model each, relative to the matrix that they are rows of.
pub(super) type Runs = Vec<(ModelId, Range<usize>)>;

impl<R: Number> Pass<'_, '_, R> {
    /// The module's output for consecutive rows of the batch, with its adapters' hook points.
    pub(super) fn linear(
        &mut self,
        layer: usize,
        module: Module,
        w: &LinearWeights<R>,
        first_row: usize,
        x: &Mat<R>,
    ) -> Mat<R> {
        let runs = self.batch.runs_within(first_row..first_row + x.rows);
        let mut y = self.scratch.mat(x.rows, w.weight.of(0).n_out());
        if self.linear_elsewhere(layer, module, w, x, &runs, &mut y) {
            add_biases(w, &mut y, &runs);
            return y;
        }
        base_product(w, x, &runs, &mut y);
        let (keeps, mut kept) = (self.keeps_input(module), Vec::new());
        for (update, rows) in &self.updates(layer, module, w, &runs) {
            let Some((update, factor)) = *update else {
                self.put_in_low_rank(layer, module, first_row, rows, &mut y);
                continue;
            };
            let mut features = self.scratch.mat(rows.len(), update.a.n_out());
            low_rank_features(update, x, rows.clone(), &mut features);
            self.tap.at(HookPoint::Layer(layer, Site::LoraA(module)), first_row + rows.start, &mut features);
            if factor != R::ONE {
                features.data.iter_mut().for_each(|v| *v *= factor);
            }
            features.data.iter_mut().for_each(|v| *v *= update.scale);
            let point = HookPoint::Layer(layer, Site::LoraOut(module));
            let wanted =
                self.tap.wants(point) && !self.tap.rows_wanted(point, offset(rows, first_row)).is_empty();
            if wanted || !adds_at_once(update) {
                let mut added = low_rank_output(update, &features, &y, rows.clone());
                self.tap.at(point, first_row + rows.start, &mut added);
                add_rows(&mut y, rows.clone(), &added);
            } else {
                add_low_rank(update, &features, &mut y, rows.clone());
            }
            if keeps {
                kept.push(features.clone());
            }
            self.scratch.give(features);
        }
        add_biases(w, &mut y, &runs);
        self.record(|| Step::Linear { module, input: keeps.then(|| x.clone()), features: kept });
        y
    }

    /// The whole map but for its bias in one way to the device and back, with the same bits, where nobody looks at what happens in
    /// between. Returns whether it was done; else `y` is arbitrary.
    fn linear_elsewhere(
        &self,
        layer: usize,
        module: Module,
        w: &LinearWeights<R>,
        x: &Mat<R>,
        runs: &Runs,
        y: &mut Mat<R>,
    ) -> bool {
        let looks = |site| self.tap.wants(HookPoint::Layer(layer, site));
        let is_plain = self.tape.is_none()
            && !looks(Site::LoraA(module))
            && !looks(Site::LoraOut(module))
            && !runs.iter().any(|(model, _)| w.weight.is_replaced(*model));
        if R::device().is_none() || !is_plain {
            return false;
        }
        let mut updates = Vec::new();
        for (taken, rows) in self.updates(layer, module, w, runs) {
            let Some((update, factor)) = taken else { continue };
            if !adds_at_once(update) {
                return false;
            }
            updates.push(Update { rows, a: &update.a, b: &update.b, factor, scale: update.scale });
        }
        product_elsewhere(&mut y.view_mut(), x.view(), w.weight.of(0), &updates)
    }

    /// The update that rows take at a module, and what multiplies it besides its scale; rows that stand together and take the same
    /// are one range.
    fn updates<'w>(
        &self,
        layer: usize,
        module: Module,
        w: &'w LinearWeights<R>,
        runs: &Runs,
    ) -> Vec<(Taken<'w, R>, Range<usize>)> {
        let mut found: Vec<(Taken<R>, Range<usize>)> = Vec::with_capacity(runs.len());
        for (model, rows) in runs {
            let mixture = model.checked_sub(self.model.n_models()).and_then(|i| self.mixtures.get(i));
            let taken = match mixture {
                None => w.low_rank(*model).map(|update| (update, R::ONE)),
                Some(mixture) => mixture
                    .part(layer, module)
                    .and_then(|part| Some((w.low_rank(part.model)?, R::from_f64(part.factor)))),
            };
            match found.last_mut() {
                Some((last, together)) if is_same(*last, taken) => together.end = rows.end,
                _ => found.push((taken, rows.clone())),
            }
        }
        found
    }

    /// `hook_lora_out` of rows whose model has no adapter at the module: it adds nothing, unless an edit puts in what
    /// another model's adapter adds.
    fn put_in_low_rank(
        &mut self,
        layer: usize,
        module: Module,
        first_row: usize,
        rows: &Range<usize>,
        y: &mut Mat<R>,
    ) {
        let point = HookPoint::Layer(layer, Site::LoraOut(module));
        let wanted = self.tap.rows_wanted(point, offset(rows, first_row));
        let mut added = Mat::zeros(wanted.len(), y.cols);
        let mut slices: Vec<&mut [R]> = added.data.chunks_exact_mut(y.cols.max(1)).collect();
        self.tap.at_rows(point, &wanted, &mut slices);
        for (n, row) in wanted.into_iter().enumerate() {
            lorascope_kernels::add_assign(y.row_mut(row - first_row), added.row(n));
        }
    }

    /// The same map, bit for bit, for rows that are not in the batch: without hook points.
    pub(super) fn linear_untapped(&self, w: &LinearWeights<R>, x: &Mat<R>, runs: &Runs) -> Mat<R> {
        let mut y = Mat::zeros(x.rows, w.weight.of(0).n_out());
        base_product(w, x, runs, &mut y);
        for (model, rows) in runs {
            let Some(update) = w.low_rank(*model) else { continue };
            let mut features = Mat::zeros(rows.len(), update.a.n_out());
            low_rank_features(update, x, rows.clone(), &mut features);
            features.data.iter_mut().for_each(|v| *v *= update.scale);
            if adds_at_once(update) {
                add_low_rank(update, &features, &mut y, rows.clone());
            } else {
                let added = low_rank_output(update, &features, &y, rows.clone());
                add_rows(&mut y, rows.clone(), &added);
            }
        }
        add_biases(w, &mut y, runs);
        y
    }

    /// What the adapters add to the output because of a part of the inputs; zeros for models without one. Without biases.
    pub(super) fn low_rank_share(
        &self,
        w: &LinearWeights<R>,
        x: &Mat<R>,
        inputs: Range<usize>,
        runs: &Runs,
    ) -> Mat<R> {
        let mut y = Mat::zeros(x.rows, w.weight.of(0).n_out());
        let part = |rows: &Range<usize>| {
            MatRef::strided(&x.data[rows.start * x.cols + inputs.start..], rows.len(), inputs.len(), x.cols)
        };
        for (model, rows) in runs {
            let Some(update) = w.low_rank(*model) else { continue };
            let mut features = Mat::zeros(rows.len(), update.a.n_out());
            matmul_inner(features.view_mut(), part(rows), &update.a, inputs.clone(), Write::Set);
            matmul_into(&features, &update.b, Write::AddScaled(update.scale), &mut y, rows.clone());
            if let Some(gain) = &update.gain {
                // g ⊙ (Wx + sBAx) − Wx
                hadamard_rows(rows_of(&mut y, rows.clone()), gain);
                let mut base = Mat::zeros(rows.len(), y.cols);
                matmul_inner(base.view_mut(), part(rows), w.weight.of(*model), inputs.clone(), Write::Set);
                let more: Vec<R> = gain.iter().map(|&g| g - R::ONE).collect();
                hadamard_rows(&mut base.data, &more);
                add_rows(&mut y, rows.clone(), &base);
            }
        }
        y
    }

    /// What a part of the inputs contributes to the output, for rows of any models: `x` in full width, of which only `inputs`
    /// are read. Without biases and without hook points.
    pub(super) fn linear_share(
        &self,
        w: &LinearWeights<R>,
        x: &Mat<R>,
        inputs: Range<usize>,
        runs: &Runs,
    ) -> Mat<R> {
        let mut y = Mat::zeros(x.rows, w.weight.of(0).n_out());
        let part = |rows: &Range<usize>| {
            MatRef::strided(&x.data[rows.start * x.cols + inputs.start..], rows.len(), inputs.len(), x.cols)
        };
        for (model, rows) in runs {
            let weight = w.weight.of(*model);
            matmul_inner(y.rows_view_mut(rows.clone()), part(rows), weight, inputs.clone(), Write::Set);
            let Some(update) = w.low_rank(*model) else { continue };
            let mut features = Mat::zeros(rows.len(), update.a.n_out());
            matmul_inner(features.view_mut(), part(rows), &update.a, inputs.clone(), Write::Set);
            matmul_into(&features, &update.b, Write::AddScaled(update.scale), &mut y, rows.clone());
            if let Some(gain) = &update.gain {
                hadamard_rows(rows_of(&mut y, rows.clone()), gain);
            }
        }
        y
    }
}

/// An update with a factor; `None` where there is no update.
type Taken<'w, R> = Option<(&'w LowRankWeights<R>, R)>;

fn is_same<R: Number>(one: Taken<R>, other: Taken<R>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some((a, f)), Some((b, g))) => std::ptr::eq(a, b) && f == g,
        _ => false,
    }
}

fn offset(rows: &Range<usize>, by: usize) -> Range<usize> {
    rows.start + by..rows.end + by
}

fn rows_of<R>(m: &mut Mat<R>, rows: Range<usize>) -> &mut [R] {
    &mut m.data[rows.start * m.cols..rows.end * m.cols]
}

fn matmul_into<R: Number>(
    x: &Mat<R>,
    w: &lorascope_kernels::Packed<R>,
    write: Write<R>,
    y: &mut Mat<R>,
    rows: Range<usize>,
) {
    matmul(y.rows_view_mut(rows), x.view(), w, write);
}

/// `W x`, with one product for all neighbouring runs that share W.
fn base_product<R: Number>(w: &LinearWeights<R>, x: &Mat<R>, runs: &Runs, y: &mut Mat<R>) {
    let shares_base = |model: ModelId| !w.weight.is_replaced(model);
    for group in runs.chunk_by(|a, b| shares_base(a.0) && shares_base(b.0)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let rows = first.1.start..last.1.end;
        matmul(y.rows_view_mut(rows.clone()), x.rows_view(rows), w.weight.of(first.0), Write::Set);
    }
}

/// `A x`: the adapter's own features.
fn low_rank_features<R: Number>(
    update: &LowRankWeights<R>,
    x: &Mat<R>,
    rows: Range<usize>,
    features: &mut Mat<R>,
) {
    matmul(features.view_mut(), x.rows_view(rows), &update.a, Write::Set);
}

/// Whether the low-rank term can be added to the output by the product itself with the same bits as when it is
/// computed apart and added then: whether somebody looks at it must not change a number.
fn adds_at_once<R: Number>(update: &LowRankWeights<R>) -> bool {
    /// Up to here the product adds one sum; beyond, it adds the parts of the inner dimension one after the other.
    const ONE_SUM: usize = 256;
    update.gain.is_none() && update.bias.is_none() && update.a.n_out() <= ONE_SUM
}

/// Adds the low-rank term where nobody looks at it by itself; `features` are scaled.
fn add_low_rank<R: Number>(
    update: &LowRankWeights<R>,
    features: &Mat<R>,
    y: &mut Mat<R>,
    rows: Range<usize>,
) {
    matmul_into(features, &update.b, Write::AddScaled(R::ONE), y, rows);
}

/// Exactly what the adapter adds to the module's output: `hook_lora_out`; `features` are scaled.
fn low_rank_output<R: Number>(
    update: &LowRankWeights<R>,
    features: &Mat<R>,
    y: &Mat<R>,
    rows: Range<usize>,
) -> Mat<R> {
    let mut added = Mat::zeros(rows.len(), y.cols);
    matmul_into(features, &update.b, Write::Set, &mut added, 0..rows.len());
    if let Some(gain) = &update.gain {
        // g ⊙ (Wx + sBAx) − Wx
        added.for_rows(|i, row| {
            for ((a, &base), &g) in row.iter_mut().zip(y.row(rows.start + i)).zip(gain) {
                *a = g * *a + (g - R::ONE) * base;
            }
        });
    }
    if let Some(bias) = &update.bias {
        add_row(&mut added.data, bias);
    }
    added
}

fn add_rows<R: Number>(y: &mut Mat<R>, rows: Range<usize>, added: &Mat<R>) {
    lorascope_kernels::add_assign(rows_of(y, rows), &added.data);
}

fn add_biases<R: Number>(w: &LinearWeights<R>, y: &mut Mat<R>, runs: &Runs) {
    for (model, rows) in runs {
        if let Some(bias) = w.bias.of(*model) {
            add_row(rows_of(y, rows.clone()), bias);
        }
    }
}
