//! The inner loops of the matrix product: a rectangle of the output, tile by tile. Says nothing about threads.

use crate::matmul::{BLOCK_K, PARTIAL_K};
use crate::packed::{Lane, PANEL};
use crate::{MatRef, Packed, Real, Write};
use std::ops::Range;

/// Vector registers that hold a tile's running sums. Twelve are enough to keep two multiply-add units busy
/// (latency 4 or 5, two at a time) with few loads for each, and leave AVX2 four of its sixteen for operands.
const ACCUMULATORS: usize = 12;

/// Rows up to which the weights' way from memory counts for more than the arithmetic.
const FEW_ROWS: usize = 48;

/// A part of the output matrix: rows times panels.
pub(crate) struct Rectangle<R> {
    /// First element of the whole matrix.
    pub out: *mut R,
    /// Distance of its rows.
    pub stride: usize,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
    pub write: Write<R>,
}

/// Calls the tile of the given height. Heights that this instruction set has no registers for are compiled away.
macro_rules! by_height {
    ($tile:expr, $rows:expr, $per_row:expr, $p:literal: $($rows_of:literal = $a:literal + $b:literal),*) => {
        match $rows {
            $($rows_of if $rows_of * $p * $per_row <= ACCUMULATORS => $tile.compute::<$a, $b, $p>(),)*
            other => unreachable!("a tile of {other} rows and {} panels", $p),
        }
    };
}

vectorised! {
    /// One rectangle of the product with the inputs of `w` from `first` on, as many as `x` has columns. The caller
    /// guarantees that the rectangle lies inside the output matrix, that nobody else writes there meanwhile,
    /// and that `w` has these inputs and panels.
    pub(crate) fn block<R: Real, isa WIDE>(to: Rectangle<R>, x: MatRef<R>, w: &Packed<R>, first: usize) {
        // Vector registers that a row of a panel takes.
        let per_row = PANEL * size_of::<R>() / if WIDE { 64 } else { 32 };
        let n_rows = to.rows.len();
        // Few rows take low tiles over several panels: the weights come from memory, and several streams of
        // them come faster than one. Many rows take high tiles, which keep one panel in the first-level cache.
        let several = n_rows <= FEW_ROWS && per_row <= 2;
        let at_most = ACCUMULATORS / per_row / if several { 2 } else { 1 };
        // Tiles of equal height (but for one row), lest a low last one leave the arithmetic units waiting.
        let n_tiles = n_rows.div_ceil(at_most);
        let height = n_rows.div_ceil(n_tiles);
        let mut k0 = 0;
        loop {
            let k1 = x.cols.min(k0 + BLOCK_K);
            // Later blocks of the inner dimension add to what the first one wrote.
            let write = match to.write {
                Write::Set if k0 > 0 => Write::AddScaled(R::ONE),
                other => other,
            };
            let mut p = to.panels.start;
            while p < to.panels.end {
                let left = to.panels.end - p;
                let at_once = match ACCUMULATORS / per_row / height {
                    4.. if left >= 4 => 4,
                    2.. if left >= 2 => 2,
                    _ => 1,
                };
                let panels = &w.panels[p * w.n_in() + first + k0..(p + at_once) * w.n_in()];
                let width = (at_once * PANEL).min(w.n_out() - p * PANEL);
                for t in 0..n_tiles {
                    let row = to.rows.start + t * n_rows / n_tiles;
                    let end = to.rows.start + (t + 1) * n_rows / n_tiles;
                    // SAFETY: `end <= rows.end <= out.rows` and `p * PANEL + width <= n_out`, so the tile
                    // lies inside the output matrix, and no other task has these rows and panels. `x` has
                    // the rows below `end` and `panels` the panels `p..p + at_once`, both the inner indices `k0..k1`.
                    unsafe {
                        let corner = to.out.add(row * to.stride + p * PANEL);
                        let at = Tile {
                            out: corner, out_stride: to.stride, width, write,
                            x: x.data.as_ptr().add(row * x.stride + k0), x_stride: x.stride,
                            panels: panels.as_ptr(), panel_stride: w.n_in(), n_k: k1 - k0,
                        };
                        match at_once {
                            4 => by_height!(at, end - row, per_row, 4: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0),
                            2 => by_height!(at, end - row, per_row, 2: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0,
                                4 = 4 + 0, 5 = 5 + 0, 6 = 6 + 0),
                            _ => by_height!(at, end - row, per_row, 1: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0,
                                4 = 4 + 0, 5 = 5 + 0, 6 = 6 + 0, 7 = 7 + 0, 8 = 5 + 3, 9 = 9 + 0,
                                10 = 10 + 0, 11 = 11 + 0, 12 = 12 + 0),
                        }
                    }
                }
                p += at_once;
            }
            k0 = k1;
            if k0 >= x.cols {
                break;
            }
        }
    }
}

/// Outputs that are computed together, their running sums in registers over one block of the inner dimension.
struct Tile<R> {
    out: *mut R,
    out_stride: usize,
    /// Outputs in a row; the last panel may be padded.
    width: usize,
    write: Write<R>,
    x: *const R,
    x_stride: usize,
    panels: *const Lane<R>,
    /// Distance of the panels, in rows of a panel.
    panel_stride: usize,
    n_k: usize,
}

impl<R: Real> Tile<R> {
    /// `A + B` rows times `P` panels. The rows are counted in two parts because the compiler takes eight equal ones
    /// for the lanes of a vector, and gathers; in two parts it leaves them rows.
    ///
    /// # Safety
    /// `out` and `x` must point at `A + B` rows, so far apart as they say, of `width` writable and `n_k`
    /// readable elements, and `panels` at `P` panels of `n_k` rows.
    #[inline(always)]
    unsafe fn compute<const A: usize, const B: usize, const P: usize>(&self) {
        let mut upper_total = [[[R::ZERO; PANEL]; P]; A];
        let mut lower_total = [[[R::ZERO; PANEL]; P]; B];
        let mut k = 0;
        while k < self.n_k {
            let mut upper = [[[R::ZERO; PANEL]; P]; A];
            let mut lower = [[[R::ZERO; PANEL]; P]; B];
            let end = self.n_k.min(k + PARTIAL_K);
            while k < end {
                // SAFETY: `k < n_k`, and the caller's promise about `x` and `panels`.
                unsafe {
                    let x = self.x.add(k);
                    let panels = self.panels.add(k);
                    self.step(&mut upper, x, panels);
                    self.step(&mut lower, x.add(A * self.x_stride), panels);
                }
                k += 1;
            }
            add(&mut upper_total, &upper);
            add(&mut lower_total, &lower);
        }
        // SAFETY: the caller's promise about `out`.
        unsafe {
            self.store(self.out, &upper_total);
            self.store(self.out.add(A * self.out_stride), &lower_total);
        }
    }

    /// Adds the products of one inner index: `x` points at it in the first row, `panels` in the first panel.
    ///
    /// # Safety
    /// As for [`Tile::compute`].
    #[inline(always)]
    unsafe fn step<const ROWS: usize, const P: usize>(
        &self,
        sums: &mut [[[R; PANEL]; P]; ROWS],
        x: *const R,
        panels: *const Lane<R>,
    ) {
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let a = unsafe { *x.add(i * self.x_stride) };
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let Lane(lane) = unsafe { &*panels.add(p * self.panel_stride) };
                *sums = std::array::from_fn(|j| a.mul_add(lane[j], sums[j]));
            }
        }
    }

    /// Writes rows of sums.
    ///
    /// # Safety
    /// As for [`Tile::compute`]; `out` points at the first of these rows.
    #[inline(always)]
    unsafe fn store<const ROWS: usize, const P: usize>(&self, out: *mut R, sums: &[[[R; PANEL]; P]; ROWS]) {
        if self.width == P * PANEL {
            for (i, sums) in sums.iter().enumerate() {
                for (p, sums) in sums.iter().enumerate() {
                    // SAFETY: the caller's promise; an array has the alignment of its elements.
                    let out = unsafe { &mut *out.add(i * self.out_stride + p * PANEL).cast::<[R; PANEL]>() };
                    match self.write {
                        Write::Set => *out = *sums,
                        Write::AddScaled(s) => *out = std::array::from_fn(|j| s.mul_add(sums[j], out[j])),
                    }
                }
            }
        } else {
            // A copy, lest the sums of whole tiles go through memory because these here are taken apart.
            let copy = *sums;
            for (i, sums) in copy.iter().enumerate() {
                // SAFETY: the caller's promise.
                let out = unsafe { std::slice::from_raw_parts_mut(out.add(i * self.out_stride), self.width) };
                for (o, &v) in out.iter_mut().zip(sums.as_flattened()) {
                    match self.write {
                        Write::Set => *o = v,
                        Write::AddScaled(s) => *o = s.mul_add(v, *o),
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add<R: Real, const ROWS: usize, const P: usize>(
    total: &mut [[[R; PANEL]; P]; ROWS],
    part: &[[[R; PANEL]; P]; ROWS],
) {
    for (total, part) in total.iter_mut().zip(part) {
        for (total, part) in total.iter_mut().zip(part) {
            *total = std::array::from_fn(|j| total[j] + part[j]);
        }
    }
}
