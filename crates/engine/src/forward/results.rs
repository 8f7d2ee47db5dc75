//! What each head adds to the residual stream by itself, where somebody asks for it.

use super::Pass;
use super::tape::Step;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::weights::LayerWeights;

impl<R: Number> Pass<'_, '_, R> {
    /// `hook_result`: each head's share of the output, as added; an edit of a head's result changes the output by the
    /// difference. The post-attention norm is frozen at its actual scale.
    pub(super) fn head_results(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        z: &Mat<R>,
        scales: Option<&[R]>,
        out: &mut Mat<R>,
    ) {
        self.record(|| Step::Results(Site::Result));
        let point = HookPoint::Layer(layer, Site::Result);
        let wanted = self.tap.rows_wanted(point, first_row..first_row + z.rows);
        if wanted.is_empty() {
            return;
        }
        let (d, d_head) = (out.cols, self.model.spec().d_head);
        let own: Vec<usize> = wanted.iter().map(|row| row - first_row).collect();
        let runs = self.runs_of(&wanted);
        let z = z.gather(&own);
        // The projection is linear: head by head, its slice of z through its columns of the weights.
        let heads: Vec<Mat<R>> = (0..self.model.spec().n_heads)
            .map(|head| head * d_head..(head + 1) * d_head)
            .map(|slice| self.linear_share(w.linear(Module::O), &z, slice, &runs))
            .collect();
        let mut all = Mat::zeros(wanted.len(), heads.len() * d);
        for (n, (&row, &i)) in wanted.iter().zip(&own).enumerate() {
            let results = all.row_mut(n);
            put_side_by_side(&heads, n, results);
            if let (Some((post_norm, _)), Some(scales)) = (&w.post_norms, scales) {
                let weight = &post_norm.of(self.batch.row(row).model).weight;
                for result in results.chunks_exact_mut(d) {
                    result.iter_mut().zip(weight).for_each(|(v, &g)| *v = *v / scales[i] * g);
                }
            }
        }
        self.tap_shares(point, &wanted, first_row, all, out);
    }

    /// `hook_lora_result` where somebody asks for it: each head's share of what the adapter adds at the output projection,
    /// before the post-attention norm; zeros where the model has no adapter there. An edit changes the projection's output
    /// by the difference.
    pub(super) fn low_rank_results(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        z: &Mat<R>,
        out: &mut Mat<R>,
    ) {
        self.record(|| Step::Results(Site::LoraResult));
        let point = HookPoint::Layer(layer, Site::LoraResult);
        let wanted = self.tap.rows_wanted(point, first_row..first_row + z.rows);
        if wanted.is_empty() {
            return;
        }
        let (d, d_head) = (out.cols, self.model.spec().d_head);
        let own: Vec<usize> = wanted.iter().map(|row| row - first_row).collect();
        let (runs, z) = (self.runs_of(&wanted), z.gather(&own));
        let heads: Vec<Mat<R>> = (0..self.model.spec().n_heads)
            .map(|head| head * d_head..(head + 1) * d_head)
            .map(|slice| self.low_rank_share(w.linear(Module::O), &z, slice, &runs))
            .collect();
        let mut all = Mat::zeros(wanted.len(), heads.len() * d);
        (0..wanted.len()).for_each(|n| put_side_by_side(&heads, n, all.row_mut(n)));
        self.tap_shares(point, &wanted, first_row, all, out);
    }

    /// Taps the heads' shares of some rows, and adds to the output what that changed.
    fn tap_shares(
        &mut self,
        point: HookPoint,
        rows: &[usize],
        first_row: usize,
        mut shares: Mat<R>,
        out: &mut Mat<R>,
    ) {
        let before = shares.clone();
        let mut slices: Vec<&mut [R]> = shares.data.chunks_exact_mut(shares.cols.max(1)).collect();
        self.tap.at_rows(point, rows, &mut slices);
        let d = out.cols;
        for (n, row) in rows.iter().enumerate() {
            add_differences(out.row_mut(row - first_row), before.row(n), shares.row(n), d);
        }
    }

    /// Rows of one model each, among rows that were picked from the batch in order.
    fn runs_of(&self, rows: &[usize]) -> super::linear::Runs {
        let mut runs: super::linear::Runs = Vec::new();
        for (i, &row) in rows.iter().enumerate() {
            let model = self.batch.row(row).model;
            match runs.last_mut() {
                Some((last, range)) if *last == model => range.end = i + 1,
                _ => runs.push((model, i..i + 1)),
            }
        }
        runs
    }
}

/// Row `n` of each head's matrix, one after the other.
fn put_side_by_side<R: Number>(heads: &[Mat<R>], n: usize, out: &mut [R]) {
    let parts = out.chunks_exact_mut(heads.first().map_or(1, |head| head.cols.max(1)));
    parts.zip(heads).for_each(|(part, head)| part.copy_from_slice(head.row(n)));
}

/// Adds to `out` what an edit changed in some of its shares, which lie one after the other; those that it left alone
/// change no bit.
fn add_differences<R: Number>(out: &mut [R], before: &[R], after: &[R], d: usize) {
    for (old, new) in before.chunks_exact(d).zip(after.chunks_exact(d)) {
        if old != new {
            out.iter_mut().zip(old.iter().zip(new)).for_each(|(o, (&a, &b))| *o += b - a);
        }
    }
}
