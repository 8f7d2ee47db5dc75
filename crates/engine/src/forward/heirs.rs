//! What branches inherit at the layer in which they begin.
//!
//! A branch that begins in the middle of a layer takes over what its origin had there: the residual stream, and the value
//! that its first edit changes. Origins leave these behind as they pass; nothing is kept for other rows.

use crate::batch::Batch;
use crate::branch::Stage;
use crate::mat::Mat;
use crate::number::Number;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// A value of a layer that can be inherited, edits of the origin included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    /// `hook_resid_pre`.
    ResidPre,
    /// `hook_z`.
    Z,
    /// `hook_attn_out`.
    AttnOut,
    /// `hook_resid_mid`.
    ResidMid,
    /// `mlp.hook_post`.
    MlpPost,
    /// `hook_mlp_out`.
    MlpOut,
}

/// The inheritances of one layer.
#[derive(Debug, Default)]
pub(super) struct Heirs<R> {
    /// Rows whose value will be inherited, with the value once it is there.
    left: HashMap<Wire, BTreeMap<usize, Vec<R>>>,
}

impl<R: Number> Heirs<R> {
    /// Prepares a layer: rows that are born in it take over the residual stream of the rows that they copy.
    pub fn of_layer(batch: &Batch, layer: usize, resid: &mut Mat<R>) -> Self {
        let mut left: HashMap<Wire, BTreeMap<usize, Vec<R>>> = HashMap::new();
        for (stage, rows) in batch.parts(layer).into_iter().skip(1) {
            let wires: &[Wire] = match stage {
                Stage::Layer => &[],
                Stage::Heads => &[Wire::ResidPre, Wire::Z],
                Stage::Mlp => &[Wire::ResidPre, Wire::AttnOut],
                Stage::Neurons => &[Wire::ResidMid, Wire::MlpPost],
                Stage::End => &[Wire::ResidMid, Wire::MlpOut],
            };
            for row in rows {
                let origin = origin(batch, row);
                resid.data.copy_within(origin * resid.cols..(origin + 1) * resid.cols, row * resid.cols);
                for &wire in wires {
                    left.entry(wire).or_default().entry(origin).or_default();
                }
            }
        }
        Self { left }
    }

    /// Keeps the values of rows that somebody inherits from; `values` are those of consecutive rows.
    pub fn keep(&mut self, wire: Wire, first_row: usize, values: &Mat<R>) {
        let Some(wanted) = self.left.get_mut(&wire) else { return };
        for (&row, value) in wanted.range_mut(first_row..first_row + values.rows) {
            *value = values.row(row - first_row).to_vec();
        }
    }

    /// The values that rows of branches inherit.
    pub fn inherit(&self, batch: &Batch, wire: Wire, rows: Range<usize>) -> Mat<R> {
        let left = self.left.get(&wire);
        let value = |row: usize| left.and_then(|l| l.get(&origin(batch, row))).into_iter().flatten().copied();
        let n = rows.len();
        let data: Vec<R> = rows.flat_map(value).collect();
        // A row that found nothing would leave the matrix short, which the product after it refuses.
        let cols = data.len() / n.max(1);
        Mat { data, rows: n, cols }
    }
}

fn origin(batch: &Batch, row: usize) -> usize {
    batch.origin(row).unwrap_or_else(|| unreachable!("only rows of branches are born in a layer"))
}
