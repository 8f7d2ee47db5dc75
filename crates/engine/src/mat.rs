//! Row-major matrices that own their numbers.

use crate::number::Number;
use lorascope_kernels::{MatMut, MatRef};
use rayon::prelude::*;
use std::ops::Range;

/// Rows that a parallel task takes at least; below this, threads cost more than they save.
const ROWS_PER_TASK: usize = 8;

/// A row-major matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mat<R> {
    /// `rows × cols` numbers, row by row.
    pub data: Vec<R>,
    /// Number of rows.
    pub rows: usize,
    /// Length of a row.
    pub cols: usize,
}

impl<R: Number> Mat<R> {
    /// All zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { data: vec![R::ZERO; rows * cols], rows, cols }
    }
    /// Row `i`.
    pub fn row(&self, i: usize) -> &[R] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }
    /// Row `i`, writable.
    pub fn row_mut(&mut self, i: usize) -> &mut [R] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }
    /// The whole matrix for a kernel.
    pub fn view(&self) -> MatRef<'_, R> {
        MatRef::new(&self.data, self.rows, self.cols)
    }
    /// Some rows for a kernel.
    pub fn rows_view(&self, rows: std::ops::Range<usize>) -> MatRef<'_, R> {
        MatRef::new(&self.data[rows.start * self.cols..rows.end * self.cols], rows.len(), self.cols)
    }
    /// The whole matrix for a kernel to write.
    pub fn view_mut(&mut self) -> MatMut<'_, R> {
        MatMut::new(&mut self.data, self.rows, self.cols)
    }
    /// Some rows for a kernel to write.
    pub fn rows_view_mut(&mut self, rows: std::ops::Range<usize>) -> MatMut<'_, R> {
        let (cols, n) = (self.cols, rows.len());
        MatMut::new(&mut self.data[rows.start * cols..rows.end * cols], n, cols)
    }
    /// Copies of some rows, in the order given.
    pub fn gather(&self, rows: &[usize]) -> Self {
        self.parts(rows.iter().copied(), 0..self.cols)
    }
    /// Calls `f(i, row)` for every row, in parallel where it pays.
    pub fn for_rows(&mut self, f: impl Fn(usize, &mut [R]) + Sync + Send) {
        let cols = self.cols.max(1);
        self.data
            .par_chunks_exact_mut(cols)
            .with_min_len(ROWS_PER_TASK)
            .enumerate()
            .for_each(|(i, row)| f(i, row));
    }
    /// The same columns of some rows, one after the other.
    pub(crate) fn parts(&self, rows: impl Iterator<Item = usize>, columns: Range<usize>) -> Self {
        let mut data = Vec::with_capacity(rows.size_hint().0 * columns.len());
        let mut n = 0;
        for row in rows {
            data.extend_from_slice(&self.row(row)[columns.clone()]);
            n += 1;
        }
        Mat { data, rows: n, cols: columns.len() }
    }
    /// The same numbers in other rows.
    pub(crate) fn shaped(self, rows: usize, cols: usize) -> Self {
        debug_assert_eq!(self.data.len(), rows * cols);
        Mat { rows, cols, ..self }
    }
    /// `self += other`.
    pub fn add(&mut self, other: &Self) {
        self.for_rows(|i, row| lorascope_kernels::add_assign(row, other.row(i)));
    }
}
