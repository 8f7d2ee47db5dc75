//! Products of directions with stored matrices, in f64, widened a block of rows at a time.

use crate::error::Result;
use crate::mat::Mat;
use crate::weights::{vector, widen};
use lorascope_checkpoint::StoredTensor;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// Rows of a stored matrix that are widened at a time.
const BLOCK: usize = 64;
/// Rows of them that one task widens.
const ROWS_PER_TASK: usize = 8;
/// Columns that one task sums; their sums stay in the first-level cache.
const COLUMNS: usize = 512;

/// How a matrix `[outputs, inputs]` lies in a stored one.
pub(super) struct Place {
    /// Stored `[inputs, outputs]`.
    pub transposed: bool,
    /// Which of the stored matrix's outputs.
    pub outputs: Range<usize>,
    /// Inputs.
    pub n_in: usize,
}

impl Place {
    /// `Wᵀu` for every row u: `[rows, n_in]`. Equal rows are taken back once.
    pub fn through(&self, stored: &StoredTensor, directions: &Mat<f64>) -> Result<Mat<f64>> {
        let (distinct, place) = distinct_rows(directions);
        let pulled = if self.transposed {
            self.through_inputs(stored, &distinct)?
        } else {
            self.through_outputs(stored, &distinct)?
        };
        stored.release_pages();
        Ok(pulled.gather(&place))
    }

    /// A matrix stored `[outputs, inputs]`: output after output is added.
    fn through_outputs(&self, stored: &StoredTensor, directions: &Mat<f64>) -> Result<Mat<f64>> {
        let n_in = self.n_in;
        let mut out = Mat::zeros(directions.rows, n_in);
        for (first, n) in blocks(self.outputs.len()) {
            let start = self.outputs.start + first;
            let weights = widened(stored, start..start + n, n_in)?;
            out.data.par_chunks_exact_mut(n_in.max(1)).enumerate().for_each(|(d, sums)| {
                let u = &directions.row(d)[first..first + n];
                sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(c, sums)| {
                    let columns = c * COLUMNS..c * COLUMNS + sums.len();
                    for (u, row) in u.iter().zip(weights.chunks_exact(n_in)) {
                        sums.iter_mut().zip(&row[columns.clone()]).for_each(|(s, w)| *s += u * w);
                    }
                });
            });
        }
        Ok(out)
    }

    /// A matrix stored `[inputs, outputs]`: a product for each input.
    fn through_inputs(&self, stored: &StoredTensor, directions: &Mat<f64>) -> Result<Mat<f64>> {
        let width = stored.n_cols();
        let mut out = Mat::zeros(directions.rows, self.n_in);
        for (first, n) in blocks(self.n_in) {
            let weights = widened(stored, first..first + n, width)?;
            out.for_rows(|d, row| {
                for (value, w) in row[first..first + n].iter_mut().zip(weights.chunks_exact(width)) {
                    *value = directions.row(d).iter().zip(&w[self.outputs.clone()]).map(|(u, w)| u * w).sum();
                }
            });
        }
        Ok(out)
    }

    /// `u·bias`, one per row.
    pub fn through_bias(&self, bias: &StoredTensor, directions: &Mat<f64>) -> Result<Vec<f64>> {
        let bias: Vec<f64> = vector(bias)?;
        let own = &bias[self.outputs.clone()];
        let share = |d: usize| directions.row(d).iter().zip(own).map(|(u, b)| u * b).sum();
        Ok((0..directions.rows).map(share).collect())
    }
}

/// First row and number of rows of each block.
fn blocks(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(BLOCK).map(move |first| (first, BLOCK.min(n - first)))
}

/// Some rows of a stored matrix, in parallel.
fn widened(stored: &StoredTensor, rows: Range<usize>, n_cols: usize) -> Result<Vec<f64>> {
    let mut out = vec![0.0; rows.len() * n_cols];
    out.par_chunks_mut((ROWS_PER_TASK * n_cols).max(1)).enumerate().try_for_each(|(i, part)| {
        let first = rows.start + i * ROWS_PER_TASK;
        widen(stored, first..first + part.len() / n_cols, part)
    })?;
    Ok(out)
}

/// The distinct rows, and for each row which of them it is. Models without an output matrix or final norm of their own
/// read the same directions.
fn distinct_rows(rows: &Mat<f64>) -> (Mat<f64>, Vec<usize>) {
    let mut seen: HashMap<Vec<u64>, usize> = HashMap::new();
    let (mut first, mut place) = (Vec::new(), Vec::with_capacity(rows.rows));
    for i in 0..rows.rows {
        let bits = rows.row(i).iter().map(|v| v.to_bits()).collect();
        let next = seen.len();
        let at = *seen.entry(bits).or_insert(next);
        if at == next {
            first.push(i);
        }
        place.push(at);
    }
    (rows.gather(&first), place)
}
