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

use crate::Real;
use rayon::prelude::*;

/// Outputs in a panel.
pub const PANEL: usize = 16;
/// Inner indices per block: a panel's block (16 KiB in f32) stays in the first-level cache.
const BLOCK_K: usize = 256;
/// Inner indices per running sum; sums of this length are then added up, so that rounding errors grow with the number
/// of sums instead of the number of products.
const PARTIAL_K: usize = 32;
/// Rows per task: their block of activations stays in the second-level cache.
const BLOCK_ROWS: usize = 96;
/// Bytes of panels per task: they stay in the last-level cache while one row block after another passes, so that a
/// large matrix is read from memory once instead of once per row block.
const GROUP_BYTES: usize = 1 << 20;

/// A weight matrix `[n_out, n_in]` in panels.
#[derive(Clone, Debug)]
pub struct Packed<R> {
    n_out: usize,
    n_in: usize,
    /// `[panel][k][PANEL]`, the last panel padded with zeros.
    panels: Vec<R>,
}

impl<R: Real> Packed<R> {
    /// Room for an `[n_out, n_in]` matrix, all zeros.
    pub fn zeros(n_out: usize, n_in: usize) -> Self {
        Self { n_out, n_in, panels: vec![R::ZERO; n_out.div_ceil(PANEL) * PANEL * n_in] }
    }

    /// Packs a matrix whose rows are outputs: `w[o][k]` (the layout of a linear map in a checkpoint).
    pub fn from_output_rows(w: MatRef<R>) -> Self {
        let mut packed = Self::zeros(w.rows, w.cols);
        packed.fill_output_rows(w);
        packed
    }

    /// Packs a matrix whose rows are inputs: `w[k][o]` (the layout of values in attention, and of GPT-2's weights).
    pub fn from_input_rows(w: MatRef<R>) -> Self {
        let mut packed = Self::zeros(w.cols, w.rows);
        for (p, panel) in packed.panels.chunks_exact_mut(PANEL * w.rows.max(1)).enumerate() {
            let first = p * PANEL;
            let width = PANEL.min(w.cols - first);
            for (k, lane) in panel.chunks_exact_mut(PANEL).enumerate() {
                lane[..width].copy_from_slice(&w.row(k)[first..first + width]);
            }
        }
        packed
    }

    /// Overwrites the matrix from rows that are outputs; see [`Packed::from_output_rows`].
    pub fn fill_output_rows(&mut self, w: MatRef<R>) {
        assert_eq!((w.rows, w.cols), (self.n_out, self.n_in), "shape of the matrix to pack");
        for (p, panel) in self.panels.chunks_exact_mut(PANEL * w.cols.max(1)).enumerate() {
            let first = p * PANEL;
            for o in first..w.rows.min(first + PANEL) {
                let row = w.row(o);
                for (lane, &value) in panel.chunks_exact_mut(PANEL).zip(row) {
                    lane[o - first] = value;
                }
            }
        }
    }

    /// Packs rows `o..` that `fill(rows, buffer)` widens from their stored type, in parallel, panel by panel: no
    /// widened copy of the whole matrix ever exists.
    pub fn from_stored<E: Send>(
        n_out: usize,
        n_in: usize,
        fill: impl Fn(std::ops::Range<usize>, &mut [R]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let mut packed = Self::zeros(n_out, n_in);
        packed.panels.par_chunks_exact_mut(PANEL * n_in.max(1)).enumerate().try_for_each_init(
            || vec![R::ZERO; PANEL * n_in],
            |buffer, (p, panel)| {
                let first = p * PANEL;
                let width = PANEL.min(n_out - first);
                fill(first..first + width, &mut buffer[..width * n_in])?;
                for (k, lane) in panel.chunks_exact_mut(PANEL).enumerate() {
                    for (o, value) in lane[..width].iter_mut().enumerate() {
                        *value = buffer[o * n_in + k];
                    }
                }
                Ok(())
            },
        )?;
        Ok(packed)
    }

    /// Number of outputs.
    pub fn n_out(&self) -> usize {
        self.n_out
    }
    /// Number of inputs.
    pub fn n_in(&self) -> usize {
        self.n_in
    }
    /// Bytes that the panels take.
    pub fn n_bytes(&self) -> usize {
        std::mem::size_of_val(self.panels.as_slice())
    }
    /// One weight; slow, for checks.
    pub fn at(&self, output: usize, input: usize) -> R {
        self.panels[(output / PANEL * self.n_in + input) * PANEL + output % PANEL]
    }
}

/// A row-major matrix that is only read; rows may lie further apart than they are long.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, R> MatRef<'a, R> {
    /// `rows × cols` without gaps. Panics when the slice has another length.
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} x {cols} matrix");
        Self { data, rows, cols, stride: cols }
    }
    /// `rows × cols` with row starts `stride` apart. Panics when the slice is too short.
    pub fn strided(data: &'a [R], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "strided matrix within its slice");
        Self { data, rows, cols, stride }
    }
    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [R] {
        &self.data[i * self.stride..i * self.stride + self.cols]
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Length of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A row-major matrix that is written; rows may lie further apart than they are long.
#[derive(Debug)]
pub struct MatMut<'a, R> {
    data: &'a mut [R],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, R> MatMut<'a, R> {
    /// `rows × cols` without gaps. Panics when the slice has another length.
    pub fn new(data: &'a mut [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} x {cols} matrix");
        Self { data, rows, cols, stride: cols }
    }
    /// `rows × cols` with row starts `stride` apart. Panics when the slice is too short.
    pub fn strided(data: &'a mut [R], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "strided matrix within its slice");
        assert!(cols <= stride || rows <= 1, "rows of an output matrix must not overlap");
        Self { data, rows, cols, stride }
    }
}

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
    assert_eq!(x.cols, w.n_in, "inner dimension");
    assert_eq!((out.rows, out.cols), (x.rows, w.n_out), "shape of the output");
    if x.rows == 0 || w.n_out == 0 {
        return;
    }
    let n_panels = w.n_out.div_ceil(PANEL);
    let stride = out.stride;
    let target = OutPtr(out.data.as_mut_ptr());
    let row_blocks = x.rows.div_ceil(BLOCK_ROWS);
    let threads = rayon::current_num_threads();
    // Each task is a rectangle of (panel group, row block). Tasks with the same panels follow one another; groups are
    // small enough for the cache and to balance the threads.
    let by_bytes = size_of_val(w.panels.as_slice()).div_ceil(GROUP_BYTES);
    let groups = (4 * threads).div_ceil(row_blocks).max(by_bytes).clamp(1, n_panels);
    let task = |t: usize| {
        let (g, b) = (t / row_blocks, t % row_blocks);
        let rows = b * BLOCK_ROWS..x.rows.min((b + 1) * BLOCK_ROWS);
        let panels = g * n_panels / groups..(g + 1) * n_panels / groups;
        let target = &target;
        block::<R>(target.0, stride, x, w, rows, panels, write);
    };
    if threads == 1 || 2 * x.rows * w.n_in * w.n_out < 1 << 19 {
        (0..row_blocks * groups).for_each(task);
    } else {
        (0..row_blocks * groups).into_par_iter().for_each(task);
    }
}

vectorised! {
    /// One rectangle of the product. `out` points at the whole output matrix; the caller guarantees that the
    /// rectangle lies inside it and that nobody else writes there meanwhile.
    fn block<R: Real>(
        out: *mut R,
        stride: usize,
        x: MatRef<R>,
        w: &Packed<R>,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        write: Write<R>,
    ) {
        let mut k0 = 0;
        loop {
            let k1 = w.n_in.min(k0 + BLOCK_K);
            // Later blocks of the inner dimension add to what the first one wrote.
            let write = match write {
                Write::Set if k0 > 0 => Write::AddScaled(R::ONE),
                other => other,
            };
            for p in panels.clone() {
                let panel = &w.panels[(p * w.n_in + k0) * PANEL..(p * w.n_in + k1) * PANEL];
                let width = PANEL.min(w.n_out - p * PANEL);
                let mut row = rows.start;
                while row < rows.end {
                    let n = R::TILE_ROWS.min(rows.end - row);
                    // SAFETY: `row + n <= rows.end <= out.rows` and `p * PANEL + width <= n_out`, so the tile
                    // lies inside the output matrix, and no other task has these rows and panels.
                    unsafe {
                        let corner = out.add(row * stride + p * PANEL);
                        match n {
                            6 => tile::<R, 6>(corner, stride, x, row, k0..k1, panel, width, write),
                            5 => tile::<R, 5>(corner, stride, x, row, k0..k1, panel, width, write),
                            4 => tile::<R, 4>(corner, stride, x, row, k0..k1, panel, width, write),
                            3 => tile::<R, 3>(corner, stride, x, row, k0..k1, panel, width, write),
                            2 => tile::<R, 2>(corner, stride, x, row, k0..k1, panel, width, write),
                            _ => tile::<R, 1>(corner, stride, x, row, k0..k1, panel, width, write),
                        }
                    }
                    row += n;
                }
            }
            k0 = k1;
            if k0 >= w.n_in {
                break;
            }
        }
    }
}

/// `ROWS × PANEL` outputs: accumulators stay in registers over one block of the inner dimension.
///
/// # Safety
/// `corner` must point at `ROWS` rows, `stride` apart, of at least `width` writable elements.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<R: Real, const ROWS: usize>(
    corner: *mut R,
    stride: usize,
    x: MatRef<R>,
    row: usize,
    k: std::ops::Range<usize>,
    panel: &[R],
    width: usize,
    write: Write<R>,
) {
    let n_k = k.len();
    let inputs: [&[R]; ROWS] = std::array::from_fn(|i| &x.row(row + i)[k.start..k.start + n_k]);
    let mut total = [[R::ZERO; PANEL]; ROWS];
    let lanes = panel.as_chunks::<PANEL>().0;
    let mut k = 0;
    for part in lanes[..n_k].chunks(PARTIAL_K) {
        let mut acc = [[R::ZERO; PANEL]; ROWS];
        for lane in part {
            for (sums, input) in acc.iter_mut().zip(&inputs) {
                // SAFETY: every slice of `inputs` has `n_k` elements, and `k < n_k`.
                let a = unsafe { *input.get_unchecked(k) };
                *sums = std::array::from_fn(|j| a.mul_add(lane[j], sums[j]));
            }
            k += 1;
        }
        for (t, a) in total.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
            *t += *a;
        }
    }
    for (i, sums) in total.iter().enumerate() {
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(corner.add(i * stride), width) };
        match write {
            Write::Set => out.copy_from_slice(&sums[..width]),
            Write::AddScaled(s) => {
                for (o, &v) in out.iter_mut().zip(sums) {
                    *o = s.mul_add(v, *o);
                }
            }
        }
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

    #[test]
    fn both_layouts_and_the_stored_form_pack_alike() {
        let (n_out, n_in) = (37, 21);
        let w = noise(n_out * n_in, 9);
        let transposed: Vec<f32> = (0..n_in * n_out).map(|i| w[(i % n_out) * n_in + i / n_out]).collect();
        let a = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
        let b = Packed::from_input_rows(MatRef::new(&transposed, n_in, n_out));
        let c = Packed::from_stored(n_out, n_in, |rows, out: &mut [f32]| {
            out.copy_from_slice(&w[rows.start * n_in..rows.end * n_in]);
            Ok::<(), ()>(())
        });
        assert_eq!(a.panels, b.panels);
        assert_eq!(Ok(a.panels), c.map(|c| c.panels));
        assert_eq!(b.at(36, 20), w[36 * n_in + 20]);
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
