//! Matrix products with weights that were packed once.
//!
//! `out[row][o] = Σ_k x[row][k] · w[o][k]`: activations times the transpose of a weight matrix in the layout that
//! checkpoints use. General libraries re-pack the weights at every call, which for 1 to 128 rows costs more
//! than the product; here [`Packed`] holds panels of [`PANEL`] outputs, inner dimension first, so that the inner
//! loop reads them in order.
//!
//! **Order of additions.** Every output element is the sum of running fused multiply-adds over [`PARTIAL_K`] inner indices
//! each, added up first within and then over blocks of [`BLOCK_K`]. That order is the same for every tile shape, row count, thread count
//! and instruction set, so results are too, bit for bit.

use crate::device::inner_elsewhere;
use crate::packed::PANEL;
use crate::tile::{Rectangle, TURNED, block, block_transposed};
use crate::{MatMut, MatRef, Packed, Real};
use rayon::prelude::*;
use std::ops::Range;

/// Inner indices per block: a panel's block (16 KiB in f32) stays in the first-level cache.
pub(crate) const BLOCK_K: usize = 256;
/// Inner indices per running sum; sums of this length are then added up, so that rounding errors grow with the number
/// of sums instead of the number of products.
pub(crate) const PARTIAL_K: usize = 32;
/// Rows per task at most: their block of activations stays in the second-level cache.
const BLOCK_ROWS: usize = 96;
/// Bytes of panels per task: they stay in the last-level cache while one row block after another passes, so that a
/// large matrix is read from memory once instead of once per row block.
const GROUP_BYTES: usize = 1 << 20;
/// Floating-point operations below which a second thread costs more than it saves.
const SERIAL_BELOW: usize = 1 << 19;

/// What [`matmul`] does with what the output held before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Write<R> {
    /// `out = product`.
    Set,
    /// `out += scale · product`.
    AddScaled(R),
}

/// Where a task may write: columns of the output that no other task has.
struct OutPtr<R>(*mut R);
// SAFETY: tasks write disjoint (rows, panels) rectangles; see `matmul`.
unsafe impl<R: Send> Sync for OutPtr<R> {}

/// `out = x · wᵀ` or `out += scale · x · wᵀ`; `x` is `[rows, n_in]`, `out` `[rows, n_out]`.
///
/// Runs on the current rayon pool when the product is large enough to pay for it.
pub fn matmul<R: Real>(out: MatMut<R>, x: MatRef<R>, w: &Packed<R>, write: Write<R>) {
    matmul_inner(out, x, w, 0..w.n_in(), write);
}

/// [`matmul`] over a part of the inner dimension: `out[row][o] = Σ_k x[row][k] · w[o][inner.start + k]` for the `k`
/// below `inner.len()`; `x` is `[rows, inner.len()]`, `out` `[rows, n_out]`. With a head's columns of the output
/// projection as `inner`, it is what that head adds to the residual stream.
///
/// Blocks of the inner dimension are counted from `inner.start`, so that the result is, bit for bit, that of [`matmul`] with
/// a matrix that has only these columns. The sum over all parts of a matrix is therefore not bit for bit the product
/// with the whole.
pub fn matmul_inner<R: Real>(
    out: MatMut<R>,
    x: MatRef<R>,
    w: &Packed<R>,
    inner: Range<usize>,
    write: Write<R>,
) {
    R::matmul_inner(out, x, w, inner, write);
}

pub(crate) fn product<R: Real>(
    mut out: MatMut<R>,
    x: MatRef<R>,
    w: &Packed<R>,
    inner: Range<usize>,
    write: Write<R>,
) {
    assert!(inner.end <= w.n_in(), "inner range {inner:?} within the {} inputs of the matrix", w.n_in());
    assert_eq!(x.cols, inner.len(), "inner dimension");
    assert_eq!((out.rows, out.cols), (x.rows, w.n_out()), "shape of the output");
    if x.rows == 0 || w.n_out() == 0 {
        return;
    }
    if write == Write::Set && inner_elsewhere(&mut out, x, w, &inner, &[]) {
        return;
    }
    let n_panels = w.n_out().div_ceil(PANEL);
    let stride = out.stride;
    let target = OutPtr(out.data.as_mut_ptr());
    let row_blocks = x.rows.div_ceil(BLOCK_ROWS);
    let threads = rayon::current_num_threads();
    // Each task is a rectangle of (panel group, row block). Tasks with the same panels follow one another; groups are
    // small enough for the cache and to balance the threads.
    let by_bytes = (n_panels * PANEL * inner.len() * size_of::<R>()).div_ceil(GROUP_BYTES);
    let groups = (4 * threads).div_ceil(row_blocks).max(by_bytes).clamp(1, n_panels);
    let part = |of: usize, n: usize, i: usize| i * of / n..(i + 1) * of / n;
    let task = |t: usize| {
        let rows = part(x.rows, row_blocks, t % row_blocks);
        let panels = part(n_panels, groups, t / row_blocks);
        let target = &target;
        block::<R>(
            Rectangle { out: target.0, stride, n_out: w.n_out(), rows, panels, write },
            x,
            w,
            inner.start,
        );
    };
    if threads == 1 || 2 * x.rows * inner.len() * w.n_out() < SERIAL_BELOW {
        (0..row_blocks * groups).for_each(task);
    } else {
        (0..row_blocks * groups).into_par_iter().for_each(task);
    }
}

/// Product with the matrix itself in place of its transpose, from the same panels: `out[row][k] = Σ_o dy[row][o] · w[o][k]`;
/// `dy` is `[rows, n_out]`, `out` `[rows, n_in]`. It takes gradients and directions of the output back to the input.
///
/// Bit for bit [`matmul`] with `w` packed by [`Packed::from_input_rows`], with the order of additions described there.
/// Each block of panels is transposed for all rows at once, which for fewer than about 16 rows takes as long as the product.
pub fn matmul_transposed<R: Real>(out: MatMut<R>, dy: MatRef<R>, w: &Packed<R>, write: Write<R>) {
    R::matmul_transposed(out, dy, w, write);
}

pub(crate) fn transposed_product<R: Real>(out: MatMut<R>, dy: MatRef<R>, w: &Packed<R>, write: Write<R>) {
    assert_eq!(dy.cols, w.n_out(), "inner dimension");
    assert_eq!((out.rows, out.cols), (dy.rows, w.n_in()), "shape of the output");
    if dy.rows == 0 || w.n_in() == 0 {
        return;
    }
    let n_panels = w.n_in().div_ceil(PANEL);
    let stride = out.stride;
    let target = OutPtr(out.data.as_mut_ptr());
    let threads = rayon::current_num_threads();
    let n_turned = n_panels.div_ceil(TURNED);
    let groups = (4 * threads).min(n_turned);
    let task = |g: usize| {
        let panels = g * n_turned / groups * TURNED..n_panels.min((g + 1) * n_turned / groups * TURNED);
        let target = &target;
        let to = Rectangle { out: target.0, stride, n_out: w.n_in(), rows: 0..dy.rows, panels, write };
        block_transposed::<R>(to, dy, w);
    };
    if threads == 1 || 2 * dy.rows * w.n_in() * w.n_out() < SERIAL_BELOW {
        (0..groups).for_each(task);
    } else {
        (0..groups).into_par_iter().for_each(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect()
    }

    fn naive(x: &[f32], w: &[f32], rows: usize, n_in: usize, n_out: usize) -> Vec<f64> {
        let mut out = vec![0.0; rows * n_out];
        for r in 0..rows {
            for o in 0..n_out {
                out[r * n_out + o] =
                    (0..n_in).map(|k| f64::from(x[r * n_in + k]) * f64::from(w[o * n_in + k])).sum();
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_the_naive_product(rows in 1usize..130, n_in in 1usize..600, n_out in 1usize..70, seed in 0u64..1000) {
            let (x, w) = (noise(rows * n_in, seed), noise(n_out * n_in, seed + 1));
            let expected = naive(&x, &w, rows, n_in, n_out);
            let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
            let mut out = vec![f32::NAN; rows * n_out];
            matmul(MatMut::new(&mut out, rows, n_out), MatRef::new(&x, rows, n_in), &packed, Write::Set);
            for (got, want) in out.iter().zip(&expected) {
                prop_assert!((f64::from(*got) - want).abs() < 1e-4);
            }
            matmul(MatMut::new(&mut out, rows, n_out), MatRef::new(&x, rows, n_in), &packed, Write::AddScaled(-1.0));
            for got in &out {
                prop_assert!(got.abs() < 1e-4, "adding minus the product must cancel it");
            }
        }

        #[test]
        fn a_part_of_the_inner_dimension_equals_the_product_with_those_columns(
            rows in 1usize..70, n_in in 1usize..700, n_out in 1usize..70, cuts in (0usize..700, 0usize..700),
        ) {
            let (a, b) = (cuts.0 % (n_in + 1), cuts.1 % (n_in + 1));
            let inner = a.min(b)..a.max(b);
            let (x, w) = (noise(rows * inner.len(), 5), noise(n_out * n_in, 6));
            let columns: Vec<f32> = w.chunks(n_in).flat_map(|row| row[inner.clone()].to_vec()).collect();
            let x = MatRef::new(&x, rows, inner.len());
            let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
            let part = Packed::from_output_rows(MatRef::new(&columns, n_out, inner.len()));
            let (mut got, mut want) = (vec![0.25f32; rows * n_out], vec![0.25f32; rows * n_out]);
            matmul_inner(MatMut::new(&mut got, rows, n_out), x, &packed, inner.clone(), Write::AddScaled(0.5));
            matmul(MatMut::new(&mut want, rows, n_out), x, &part, Write::AddScaled(0.5));
            prop_assert_eq!(&got, &want);
            let exact = naive(x.row(0), &columns[..inner.len()], 1, inner.len(), 1);
            prop_assert!((f64::from(got[0]) - (0.25 + 0.5 * exact[0])).abs() < 1e-4);
        }

        #[test]
        fn the_transposed_product_is_that_with_the_transposed_matrix(
            rows in 1usize..130, n_in in 1usize..150, n_out in 1usize..600, seed in 0u64..1000,
        ) {
            let (dy, w) = (noise(rows * n_out, seed), noise(n_out * n_in, seed + 1));
            let dy = MatRef::new(&dy, rows, n_out);
            let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
            let turned = Packed::from_input_rows(MatRef::new(&w, n_out, n_in));
            let (mut got, mut want) = (vec![0.5f32; rows * n_in], vec![0.5f32; rows * n_in]);
            for write in [Write::AddScaled(2.0), Write::Set] {
                matmul_transposed(MatMut::new(&mut got, rows, n_in), dy, &packed, write);
                matmul(MatMut::new(&mut want, rows, n_in), dy, &turned, write);
                prop_assert_eq!(&got, &want);
            }
            for (at, got) in got.iter().enumerate() {
                let (r, k) = (at / n_in, at % n_in);
                let exact: f64 = (0..n_out).map(|o| f64::from(dy.row(r)[o]) * f64::from(w[o * n_in + k])).sum();
                prop_assert!((f64::from(*got) - exact).abs() < 1e-4);
            }
        }

        #[test]
        fn a_row_does_not_depend_on_its_company(rows in 2usize..220, n_in in 1usize..600, n_out in 1usize..300, at in 0usize..220) {
            let at = at % rows;
            let (x, w) = (noise(rows * n_in, 3), noise(n_out * n_in, 4));
            let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
            let mut together = vec![0.0f32; rows * n_out];
            matmul(MatMut::new(&mut together, rows, n_out), MatRef::new(&x, rows, n_in), &packed, Write::Set);
            let mut alone = vec![0.0f32; n_out];
            let row = MatRef::new(&x[at * n_in..(at + 1) * n_in], 1, n_in);
            matmul(MatMut::new(&mut alone, 1, n_out), row, &packed, Write::Set);
            prop_assert_eq!(&together[at * n_out..(at + 1) * n_out], &alone[..]);
        }
    }

    /// The order of additions that the module's description promises, in plain loops.
    fn in_order(x: &[f32], w: &[f32]) -> f32 {
        let mut out: Option<f32> = None;
        for (x, w) in x.chunks(256).zip(w.chunks(256)) {
            let mut total = 0.0;
            for (x, w) in x.chunks(32).zip(w.chunks(32)) {
                total += x.iter().zip(w).fold(0.0f32, |sum, (&a, &b)| a.mul_add(b, sum));
            }
            out = Some(out.map_or(total, |sum| sum + total));
        }
        out.unwrap_or(0.0)
    }

    #[test]
    fn tiles_of_every_height_and_width_add_in_the_same_order() {
        for n_in in [1, 31, 256, 300, 577] {
            for n_out in [1, 16, 40, 64, 100, 150] {
                let w = noise(n_out * n_in, 7);
                let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
                for rows in (1..=26).chain([47, 49, 56, 64, 97, 130]) {
                    let x = noise(rows * n_in, 8);
                    let mut out = vec![f32::NAN; rows * n_out];
                    matmul(
                        MatMut::new(&mut out, rows, n_out),
                        MatRef::new(&x, rows, n_in),
                        &packed,
                        Write::Set,
                    );
                    for (at, got) in out.iter().enumerate() {
                        let (r, o) = (at / n_out, at % n_out);
                        let want = in_order(&x[r * n_in..(r + 1) * n_in], &w[o * n_in..(o + 1) * n_in]);
                        assert_eq!(got.to_bits(), want.to_bits(), "{rows} x {n_in} x {n_out} at {r}, {o}");
                    }
                }
            }
        }
    }

    #[test]
    fn f64_and_strides() {
        let x: Vec<f64> = (0..24).map(f64::from).collect();
        let w: Vec<f64> = (0..6).map(f64::from).collect();
        let packed = Packed::from_output_rows(MatRef::new(&w, 2, 3));
        let mut out = vec![-1.0; 4 * 5];
        matmul(MatMut::strided(&mut out, 4, 2, 5), MatRef::strided(&x, 4, 3, 6), &packed, Write::Set);
        for r in 0..4 {
            let at = (r * 6) as f64;
            assert_eq!(out[r * 5], at * 0.0 + (at + 1.0) * 1.0 + (at + 2.0) * 2.0);
            assert_eq!(out[r * 5 + 1], at * 3.0 + (at + 1.0) * 4.0 + (at + 2.0) * 5.0);
            assert_eq!(out[r * 5 + 2], -1.0, "elements between the rows stay untouched");
        }
    }
}
