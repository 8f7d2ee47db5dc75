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

#[cfg(test)]
mod tests {
    use super::{View, interleaved};
    use crate::bytes::Bytes;
    use crate::dtype::{Blocked, DType};
    use crate::tensor::{Store, StoredTensor};

    /// Q8_0 with scales of 1 and pseudo-random codes, `rows` by `cols` as stored; large enough for several threads.
    fn store(rows: usize, cols: usize) -> Store {
        let mut state = 1u32;
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / 32 {
            bytes.extend(half::f16::ONE.to_le_bytes());
            bytes.extend((0..32).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }));
        }
        Store::Blocked(Blocked::new(DType::Q8_0).unwrap(), Bytes::owned(bytes))
    }

    fn tensor(store: &Store, shape: [usize; 2], view: View) -> StoredTensor {
        StoredTensor::new("t".into(), shape.to_vec(), store.clone(), view)
    }

    #[test]
    fn a_quantised_transposed_tensor_is_the_transpose() {
        let (n_out, n_in) = (401, 704);
        let store = store(n_out, n_in);
        let stored = tensor(&store, [n_out, n_in], View::AsStored).to_f32().unwrap();
        let tensor = tensor(&store, [n_in, n_out], View::Transposed);
        let whole = tensor.to_f32().unwrap();
        for i in 0..n_in {
            for o in 0..n_out {
                assert_eq!(whole[i * n_out + o], stored[o * n_in + i]);
            }
        }
        let mut some = vec![0.0; 300 * n_out];
        tensor.widen_rows(37..337, &mut some).unwrap();
        assert_eq!(some, whole[37 * n_out..337 * n_out]);
    }

    #[test]
    fn interleaved_heads_come_apart_and_one_is_taken_off() {
        let (rows, cols, head_dim) = (512, 288, 64);
        let store = store(rows, cols);
        let stored = tensor(&store, [rows, cols], View::AsStored).to_f32().unwrap();
        let heads = tensor(&store, [rows, cols], View::Interleaved { head_dim }).to_f32().unwrap();
        // Head 2: row 3 of the second half is the odd partner of pair 3.
        assert_eq!(heads[(2 * 64 + 32 + 3) * cols..][..cols], stored[(2 * 64 + 7) * cols..][..cols]);
        let mut seen: Vec<usize> = (0..rows).map(|row| interleaved(row, head_dim)).collect();
        for (row, from) in seen.iter().enumerate() {
            assert_eq!(heads[row * cols..][..cols], stored[from * cols..][..cols]);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..rows));
        let less = tensor(&store, [rows, cols], View::LessOne).to_f32().unwrap();
        assert!(less.iter().zip(&stored).all(|(less, stored)| *less == stored - 1.0));
    }
}
