//! From the order in which a file keeps a tensor to the order that Hugging Face has: the conversions of llama.cpp's
//! converter, undone while widening, so that the data stay mapped as they are.

use crate::tensor::Store;
use std::ops::Range;

/// Rows that are transposed together: the longest ggml block, so that no block is decoded twice.
const TRANSPOSE_ROWS: usize = crate::ggml::MAX_BLOCK;

/// How stored numbers relate to the Hugging Face tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Same order, same values.
    AsStored,
    /// Stored is weight + 1 (Gemma's norms in GGUF).
    LessOne,
    /// Query or key rows with the two halves of each head interleaved (llama architecture in GGUF: pairs (0, 1),
    /// (2, 3), ... are rotated there; Hugging Face rotates (0, d/2), (1, d/2 + 1), ...).
    Interleaved {
        /// Rows of one head; even, and a divisor of the number of rows.
        head_dim: usize,
    },
    /// Stored is `[out, in]`, Hugging Face has `[in, out]` (GPT-2's Conv1D in GGUF).
    Transposed,
}

impl View {
    /// Widens Hugging Face rows `rows` of a tensor of Hugging Face shape `shape` into `out`.
    pub(crate) fn widen(self, store: &Store, shape: &[usize], rows: Range<usize>, out: &mut [f32]) {
        let n_cols = shape.last().copied().unwrap_or(1);
        match self {
            View::AsStored => store.widen_from(rows.start * n_cols, out),
            View::LessOne => {
                store.widen_from(rows.start * n_cols, out);
                out.iter_mut().for_each(|x| *x -= 1.0);
            }
            View::Interleaved { head_dim } => {
                // A bias is one row, but it is its elements that are regrouped.
                let (first, unit) = if shape.len() == 1 { (0, 1) } else { (rows.start, n_cols) };
                if unit > 0 {
                    for (i, out) in out.chunks_exact_mut(unit).enumerate() {
                        store.widen_from(interleaved(first + i, head_dim) * unit, out);
                    }
                }
            }
            View::Transposed => transpose(store, shape, rows, out),
        }
    }

    /// Smallest convenient number of rows, at least `wanted`, to widen in one go.
    pub(crate) fn rows_together(self, wanted: usize) -> usize {
        match self {
            View::Transposed => wanted.next_multiple_of(TRANSPOSE_ROWS),
            _ => wanted.max(1),
        }
    }
}

/// Where the file keeps Hugging Face row `row`: row (half, i) of a head is stored as (i, half).
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let (half, i) = (within / (head_dim / 2), within % (head_dim / 2));
    head * head_dim + 2 * i + half
}

fn transpose(store: &Store, shape: &[usize], rows: Range<usize>, out: &mut [f32]) {
    let &[n_in, n_out] = shape else { unreachable!("only matrices get this view") };
    if n_out == 0 {
        return;
    }
    let mut run = [0.0; TRANSPOSE_ROWS];
    for (piece, out) in out.chunks_mut(TRANSPOSE_ROWS * n_out).enumerate() {
        let first = rows.start + piece * TRANSPOSE_ROWS;
        let run = &mut run[..out.len() / n_out];
        for column in 0..n_out {
            store.widen_from(column * n_in + first, run);
            for (row, x) in run.iter().enumerate() {
                out[row * n_out + column] = *x;
            }
        }
    }
}
