//! The MLP of a layer.

use super::Pass;
use super::heirs::Wire;
use super::tape::Step;
use crate::hook::Site;
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::spec::Mlp;
use crate::weights::LayerWeights;
use lorascope_kernels::{activate, activate_gated};

impl<R: Number> Pass<'_, '_, R> {
    /// `mlp.hook_post`, what enters the down projection: `[rows, d_mlp]`.
    pub(super) fn neurons(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_mid: &Mat<R>,
    ) -> Mat<R> {
        let x = self.mlp_input(layer, w, first_row, resid_mid);
        let mut post = self.scratch.mat(x.rows, self.model.spec().d_mlp);
        match self.model.spec().mlp {
            Mlp::Gated(activation) => {
                let mut gate = self.linear(layer, Module::Gate, w.linear(Module::Gate), first_row, &x);
                self.tap(layer, Site::MlpPre, first_row, &mut gate);
                let up = self.linear(layer, Module::Up, w.linear(Module::Up), first_row, &x);
                post.for_rows(|i, row| activate_gated(activation, gate.row(i), up.row(i), row));
                self.record(|| Step::Activate { gate: Some(gate.clone()), up: up.clone() });
                self.scratch.give(gate);
                self.scratch.give(up);
            }
            Mlp::Plain(activation) => {
                let mut pre = self.linear(layer, Module::Up, w.linear(Module::Up), first_row, &x);
                self.tap(layer, Site::MlpPre, first_row, &mut pre);
                post.for_rows(|i, row| activate(activation, pre.row(i), row));
                self.record(|| Step::Activate { gate: None, up: pre.clone() });
                self.scratch.give(pre);
            }
        }
        self.scratch.give(x);
        post
    }

    /// The MLP's output from its hidden values, before the tap at `hook_mlp_out`: `[rows, d_model]`.
    pub(super) fn write_neurons(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        mut post: Mat<R>,
    ) -> Mat<R> {
        self.tap(layer, Site::MlpPost, first_row, &mut post);
        self.heirs.keep(Wire::MlpPost, first_row, &post);
        let mut out = self.linear(layer, Module::Down, w.linear(Module::Down), first_row, &post);
        self.scratch.give(post);
        if let Some((_, post_norm)) = &w.post_norms {
            let (normalized, _) = self.norm(layer, Site::Ln2PostScale, post_norm, first_row, &out);
            self.scratch.give(std::mem::replace(&mut out, normalized));
        }
        out
    }
}
