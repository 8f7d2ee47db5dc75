//! What heads and MLPs read from the residual stream, where somebody changes it for one of them alone.
//!
//! `hook_q_input`, `hook_k_input` and `hook_v_input` are one copy of the residual stream per head, `hook_mlp_in` one for the
//! MLP. An edit there changes what this one reader sees and nothing else: an edge of the computation rather than a
//! node (path patching). Readers whose copy was not changed keep what was computed for all of them together.

use super::Pass;
use crate::batch::ModelId;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::weights::LayerWeights;

impl<R: Number> Pass<'_, '_, R> {
    /// The MLP's input after its norm: `[rows, d_model]`.
    pub(super) fn mlp_input(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_mid: &Mat<R>,
    ) -> Mat<R> {
        let point = HookPoint::Layer(layer, Site::MlpIn);
        if self.tap.rows_wanted(point, first_row..first_row + resid_mid.rows).is_empty() {
            return self.norm(layer, Site::Ln2Scale, &w.norm_2, first_row, resid_mid).0;
        }
        let mut read = resid_mid.clone();
        self.tap.at(point, first_row, &mut read);
        self.norm(layer, Site::Ln2Scale, &w.norm_2, first_row, &read).0
    }

    /// Computes anew the slices of `out` (queries, keys or values before their norm) of the heads whose input was changed.
    pub(super) fn head_inputs(
        &mut self,
        layer: usize,
        module: Module,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_pre: &Mat<R>,
        out: &mut Mat<R>,
    ) {
        let site = match module {
            Module::Q => Site::QInput,
            Module::K => Site::KInput,
            _ => Site::VInput,
        };
        let point = HookPoint::Layer(layer, site);
        let (d, d_head) = (resid_pre.cols, self.model.spec().d_head);
        let n_heads = out.cols / d_head;
        let mut changed: Vec<(usize, usize)> = Vec::new();
        let mut inputs = Mat::zeros(0, d);
        let mut runs: Vec<(ModelId, std::ops::Range<usize>)> = Vec::new();
        let wanted = self.tap.rows_wanted(point, first_row..first_row + resid_pre.rows);
        let mut all: Vec<Vec<R>> =
            wanted.iter().map(|row| resid_pre.row(row - first_row).repeat(n_heads)).collect();
        let mut slices: Vec<&mut [R]> = all.iter_mut().map(Vec::as_mut_slice).collect();
        self.tap.at_rows(point, &wanted, &mut slices);
        for (row, copies) in wanted.into_iter().zip(all) {
            let model = self.batch.row(row).model;
            let before = resid_pre.row(row - first_row);
            for (head, read) in copies.chunks_exact(d).enumerate().filter(|(_, read)| *read != before) {
                changed.push((row - first_row, head));
                inputs.data.extend_from_slice(read);
                inputs.rows += 1;
                match runs.last_mut() {
                    Some((last, rows)) if *last == model => rows.end = inputs.rows,
                    _ => runs.push((model, inputs.rows - 1..inputs.rows)),
                }
            }
        }
        if changed.is_empty() {
            return;
        }
        let kind = self.model.spec().norm;
        let mut normalized = Mat::zeros(inputs.rows, d);
        for (model, rows) in &runs {
            for i in rows.clone() {
                super::norm_row(kind, w.norm_1.of(*model), inputs.row(i), normalized.row_mut(i));
            }
        }
        let computed = self.linear_untapped(w.linear(module), &normalized, &runs);
        for (i, (row, head)) in changed.into_iter().enumerate() {
            let part = head * d_head..(head + 1) * d_head;
            out.row_mut(row)[part.clone()].copy_from_slice(&computed.row(i)[part]);
        }
    }
}
