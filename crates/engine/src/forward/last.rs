//! The last MLP, which is computed only for rows that somebody reads.
//!
//! What the last layer adds to a row concerns no other row: after its attention, all that is left of a run is what is read of it, which
//! of a prompt is one row or few. In a model of thirty layers that saves a fortieth of the work.

use super::Pass;
use super::heirs::Wire;
use crate::branch::Stage;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::number::Number;
use crate::weights::LayerWeights;
use std::ops::Range;

impl<R: Number> Pass<'_, '_, R> {
    /// Has the run leave out what nobody reads of the last layer: all but these rows, and those with requests at the final norm. Not where
    /// there are requests within the layer, or rows that are born in the middle of it.
    pub(super) fn reads_only(&mut self, readout: &[usize]) {
        let last = self.model.spec().n_layers - 1;
        let is_asked =
            self.tap.points().any(|point| matches!(point, HookPoint::Layer(layer, _) if layer == last));
        if is_asked || self.batch.parts(last).iter().any(|(stage, _)| *stage != Stage::Layer) {
            return;
        }
        let all = 0..self.batch.n_rows();
        let mut read = readout.to_vec();
        read.extend(self.tap.rows_wanted(HookPoint::FinalScale, all.clone()));
        read.extend(self.tap.rows_wanted(HookPoint::FinalNormalized, all));
        read.sort_unstable();
        read.dedup();
        self.read = Some(read);
    }

    /// Adds the MLP's output to the residual stream of a block of rows, from `first` on.
    pub(super) fn add_mlp(&mut self, layer: usize, w: &LayerWeights<R>, first: usize, x: &mut Mat<R>) {
        for rows in self.rows_read(layer, first..first + x.rows) {
            if rows.len() == x.rows {
                let out = self.mlp(layer, w, first, x);
                x.add(&out);
                self.scratch.give(out);
            } else {
                let own = x.gather(&(rows.start - first..rows.end - first).collect::<Vec<_>>());
                let out = self.mlp(layer, w, rows.start, &own);
                for (i, row) in rows.enumerate() {
                    lorascope_kernels::add_assign(x.row_mut(row - first), out.row(i));
                }
                self.scratch.give(out);
            }
        }
    }

    /// The MLP's output, with its taps.
    fn mlp(&mut self, layer: usize, w: &LayerWeights<R>, first: usize, x: &Mat<R>) -> Mat<R> {
        let post = self.neurons(layer, w, first, x);
        let mut out = self.write_neurons(layer, w, first, post);
        self.tap(layer, Site::MlpOut, first, &mut out);
        self.heirs.keep(Wire::MlpOut, first, &out);
        out
    }

    /// The rows of a block whose stream after the layer is read, in stretches.
    fn rows_read(&self, layer: usize, block: Range<usize>) -> Vec<Range<usize>> {
        let Some(read) = self.read.as_ref().filter(|_| layer + 1 == self.model.spec().n_layers) else {
            return vec![block];
        };
        let within =
            &read[read.partition_point(|&r| r < block.start)..read.partition_point(|&r| r < block.end)];
        // Small products take longer for each row.
        if 2 * within.len() > block.len() {
            return vec![block];
        }
        within.chunk_by(|a, b| a + 1 == *b).map(|rows| rows[0]..rows[rows.len() - 1] + 1).collect()
    }
}
