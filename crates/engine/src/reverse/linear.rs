//! The way back through linear maps: `dx = Wᵀ dy`, and through the adapters' low-rank terms.

use super::walk::Walk;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::weights::{LayerWeights, LinearWeights};
use lorascope_kernels::{MatRef, Packed, Write, add_assign, hadamard_rows, matmul_transposed, scale_assign};
use std::ops::Range;

impl<R: Number> Walk<'_, '_, R> {
    /// The gradient of a module's input from that of its output; `input` and `features` as the tape has them.
    #[allow(clippy::too_many_arguments, reason = "a step of the tape, its place, and its gradient")]
    pub(super) fn linear(
        &mut self,
        layer: usize,
        module: Module,
        w: &LinearWeights<R>,
        first_row: usize,
        input: Option<&Mat<R>>,
        features: &[Mat<R>],
        mut dy: Mat<R>,
    ) -> Mat<R> {
        let runs = self.batch.runs_within(first_row..first_row + dy.rows);
        let mut dx = Mat::zeros(dy.rows, w.weight.of(0).n_in());
        let mut features = features.iter();
        for (model, rows) in &runs {
            if let Some(input) = input {
                let (x, dy) = (input.rows_view(rows.clone()), dy.rows_view(rows.clone()));
                self.collected.weight(*model, layer, module, x, dy);
            }
            let (at, point) = (first_row + rows.start, HookPoint::Layer(layer, Site::LoraOut(module)));
            let update = w.low_rank(*model);
            if update.is_none() && !self.tap.wants(point) {
                continue;
            }
            let mut added = dy.gather(&rows.clone().collect::<Vec<_>>());
            self.tap.back_at(point, at, &mut added);
            let Some(update) = update else { continue };
            if let Some(gain) = &update.gain {
                // The adapter adds g ⊙ (Wx + sBAx) − Wx.
                let more: Vec<R> = gain.iter().map(|&g| g - R::ONE).collect();
                let mut through_base = added.clone();
                hadamard_rows(&mut through_base.data, &more);
                let own = &mut dy.data[rows.start * added.cols..rows.end * added.cols];
                add_assign(own, &through_base.data);
                hadamard_rows(&mut added.data, gain);
            }
            if let Some(features) = features.next() {
                self.collected.lora_b(*model, layer, module, added.view(), features.view());
            }
            let mut of_features = Mat::zeros(rows.len(), update.a.n_out());
            matmul_transposed(of_features.view_mut(), added.view(), &update.b, Write::Set);
            scale_assign(&mut of_features.data, update.scale);
            self.tap.back_at(HookPoint::Layer(layer, Site::LoraA(module)), at, &mut of_features);
            if let Some(input) = input {
                self.collected.lora_a(
                    *model,
                    layer,
                    module,
                    input.rows_view(rows.clone()),
                    of_features.view(),
                );
            }
            matmul_transposed(dx.rows_view_mut(rows.clone()), of_features.view(), &update.a, Write::Set);
        }
        let shares_base = |model: usize| !w.weight.is_replaced(model);
        for group in runs.chunk_by(|a, b| shares_base(a.0) && shares_base(b.0)) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let rows = first.1.start..last.1.end;
            add_product(&mut dx, &dy, rows, w.weight.of(first.0));
        }
        dx
    }

    /// `hook_q_input`, `hook_k_input`, `hook_v_input`, where somebody asks for them: the gradient of what each head alone
    /// read from the residual stream.
    pub(super) fn input_gradients(
        &mut self,
        layer: usize,
        module: Module,
        w: &LayerWeights<R>,
        rows: &Range<usize>,
        dy: &Mat<R>,
    ) {
        let site = match module {
            Module::Q => Site::QInput,
            Module::K => Site::KInput,
            Module::V => Site::VInput,
            _ => return,
        };
        let point = HookPoint::Layer(layer, site);
        let wanted = self.tap.rows_wanted(point, rows.clone());
        if wanted.is_empty() {
            return;
        }
        let spec = self.pass.model.spec();
        let d_head = spec.d_head;
        let n_heads = dy.cols / d_head;
        let weights = w.linear(module);
        for row in wanted {
            // Each head's slice by itself, the others zero; the norm that they read through comes next on the way back.
            let own = dy.row(row - rows.start);
            let mut slices = Mat::zeros(n_heads, dy.cols);
            for head in 0..n_heads {
                let part = head * d_head..(head + 1) * d_head;
                slices.row_mut(head)[part.clone()].copy_from_slice(&own[part]);
            }
            let model = self.batch.row(row).model;
            self.reads.push((point, row, self.untapped(weights, model, slices)));
        }
    }

    /// `dx` for rows of one model, without taps and parameters.
    fn untapped(&self, w: &LinearWeights<R>, model: usize, mut dy: Mat<R>) -> Mat<R> {
        let mut dx = Mat::zeros(dy.rows, w.weight.of(model).n_in());
        if let Some(update) = w.low_rank(model) {
            if let Some(gain) = &update.gain {
                hadamard_rows(&mut dy.data, gain);
            }
            let mut of_features = Mat::zeros(dy.rows, update.a.n_out());
            matmul_transposed(of_features.view_mut(), dy.view(), &update.b, Write::Set);
            scale_assign(&mut of_features.data, update.scale);
            matmul_transposed(dx.view_mut(), of_features.view(), &update.a, Write::Set);
        }
        let view: MatRef<R> = dy.view();
        matmul_transposed(dx.view_mut(), view, w.weight.of(model), Write::AddScaled(R::ONE));
        dx
    }
}

/// `dx += Wᵀ dy` for some rows. Above the last attention few rows have a gradient at all; where most have none, only the others are
/// multiplied.
fn add_product<R: Number>(dx: &mut Mat<R>, dy: &Mat<R>, rows: Range<usize>, weight: &Packed<R>) {
    let reached: Vec<usize> = rows.clone().filter(|&row| dy.row(row).iter().any(|&g| g != R::ZERO)).collect();
    if 2 * reached.len() > rows.len() {
        let into = dx.rows_view_mut(rows.clone());
        matmul_transposed(into, dy.rows_view(rows), weight, Write::AddScaled(R::ONE));
        return;
    }
    let mut own = dx.gather(&reached);
    matmul_transposed(own.view_mut(), dy.gather(&reached).view(), weight, Write::AddScaled(R::ONE));
    for (i, row) in reached.into_iter().enumerate() {
        dx.row_mut(row).copy_from_slice(own.row(i));
    }
}
