//! The inner loops of the matrix product: a rectangle of the output, tile by tile. Says nothing about threads.
//!
//! The compiler is to keep every `[R; PANEL]` of sums in one or two vector registers. It does where lanes are combined
//! by `array::from_fn`, a function of its own that is unrolled before the loops around it are looked at; with a plain
//! loop in its place sums go through memory, and the product takes twenty times as long. After a change here, or with another
//! compiler, look at the speed (`examples/matmul_speed.rs`) at every number of rows from 1 to 12.

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
    /// Outputs of the whole matrix.
    pub n_out: usize,
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

/// How the rows of a rectangle are shared out among tiles.
#[derive(Clone, Copy)]
struct Plan {
    /// Vector registers that a row of a panel takes.
    per_row: usize,
    n_tiles: usize,
    /// Panels that a tile takes at once, where there are so many.
    at_once: usize,
}

#[inline(always)]
fn plan<R, const WIDE: bool>(n_rows: usize) -> Plan {
    let per_row = PANEL * size_of::<R>() / if WIDE { 64 } else { 32 };
    // Few rows take low tiles over several panels: the weights come from memory, and several streams of them come
    // faster than one. Many rows take high tiles, which keep one panel in the first-level cache.
    let several = WIDE && n_rows <= FEW_ROWS;
    let at_most = ACCUMULATORS / per_row / if several { 2 } else { 1 };
    // Tiles of equal height (but for one row), lest a low last one leave the arithmetic units waiting.
    let n_tiles = n_rows.div_ceil(at_most);
    let height = n_rows.div_ceil(n_tiles);
    // The sixteen registers without AVX-512 have no room for several panels beside the sums of three rows.
    let room = if WIDE || height <= 2 { ACCUMULATORS / per_row / height } else { 1 };
    let at_once = match room {
        4.. => 4,
        2.. => 2,
        _ => 1,
    };
    Plan { per_row, n_tiles, at_once }
}

/// One rectangle of the product with the inputs of `w` from `first` on, as many as `x` has columns. The caller
/// guarantees that the rectangle lies inside the output matrix, that nobody else writes there meanwhile, and that
/// `w` has these inputs and panels.
pub(crate) fn block<R: Real>(to: Rectangle<R>, x: MatRef<R>, w: &Packed<R>, first: usize) {
    for k in blocks(x.cols) {
        let lanes = &w.panels[to.panels.start * w.n_in() + first + k.start..to.panels.end * w.n_in()];
        strip(&to, to.panels.clone(), x, k, lanes, w.n_in());
    }
}

/// One rectangle of the product with the transpose of `w`: its panels are made from those of `w`, a block of the
/// inner dimension (here: outputs of `w`) at a time, and serve all rows. The caller guarantees what it does for [`block`].
pub(crate) fn block_transposed<R: Real>(to: Rectangle<R>, dy: MatRef<R>, w: &Packed<R>) {
    let mut turned = vec![Lane([R::ZERO; PANEL]); TURNED * BLOCK_K];
    let mut p = to.panels.start;
    while p < to.panels.end {
        let panels = p..to.panels.end.min(p + TURNED);
        for o in blocks(dy.cols) {
            for (panel, turned) in panels.clone().zip(turned.chunks_exact_mut(BLOCK_K)) {
                turn_panel(w, panel, &mut turned[..o.len()], o.start);
            }
            strip(&to, panels.clone(), dy, o, &turned, BLOCK_K);
        }
        p = panels.end;
    }
}

/// Panels of the transpose that are made at a time: what low tiles take at once.
pub(crate) const TURNED: usize = 4;

vectorised! {
    /// Panel `panel` of the transpose of `w`, from output `first` on.
    fn turn_panel<R: Real>(w: &Packed<R>, panel: usize, turned: &mut [Lane<R>], first: usize) {
        let inputs = panel * PANEL..w.n_in().min((panel + 1) * PANEL);
        for (q, turned) in (first / PANEL..).zip(turned.chunks_mut(PANEL)) {
            turn(&w.panels[q * w.n_in()..][inputs.clone()], turned);
        }
    }
}

/// `to[j][k] = from[k][j]`; what `from` lacks becomes 0.
#[inline(always)]
fn turn<R: Real>(from: &[Lane<R>], to: &mut [Lane<R>]) {
    match (from.as_array::<PANEL>(), to.as_mut_array::<PANEL>()) {
        (Some(from), Some(to)) => {
            for j in (0..PANEL).step_by(4) {
                for k in (0..PANEL).step_by(4) {
                    turn_four(from, to, k, j);
                }
            }
        }
        (_, None) | (None, _) => {
            for (j, Lane(to)) in to.iter_mut().enumerate() {
                to.fill(R::ZERO);
                for (to, Lane(from)) in to.iter_mut().zip(from) {
                    *to = from[j];
                }
            }
        }
    }
}

/// [`turn`] for a square of four, by interleaving twice: written element by element it becomes scattered stores,
/// several times slower.
#[inline(always)]
fn turn_four<R: Real>(from: &[Lane<R>; PANEL], to: &mut [Lane<R>; PANEL], k: usize, j: usize) {
    let row = |i: usize| {
        let Lane(row) = &from[k + i];
        [row[j], row[j + 1], row[j + 2], row[j + 3]]
    };
    let (even_low, even_high) = interleave(row(0), row(2));
    let (odd_low, odd_high) = interleave(row(1), row(3));
    let (first, second) = interleave(even_low, odd_low);
    let (third, fourth) = interleave(even_high, odd_high);
    for (l, column) in [first, second, third, fourth].into_iter().enumerate() {
        to[j + l].0[k..k + 4].copy_from_slice(&column);
    }
}

#[inline(always)]
fn interleave<R: Real>(a: [R; 4], b: [R; 4]) -> ([R; 4], [R; 4]) {
    ([a[0], b[0], a[1], b[1]], [a[2], b[2], a[3], b[3]])
}

/// The blocks of an inner dimension; one that is empty has one empty block, which writes zeros.
fn blocks(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n.max(1)).step_by(BLOCK_K).map(move |k| k..n.min(k + BLOCK_K))
}

vectorised! {
    /// One block of the inner dimension, `k`, for the given panels of a rectangle, `panel_stride` lanes apart. The
    /// caller guarantees that the rectangle lies inside the output matrix and that nobody else writes there meanwhile.
    fn strip<R: Real, isa WIDE>(
        to: &Rectangle<R>,
        panels: Range<usize>,
        x: MatRef<R>,
        k: Range<usize>,
        lanes: &[Lane<R>],
        panel_stride: usize,
    ) {
        let n_rows = to.rows.len();
        let Plan { per_row, n_tiles, at_once } = plan::<R, WIDE>(n_rows);
        // Later blocks of the inner dimension add to what the first one wrote.
        let write = match to.write {
            Write::Set if k.start > 0 => Write::AddScaled(R::ONE),
            other => other,
        };
        assert!(lanes.len() >= (panels.len() - 1) * panel_stride + k.len(), "lanes of all panels");
        let mut p = panels.start;
        while p < panels.end {
            let at_once = if panels.end - p >= at_once { at_once } else { 1 };
            let width = (at_once * PANEL).min(to.n_out - p * PANEL);
            for t in 0..n_tiles {
                let row = to.rows.start + t * n_rows / n_tiles;
                let end = to.rows.start + (t + 1) * n_rows / n_tiles;
                // SAFETY: `end <= rows.end <= out.rows` and `p * PANEL + width <= n_out`, so the tile lies inside
                // the output matrix, and no other task has these rows and panels. `x` has the rows below `end` and the
                // columns `k`, and `lanes` the panels `p..p + at_once`.
                unsafe {
                    let tile = Tile {
                        out: to.out.add(row * to.stride + p * PANEL),
                        out_stride: to.stride,
                        width,
                        write,
                        x: x.data.as_ptr().add(row * x.stride + k.start),
                        x_stride: x.stride,
                        panels: lanes.as_ptr().add((p - panels.start) * panel_stride),
                        panel_stride,
                        n_k: k.len(),
                    };
                    match at_once {
                        4 => by_height!(tile, end - row, per_row, 4: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0),
                        2 => by_height!(tile, end - row, per_row, 2: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0, 4 = 4 + 0,
                            5 = 5 + 0, 6 = 6 + 0),
                        _ => by_height!(tile, end - row, per_row, 1: 1 = 1 + 0, 2 = 2 + 0, 3 = 3 + 0, 4 = 4 + 0,
                            5 = 5 + 0, 6 = 6 + 0, 7 = 7 + 0, 8 = 5 + 3, 9 = 9 + 0, 10 = 10 + 0, 11 = 11 + 0,
                            12 = 12 + 0),
                    }
                }
            }
            p += at_once;
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
